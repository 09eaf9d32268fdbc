//! The kernel's limits and counts of a process's resources.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Raises the soft limit on open files to the hard limit, and returns it; `u64::MAX` stands for no
/// limit (`setrlimit(2)`, `RLIMIT_NOFILE`).
///
/// # Errors
/// As setrlimit(2).
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(count(hard))
}

/// The soft limit on open files, one more than the highest descriptor there can be; `u64::MAX`
/// stands for no limit (`getrlimit(2)`, `RLIMIT_NOFILE`).
#[must_use]
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| count(soft))
}

#[allow(clippy::unnecessary_cast)] // the type differs between systems
fn count(limit: rlim_t) -> u64 {
    match limit {
        RLIM_INFINITY => u64::MAX,
        limit => limit as u64,
    }
}

/// Grows the descriptor table in advance: while it grows, a call that opens a descriptor waits for
/// all processors (`expand_fdtable`, synchronize_rcu; 10 ms and more).
pub(crate) fn reserve_descriptors(descriptor: &impl AsFd, count: u64) {
    if let Ok(last) = i32::try_from(count.min(open_files()).saturating_sub(1)) {
        let _ = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(last)).and_then(nix::unistd::close);
    }
}

/// A descriptor's number. A new descriptor gets the lowest free one (`open(2)`), so it approximates
/// their count.
#[must_use]
pub(crate) fn descriptor_number(descriptor: &impl AsRawFd) -> u64 {
    u64::try_from(descriptor.as_raw_fd()).unwrap_or(0)
}

/// The number that the next descriptor will get; `descriptor` may be any open one.
///
/// # Errors
/// `EMFILE` if there is none left (`fcntl(2)`, `F_DUPFD_CLOEXEC`).
pub(crate) fn next_descriptor(descriptor: &impl AsFd) -> io::Result<u64> {
    let copy = descriptor.as_fd().try_clone_to_owned()?;
    Ok(descriptor_number(&copy))
}

/// Whether an error means that the system is short of a resource (`EMFILE`, `ENFILE`, `ENOMEM`,
/// `ENOBUFS`).
#[must_use]
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    use nix::libc::{ENOBUFS, ENOMEM};
    is_out_of_files(error) || matches!(error.raw_os_error(), Some(ENOMEM | ENOBUFS))
}

/// Whether the process or the system has no descriptor left.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// The unit of processor time in `/proc/PID/stat`, in ticks a second (`sysconf(3)`,
/// `_SC_CLK_TCK`).
#[must_use]
pub(crate) fn clock_ticks_per_second() -> u64 {
    constant(SysconfVar::CLK_TCK, 100)
}

/// The memory in bytes at which the kernel begins to save on TCP's buffers (`tcp_mem`, tcp(7));
/// `None` if it is not known.
pub(crate) fn tcp_memory_under_pressure() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?;
    let pages: u64 = limits.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_bytes())
}

/// The size of a memory page in bytes, the unit of `/proc/net/sockstat`.
#[must_use]
pub(crate) fn page_bytes() -> u64 {
    constant(SysconfVar::PAGE_SIZE, 4096)
}

/// The value of sysconf(3), or else the usual one.
fn constant(name: SysconfVar, usual: u64) -> u64 {
    let value = sysconf(name).ok().flatten();
    value
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(usual)
}
