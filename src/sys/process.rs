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

/// The host's name, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname()
        .ok()?
        .into_string()
        .ok()
        .filter(|name| !name.is_empty())
}

/// Ends the process at once, whatever its threads wait for.
pub fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}
