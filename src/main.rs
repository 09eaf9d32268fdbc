//! The command line of haul.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Answer(arguments) => arguments.run(),
        cli::Command::Load(arguments) => arguments.run(),
        cli::Command::Say(arguments) => arguments.run(),
    }
}
