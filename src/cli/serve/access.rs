//! The options of access.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use haul::diagnostics::say;
use haul::server::config::{AccessConfig, ServeConfig};

/// Access.
#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessArgs {
    /// Ask for a user and a password of this file, which `htpasswd -B` writes (bcrypt, SHA-crypt or
    /// argon2). It must not lie in what is served
    #[arg(long, env = "HAUL_HTPASSWD", value_name = "FILE")]
    htpasswd: Option<PathBuf>,

    /// Let links in that `haul link` has signed with a key of this file, one key a line. It must not
    /// lie in what is served
    #[arg(long, env = "HAUL_LINK_KEY", value_name = "FILE")]
    link_key: Option<PathBuf>,

    /// Protect only what matches, and all beneath it; may be repeated. Paths begin at the directory
    /// that is served; `*` matches slashes too, upper and lower case are the same [default:
    /// everything, if there is a password or a key]
    #[arg(long, env = "HAUL_PROTECT", value_name = "GLOB")]
    protect: Vec<String>,
}

impl AccessArgs {
    pub(super) fn config(self) -> AccessConfig {
        AccessConfig {
            htpasswd: self.htpasswd,
            link_keys: self.link_key,
            protect: self.protect,
        }
    }
}

/// Says what gives passwords or keys away, or protects nothing.
pub(super) fn warn(config: &ServeConfig) {
    let access = &config.access;
    let network = config.listen.iter().find(|it| !it.ip().is_loopback());
    let is_on = access.htpasswd.is_some() || access.link_keys.is_some();
    if let Some(address) = network.filter(|_| is_on) {
        say(format_args!(
            "haul: passwords and links come to {address} in plain text: whoever is on the way can \
             read them"
        ));
    }
    for glob in &access.protect {
        if names_nothing(glob, config) {
            say(format_args!(
                "haul: --protect {glob}: nothing here has that path now; paths begin at the \
                 directory that is served, and `**/NAME` is a name in all of them"
            ));
        }
    }
    if let Some(path) = &access.link_keys
        && let Ok(found) = path.metadata()
        && found.permissions().mode() & OTHERS != 0
    {
        say(format_args!(
            "haul: other users of this host can read {}, and sign links with it; `chmod o-rwx` it",
            path.display()
        ));
    }
}

/// Whether a path, which is what a glob without wildcards is, names nothing that is served.
fn names_nothing(glob: &str, config: &ServeConfig) -> bool {
    let path = Path::new(glob.trim_start_matches('/'));
    let is_there = match config.files.is_empty() {
        true => config.root.join(path).symlink_metadata().is_ok(),
        false => config
            .files
            .iter()
            .any(|it| it.file_name() == path.file_name()),
    };
    !glob.contains(['*', '?', '[', '{', '\\']) && !is_there
}

/// The permissions of other users (inode(7)).
const OTHERS: u32 = 0o007;
