//! The command line: parsing, and its translation into settings.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

mod address_family;
pub(crate) mod config_file;
pub(crate) mod exit_status;
pub(crate) mod get;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod manual;
pub(crate) mod message;
pub(crate) mod serve;
pub(crate) mod signals;
pub(crate) mod state;
pub(crate) mod sum;
pub(crate) mod tls;
pub(crate) mod top;
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

impl Cli {
    /// Reads the command line and the environment, in which an empty variable counts as unset unless
    /// everything would be open then, and a flag's value is a word for yes or no.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let is_empty =
            |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let mut command = Self::command().mut_subcommands(|command| {
            command.mut_args(
                |argument| match argument.get_env().map(|name| name.to_owned()) {
                    Some(name) if is_empty(&name) && !CLOSING.iter().any(|it| *it == name) => {
                        argument.env("").hide_env(true)
                    }
                    Some(_) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                        argument.value_parser(BoolishValueParser::new())
                    }
                    _ => argument,
                },
            )
        });
        let mut arguments: Vec<_> = std::env::args_os().collect();
        let mut matches = command.try_get_matches_from_mut(&arguments)?;
        let file = config_file(&command, &matches)?;
        if let Some(file) = &file {
            // Behind the name of the program and that of its command.
            let at = arguments.len().min(2);
            arguments.splice(at..at, file.arguments());
            matches = command
                .try_get_matches_from_mut(&arguments)
                .map_err(|error| bad_file(serve::fault(file.path(), &error)))?;
        }
        let mut cli =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let Command::Serve(arguments) = &mut cli.command {
            arguments.config_file = file;
        }
        Ok(cli)
    }
}

/// Variables that close what is open without them.
const CLOSING: [&str; 3] = ["HAUL_HTPASSWD", "HAUL_LINK_KEY", "HAUL_TLS_CLIENT_CA"];

/// The file of settings, if the command line or the environment names one.
fn config_file(
    command: &clap::Command,
    matches: &clap::ArgMatches,
) -> Result<Option<serve::ConfigFile>, clap::Error> {
    let Some(("serve", matches)) = matches.subcommand() else {
        return Ok(None);
    };
    let serve = command.find_subcommand("serve");
    let path = matches.get_one::<std::path::PathBuf>("config");
    serve
        .zip(path)
        .map(|(serve, path)| serve::ConfigFile::read(path.clone(), serve, matches))
        .transpose()
        .map_err(bad_file)
}

fn bad_file(why: String) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::InvalidValue, why)
}

/// What haul can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a directory's files to HTTP clients and to clients of the name protocol
    #[command(visible_alias = "s")]
    Serve(Box<serve::ServeArguments>),
    /// Fetch files: resumed, in segments, verified
    Get(Box<get::GetArguments>),
    /// Print or check digests of files, as sha256sum and b3sum do, in parallel
    Sum(sum::SumArguments),
    Link(link::LinkArguments),
    Load(load::LoadArguments),
    Answer(message::AnswerArguments),
    Say(message::SayArguments),
    Top(top::TopArguments),
    #[command(hide = true)]
    Launcher(serve::LauncherArguments),
    /// Print a shell's completions for all commands
    Completions(manual::CompletionsArguments),
    /// Print haul's manual pages, or write them into a directory
    Man(manual::ManArguments),
}
