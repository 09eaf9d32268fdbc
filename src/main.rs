//! The command line of haul: parse, call the library, say how it went.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => arguments.run(),
        Command::Load(arguments) => arguments.run(),
        Command::Answer(arguments) => arguments.run(),
        Command::Say(arguments) => arguments.run(),
    }
}
