//! The command line: what was typed, turned into what the library takes.

pub(crate) mod load;

use clap::{Parser, Subcommand};

/// Serves large files over TCP, and fetches them.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a server under load and measure it.
    Load(load::LoadArguments),
}
