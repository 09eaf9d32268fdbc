//! The process and its host.

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
