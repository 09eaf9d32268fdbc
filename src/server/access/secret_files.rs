//! The files of the operator's secrets, which must not lie among what is served, and files that
//! better did not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::server::config::{DigestChoice, DotNames, ServeConfig};
use crate::server::telemetry::access_log::Destination;

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
    let mut found = real
        .chain(own_key)
        .filter_map(|(option, path, real)| Some((option, path, serving_option(&real, config)?)));
    match found.next() {
        None => Ok(()),
        Some((option, path, serving)) => Err(format!(
            "{option} {}: it lies in what is served, where clients could fetch it; move it \
             elsewhere, or serve another directory ({serving})",
            path.display()
        )),
    }
}

/// Logs and digests that a client could fetch, as an operator may or may not want it.
pub(crate) fn warnings(config: &ServeConfig) -> Vec<String> {
    let log = match &config.access_log {
        Destination::File(path) => future_path(path).map(|real| ("--access-log", real)),
        // A shell may have redirected it to a file.
        Destination::StandardError => (Path::new("/dev/stderr").canonicalize().ok())
            .filter(|real| real.is_file())
            .map(|real| ("standard error", real)),
        Destination::Nowhere => None,
    };
    let log = log.map(|(name, real)| (name, real, "the addresses and requests of others"));
    let state = config.state.as_deref();
    let state = state.filter(|_| config.digests.choice != DigestChoice::Off);
    let store = state.and_then(future_path);
    let store = store.map(|real| ("--state", real, "the digests of all files"));
    let found = log
        .into_iter()
        .chain(store)
        .filter_map(|(name, real, what)| {
            serving_option(&real, config)?;
            let real = real.display();
            Some(format!(
                "{name} {real}: it lies in what is served, where clients could fetch {what}"
            ))
        });
    found.collect()
}

/// The option by which a request could name the file at this real path.
fn serving_option(file: &Path, config: &ServeConfig) -> Option<&'static str> {
    if !config.files.is_empty() {
        let mut served = config.files.iter().filter_map(|it| it.canonicalize().ok());
        return served.any(|it| it == file).then_some("--root");
    }
    let path_beneath = |directory: &PathBuf| {
        let directory = directory.canonicalize().ok()?;
        file.strip_prefix(directory).ok()
    };
    let is_hidden = |name: &OsStr| name.as_bytes().starts_with(b".");
    let in_root = path_beneath(&config.root)
        .filter(|path| config.dot_names == DotNames::Shown || !path.iter().any(is_hidden));
    // A link may lead to any name there, also to one that begins with a dot.
    let mut linked = config.links_into.iter().filter_map(path_beneath);
    match in_root {
        Some(_) => Some("--root"),
        None => linked.next().map(|_| "--links-into"),
    }
}

/// The real path of a file that is made, with its directories, where it is not there.
fn future_path(file: &Path) -> Option<PathBuf> {
    if let Ok(real) = file.canonicalize() {
        return Some(real);
    }
    let file = std::path::absolute(file).ok()?;
    file.ancestors().skip(1).find_map(|there| {
        let rest = file.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    })
}
