//! The sandbox, held by the kernel: landlock(7) for files and connections, seccomp(2) for system
//! calls.
//!
//! Both hold for the calling thread and those that it starts. A process with more threads is
//! refused: landlock(7) reaches them from ABI 8 on.

mod allowed_paths;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod landlock;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod seccomp;

use std::io;

pub(crate) use crate::sys::sandbox::allowed_paths::AllowedPaths;

/// The parts of the sandbox that hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// landlock(7) holds: for files at least (Linux 5.13), for TCP and signals too (Linux 6.12).
    pub landlock: bool,
    /// The seccomp(2) filter holds.
    pub seccomp: bool,
}

impl Confinement {
    /// Whether files and system calls are confined. The filter also refuses TCP and signals, which
    /// landlock(7) learned later.
    #[must_use]
    pub(crate) fn holds(&self) -> bool {
        self.landlock && self.seccomp
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.landlock {
            true => "landlock holds",
            false => "no landlock",
        })?;
        formatter.write_str(match self.seccomp {
            true => ", seccomp holds",
            false => ", no seccomp",
        })
    }
}

/// Confines the process to `places` and the system calls of a running server. Features that this
/// kernel lacks are left out.
///
/// # Errors
/// A part that the kernel has cannot be put in place.
pub(crate) fn enter(places: &AllowedPaths) -> io::Result<Confinement> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        if std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) > 1 {
            return Err(io::Error::other("the process has more than one thread"));
        }
        Ok(Confinement {
            landlock: landlock::enter(places)?,
            seccomp: seccomp::install()?,
        })
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = places;
        Ok(Confinement {
            landlock: false,
            seccomp: false,
        })
    }
}
