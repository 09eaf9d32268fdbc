//! The exit statuses of all commands; [`haul::get::ErrorKind`] has those of `haul get` alone.

/// The command line makes no sense, as clap has it too.
pub(crate) const USAGE: u8 = 2;

/// The reader of standard output ended before the command, as if by SIGPIPE.
pub(crate) const NO_READER: u8 = 141;
