//! What the kernel grants a process and how it counts what a process used.

use std::io;

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

/// The unit of processor time in `/proc/PID/stat`, in ticks a second (`sysconf(3)`,
/// `_SC_CLK_TCK`).
#[must_use]
pub fn clock_ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// The size of a memory page in bytes, the unit of `/proc/net/sockstat`.
#[must_use]
pub fn page_bytes() -> usize {
    rustix::param::page_size()
}
