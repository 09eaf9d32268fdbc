//! The file of `--config` beneath the command line, and its limits, which are read again while the
//! server runs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use haul::server::config::{ConnectionLimits, Rates};

use super::limits::LimitArgs;
use crate::cli::config_file::FileOptions;

/// The file of `--config`, and what goes before it.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    command: Command,
    file: FileOptions,
    /// Options that the command line or the environment has.
    decided: Vec<String>,
    /// Those of them that are limits.
    limits: Vec<OsString>,
}

/// The result of reading a file again.
pub(super) struct Reread {
    pub(super) rates: Rates,
    pub(super) limits: ConnectionLimits,
    /// Options that have changed, and only count at the next start.
    pub(super) at_next_start: Vec<String>,
}

impl ConfigFile {
    /// Reads the file, for a command line that was parsed without it.
    ///
    /// # Errors
    /// One line with the fault of the file.
    pub(crate) fn read(
        path: PathBuf,
        command: &Command,
        matches: &ArgMatches,
    ) -> Result<Self, String> {
        let file = FileOptions::read(&path, command)?;
        let is_given = |id: &str| {
            let source = matches.value_source(id);
            matches!(
                source,
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        };
        let mut decided: Vec<String> = (command.get_arguments())
            .filter(|option| is_given(option.get_id().as_str()))
            .filter_map(|option| option.get_long().map(str::to_owned))
            .collect();
        let has_root = std::env::var_os("HAUL_ROOT").is_some_and(|root| !root.is_empty());
        if has_root || is_given("paths") {
            decided.push("root".into());
        }
        let limits = limits_command();
        let limits = limits.get_arguments().filter_map(|option| {
            let id = option.get_id().as_str();
            let value = matches.get_raw(id).filter(|_| is_given(id))?.next()?;
            let mut argument = OsString::from(format!("--{}=", option.get_long()?));
            argument.push(value);
            Some(argument)
        });
        Ok(Self {
            command: command.clone(),
            file,
            decided,
            limits: limits.collect(),
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.file.path
    }

    /// The file's options, as arguments.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        self.file.arguments(|name| self.is_decided(name))
    }

    /// Reads the file again, for a server with so many open files and workers. Only limits are
    /// parsed: paths in other options may be out of a sandbox's reach.
    ///
    /// # Errors
    /// One line with the fault of the file.
    pub(super) fn reread(&self, open_files: u64, workers: usize) -> Result<Reread, String> {
        let file = FileOptions::read(&self.file.path, &self.command)?;
        let is_limit = |name: &str| {
            let limits = limits_command();
            limits.get_arguments().any(|it| it.get_long() == Some(name))
        };
        let found = file.arguments(|name| !is_limit(name) || self.is_decided(name));
        let matches = limits_command().try_get_matches_from(self.limits.iter().chain(&found));
        let parsed = matches.and_then(|matches| LimitArgs::from_arg_matches(&matches));
        let parsed = parsed.map_err(|error| fault(&self.file.path, &error))?;
        let changed = file.difference(&self.file).into_iter();
        let changed = changed.filter(|name| !is_limit(name) && !self.is_decided(name));
        Ok(Reread {
            rates: parsed.rates(),
            limits: parsed.connection_limits(open_files, workers),
            at_next_start: changed.map(|name| format!("`{name}`")).collect(),
        })
    }

    fn is_decided(&self, name: &str) -> bool {
        self.decided.iter().any(|decided| decided == name)
    }
}

/// Clap's error about the options of a file, in one line.
pub(crate) fn fault(path: &std::path::Path, error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.lines().take_while(|line| !line.is_empty());
    let text: Vec<_> = text.map(str::trim).collect();
    let text = text.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    format!("{}: {text}", path.display())
}

/// The limits alone; the environment's are among the arguments.
fn limits_command() -> Command {
    let command = LimitArgs::augment_args(Command::new("limits").no_binary_name(true));
    command.mut_args(|argument| argument.env(None::<&str>))
}
