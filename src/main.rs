//! The command line of haul: parse, call the library, say how it went.

mod cli;

use std::io;
use std::process::ExitCode;

use haul::diagnostics;

use cli::exit_status::USAGE;
use cli::{Cli, Command};

fn main() -> ExitCode {
    diagnostics::install_panic_hook();
    let status = match Cli::read() {
        Ok(cli) => run(cli.command),
        Err(error) if error.use_stderr() => {
            diagnostics::say(error.render().to_string().trim_end());
            ExitCode::from(USAGE)
        }
        Err(help) => help.exit(),
    };
    diagnostics::finish();
    status
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(arguments) => arguments.run(),
        Command::Sum(arguments) => arguments.run(),
        Command::Load(arguments) => arguments.run(),
        Command::Answer(arguments) => arguments.run(),
        Command::Say(arguments) => arguments.run(),
        Command::Get(args) => match cli::get::fetch(*args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(kind) => ExitCode::from(kind.exit_status()),
        },
        Command::Top(arguments) => printed(arguments.run()),
        Command::Launcher(arguments) => arguments.run(),
        Command::Link(arguments) => printed(arguments.run()),
        Command::Completions(args) => printed(cli::manual::completions::<Cli>(&args)),
        Command::Man(args) => printed(cli::manual::man::<Cli>(&args)),
    }
}

fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // `haul man | head` has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            diagnostics::say(format_args!("haul: {error}"));
            ExitCode::FAILURE
        }
    }
}
