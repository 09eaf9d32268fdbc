//! The process: its limits and its signals.

use std::io;

/// Raises the limit on open files to the hard limit and returns it.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_open_file_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The user this process runs as is root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
