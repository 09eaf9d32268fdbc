//! The state directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

/// Where state is kept.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct StateArgs {
    /// Directory for what is kept from one run to the next [default: $STATE_DIRECTORY (systemd),
    /// else $XDG_STATE_HOME/haul, else ~/.local/state/haul]
    #[arg(long, env = "HAUL_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// The directory, which need not exist; `None` without an option and a home.
    pub(crate) fn directory(self) -> Option<PathBuf> {
        self.state
            .or_else(|| resolve(|name| std::env::var_os(name)))
    }
}

/// The directory that the environment names (systemd.exec(5), XDG Base Directory Specification).
fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let named = |name| variable(name).map(PathBuf::from).and_then(absolute);
    // Several directories of one unit are parted by colons; the first is as good as any.
    let unit = variable("STATE_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
    unit.and_then(absolute)
        .or_else(|| named("XDG_STATE_HOME").map(|home| home.join("haul")))
        .or_else(|| named("HOME").map(|home| home.join(Path::new(".local/state/haul"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(variables: &[(&str, &str)]) -> Option<PathBuf> {
        resolve(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn systemd_goes_before_xdg_and_xdg_before_home() {
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_STATE_HOME", "/x");
        let unit = ("STATE_DIRECTORY", "/var/lib/haul:/var/lib/other");
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(resolved(&[home, xdg, unit]), path("/var/lib/haul"));
        assert_eq!(resolved(&[home, xdg]), path("/x/haul"));
        assert_eq!(resolved(&[home]), path("/home/a/.local/state/haul"));
        assert_eq!(resolved(&[]), None);
    }

    #[test]
    fn a_relative_directory_of_the_environment_counts_for_nothing() {
        let variables = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "x")];
        assert_eq!(resolved(&variables), None);
    }
}
