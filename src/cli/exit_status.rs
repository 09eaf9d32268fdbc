//! The exit statuses of all commands; those that only `haul get` has are [`haul::get::ErrorKind`]'s.

/// The command line makes no sense, as clap has it too.
pub(crate) const USAGE: u8 = 2;
