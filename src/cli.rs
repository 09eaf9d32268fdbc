//! The command line: what was typed, turned into what the library takes.

pub(crate) mod conversation;
pub(crate) mod load;
mod values;

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
    Answer(conversation::AnswerArguments),
    Load(load::LoadArguments),
    Say(conversation::SayArguments),
}
