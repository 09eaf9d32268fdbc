//! Options from a file in TOML, named as on the command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::{Spanned, Value};

use haul::internals::read_text_bounded;

/// The options of a file that was read, each with its values as the command line takes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileOptions {
    pub(crate) path: PathBuf,
    options: BTreeMap<String, Vec<String>>,
}

impl FileOptions {
    /// Reads the file. Whether options are those of `command` is looked at, their values are not:
    /// that is the command line's to do.
    ///
    /// # Errors
    /// One line: the file, the fault and its place.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Self, String> {
        let name = path.display();
        let text = read_text_bounded(path, MAX_FILE_BYTES)
            .map_err(|error| format!("cannot read {name}: {error}; see --config"))?;
        let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let parsed: BTreeMap<Spanned<String>, Value> = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            format!("{name}:{}: {message}", line(at))
        })?;
        let mut options = BTreeMap::new();
        for (key, value) in parsed {
            let at = line(key.span().start);
            let key = key.into_inner();
            let (option, values) =
                read_option(command, &key, value).map_err(|why| format!("{name}:{at}: {why}"))?;
            if options.insert(option.clone(), values).is_some() {
                return Err(format!("{name}:{at}: `{option}` is there by two names"));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            options,
        })
    }

    /// The options as arguments, but for those that `is_left_out` names.
    pub(crate) fn arguments(&self, is_left_out: impl Fn(&str) -> bool) -> Vec<OsString> {
        let options = self.options.iter().filter(|(name, _)| !is_left_out(name));
        let arguments = options.flat_map(|(name, values)| {
            values.iter().map(move |value| match value.as_str() {
                FLAG => format!("--{name}").into(),
                value => format!("--{name}={value}").into(),
            })
        });
        arguments.collect()
    }

    /// The options whose values differ.
    pub(crate) fn difference<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let mut names: Vec<&str> = (self.options.keys().chain(other.options.keys()))
            .map(String::as_str)
            .filter(|name| self.options.get(*name) != other.options.get(*name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The option of this name, and its values.
fn read_option(
    command: &Command,
    key: &str,
    value: Value,
) -> Result<(String, Vec<String>), String> {
    let options = || {
        let options = command.get_arguments();
        options.filter(|it| !NOT_OF_A_FILE.contains(&it.get_id().as_str()))
    };
    let has_name = |option: &&Arg| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        option.get_long() == Some(key) || aliases.contains(&key)
    };
    let Some(option) = options().find(has_name) else {
        let names = options().filter_map(Arg::get_long);
        let nearest = names.max_by(|one, other| {
            let likeness = |name| strsim::jaro_winkler(key, name);
            likeness(one).total_cmp(&likeness(other))
        });
        let nearest = nearest.unwrap_or_default();
        return Err(format!(
            "there is no option `{key}`; the nearest is `{nearest}`"
        ));
    };
    let name = option.get_long().unwrap_or(key).to_owned();
    let values = match (option.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(true)) => vec![FLAG.to_owned()],
        (ArgAction::SetTrue, Value::Boolean(false)) => Vec::new(),
        (ArgAction::SetTrue, _) => return Err(format!("`{key}` is true or false")),
        (ArgAction::Append, Value::Array(values)) => {
            let values = values.into_iter().map(|value| scalar(key, value));
            values.collect::<Result<_, _>>()?
        }
        (_, Value::Array(_)) => return Err(format!("`{key}` takes one value, not a list")),
        (_, value) => vec![scalar(key, value)?],
    };
    Ok((name, values))
}

fn scalar(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Table(_) => Err(format!("`{key}` is a table; options have no sections")),
        Value::Boolean(_) | Value::Array(_) | Value::Datetime(_) => {
            Err(format!("`{key}` takes a text or a number"))
        }
    }
}

/// Stands for an option that takes no value; no text of a file has it.
const FLAG: &str = "\0";

/// Thousands of values; all options with one each have some 5 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Options that are of the command line alone.
const NOT_OF_A_FILE: [&str; 4] = ["config", "check", "help", "version"];

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("test").args([
            Arg::new("rate").long("rate"),
            Arg::new("drain").long("drain-timeout").alias("grace"),
            Arg::new("listen").long("listen").action(ArgAction::Append),
            Arg::new("cors").long("cors").action(ArgAction::SetTrue),
        ])
    }

    fn read(text: &str) -> Result<FileOptions, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let path = file.path().display().to_string();
        FileOptions::read(file.path(), &command()).map_err(|why| why.replace(&path, "F"))
    }

    #[test]
    fn options_become_arguments() {
        let text = "rate = 5\ngrace = '1m'\nlisten = ['80', '[::1]:80']\ncors = true\n";
        let arguments = read(text).expect("good").arguments(|name| name == "rate");
        let expected = [
            "--cors",
            "--drain-timeout=1m",
            "--listen=80",
            "--listen=[::1]:80",
        ];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn what_is_wrong_is_one_line_that_says_where() {
        let cases = [
            (
                "\nraet = 5",
                "F:2: there is no option `raet`; the nearest is `rate`",
            ),
            ("\n\nrate = [5]", "F:3: `rate` takes one value, not a list"),
            ("cors = 'yes'", "F:1: `cors` is true or false"),
            ("rate = true", "F:1: `rate` takes a text or a number"),
            (
                "[rate]\nx = 1",
                "F:1: `rate` is a table; options have no sections",
            ),
            (
                "grace = 1\ndrain-timeout = 2",
                "F:1: `drain-timeout` is there by two names",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).expect_err(text), expected, "{text}");
        }
        for text in ["rate = ", "rate = 1\nrate = 2", "= 1", "\u{0}"] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with("F:") && !said.contains('\n'), "{said}");
        }
    }
}
