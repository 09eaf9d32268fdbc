//! Secrets that are among the files that are served: whoever fetches one has it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use haul::server::config::{DotNames, ServeConfig};

/// Refuses files of keys and passwords that anybody could fetch.
///
/// # Errors
/// Which one, and what to do.
pub(super) fn check(config: &ServeConfig) -> Result<(), String> {
    let keys = config
        .tls
        .identities
        .iter()
        .map(|it| ("--tls-key", &it.key));
    let own = config.tls.own.iter().filter_map(|it| it.directory.as_ref());
    let (htpasswd, links) = (&config.access.htpasswd, &config.access.link_keys);
    let all = keys
        .chain(own.map(|directory| ("--state", directory)))
        .chain(htpasswd.iter().map(|file| ("--htpasswd", file)))
        .chain(links.iter().map(|file| ("--link-key", file)));
    for (option, path) in all {
        if is_served(path, config) {
            return Err(format!(
                "{option} {}: that is among the files that are served, for everybody to fetch; \
                 keep it elsewhere, or beneath a name with a dot in front",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Whether a path leads to what is served.
fn is_served(path: &Path, config: &ServeConfig) -> bool {
    let Some(path) = real_path(path) else {
        return false;
    };
    if !config.files.is_empty() {
        let is_it = |file: &PathBuf| file.canonicalize().is_ok_and(|file| file == path);
        return config.files.iter().any(is_it);
    }
    let Ok(root) = config.root.canonicalize() else {
        return false;
    };
    let hides = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let shows_all = config.dot_names == DotNames::Shown;
    path.strip_prefix(&root)
        .is_ok_and(|beneath| shows_all || !beneath.iter().any(hides))
}

/// Where a path leads, or will once it is made.
fn real_path(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    })
}
