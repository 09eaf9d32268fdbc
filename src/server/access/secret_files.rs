//! The files of the operator's secrets, which must not lie among what is served.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::server::config::{DotNames, ServeConfig};

/// Looks for files of passwords and keys that a client could fetch.
///
/// # Errors
/// The first one, for the operator.
pub(crate) fn check(config: &ServeConfig) -> Result<(), String> {
    let access = &config.access;
    let private_keys = config
        .tls
        .identities
        .iter()
        .map(|it| ("--tls-key", &it.key));
    let secrets = [
        ("--htpasswd", &access.htpasswd),
        ("--link-key", &access.link_keys),
    ]
    .into_iter();
    let secrets = secrets.filter_map(|(option, path)| Some((option, path.as_ref()?)));
    // A file that is not there has a message of its own.
    let real = secrets
        .chain(private_keys)
        .filter_map(|(option, path)| Some((option, path.clone(), path.canonicalize().ok()?)));
    let own_key = config.tls.own_key().into_iter();
    let own_key =
        own_key.filter_map(|path| Some(("--tls-self", path.clone(), future_path(&path)?)));
    match real
        .chain(own_key)
        .find(|(_, _, real)| is_served(real, config))
    {
        None => Ok(()),
        Some((option, path, _)) => Err(format!(
            "{option} {}: it lies in what is served, where clients could fetch it; move it \
             elsewhere, or serve another directory (--root)",
            path.display()
        )),
    }
}

/// Whether a request could name the file at this real path.
fn is_served(file: &Path, config: &ServeConfig) -> bool {
    if !config.files.is_empty() {
        let mut served = config.files.iter().filter_map(|it| it.canonicalize().ok());
        return served.any(|it| it == file);
    }
    let Ok(root) = config.root.canonicalize() else {
        return false;
    };
    let is_hidden = |name: &OsStr| name.as_bytes().starts_with(b".");
    file.strip_prefix(root)
        .is_ok_and(|path| config.dot_names == DotNames::Shown || !path.iter().any(is_hidden))
}

/// The real path of a file that is made, with its directories, where it is not there.
fn future_path(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    file.ancestors().find_map(|there| {
        let rest = file.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    })
}
