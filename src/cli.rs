//! The command line: clap's types, and their way into plain values.

pub(crate) mod get;
pub(crate) mod manual;

use clap::{Parser, Subcommand};

/// Serves large files over TCP, and fetches them.
#[derive(Debug, Parser)]
#[command(name = "haul", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch files: resumed, in segments, verified
    Get(Box<get::GetArgs>),
    /// Print a shell's completions for all commands
    Completions(manual::CompletionsArgs),
    /// Print haul's manual pages, or write them into a directory
    Man(manual::ManArgs),
}
