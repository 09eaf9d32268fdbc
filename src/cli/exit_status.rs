//! The exit statuses of all commands; [`haul::get::ErrorKind`] has those of `haul get` alone.

/// The command line makes no sense, as clap has it too.
pub(crate) const USAGE: u8 = 2;
