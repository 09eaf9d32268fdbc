//! The command line: what was typed, and its translation into what is meant.

use clap::{Parser, Subcommand};

pub(crate) mod get;
pub(crate) mod load;
pub(crate) mod manual;
pub(crate) mod message;
pub(crate) mod serve;
pub(crate) mod signals;
pub(crate) mod values;

/// Hand out large files over TCP, and fetch them.
#[derive(Debug, Parser)]
#[command(
    name = "haul",
    version,
    about = "Hand out large files over TCP, and fetch them.",
    after_help = "Run `haul COMMAND --help` for a command's options and examples.",
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What haul can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a directory's files to HTTP clients and to clients of the name protocol
    #[command(visible_alias = "s")]
    Serve(Box<serve::ServeArguments>),
    /// Fetch files: resumed, in segments, verified
    Get(Box<get::GetArguments>),
    Load(load::LoadArguments),
    Answer(message::AnswerArguments),
    Say(message::SayArguments),
    /// Print a shell's completions for all commands
    Completions(manual::CompletionsArguments),
    /// Print haul's manual pages, or write them into a directory
    Man(manual::ManArguments),
}
