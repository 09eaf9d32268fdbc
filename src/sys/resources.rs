//! What the kernel grants a process and how it counts what a process used.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit, and returns it; `u64::MAX` stands for no
/// limit (`setrlimit(2)`, `RLIMIT_NOFILE`).
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn raise_open_files() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// The soft limit on open files, one more than the highest descriptor there can be; `u64::MAX`
/// stands for no limit (`getrlimit(2)`, `RLIMIT_NOFILE`).
#[must_use]
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Has the table of descriptors grow for so many now: while it grows, whoever opens something waits
/// for all processors (`expand_fdtable`, synchronize_rcu; 10 ms and more).
pub(crate) fn reserve_descriptors(descriptor: &impl AsFd, count: u64) {
    if let Ok(last) = i32::try_from(count.min(open_files()).saturating_sub(1)) {
        let _ = rustix::io::fcntl_dupfd_cloexec(descriptor, last);
    }
}

/// A descriptor's number. A new one gets the lowest that is free (`open(2)`), so it tells how
/// many there are.
#[must_use]
pub(crate) fn descriptor_number(descriptor: &impl AsRawFd) -> u64 {
    u64::try_from(descriptor.as_raw_fd()).unwrap_or(0)
}

/// The number that the next descriptor will get; `descriptor` may be any open one.
///
/// # Errors
/// `EMFILE` if there is none left (`fcntl(2)`, `F_DUPFD_CLOEXEC`).
pub(crate) fn next_descriptor(descriptor: &impl AsFd) -> io::Result<u64> {
    let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, 0)?;
    Ok(descriptor_number(&copy))
}

/// Whether an error means that the system, not the one thing asked for, is out of something
/// (`EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`).
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
    rustix::param::clock_ticks_per_second()
}

/// The memory in bytes at which the kernel begins to save on TCP's buffers (`tcp_mem`, tcp(7));
/// `None` where the system does not say.
pub(crate) fn tcp_memory_under_pressure() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?;
    let pages: u64 = limits.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_bytes() as u64)
}

/// The size of a memory page in bytes, the unit of `/proc/net/sockstat`.
#[must_use]
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}
