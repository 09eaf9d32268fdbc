//! What the process may do from now on, held by the kernel: landlock(7) for files and connections,
//! seccomp(2) for system calls.
//!
//! Both hold for the calling thread and for those it starts. landlock(7) knows no other way before
//! its ABI 8, so a process that has more threads is refused.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod domain;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod filter;
mod places;

use std::io;

pub(crate) use crate::sys::sandbox::places::Places;

/// What of the sandbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// How much of landlock(7) holds: for files, TCP and signals.
    pub landlock: Option<Extent>,
    /// The seccomp(2) filter holds.
    pub seccomp: bool,
}

/// How much of a sandbox a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that was asked for.
    Whole,
    /// What the kernel knows of it: Linux 5.13 knows files, Linux 6.12 all.
    Partial,
}

impl Confinement {
    /// Whether files and system calls are confined. What landlock(7) learned later, TCP and
    /// signals, the filter refuses as well.
    #[must_use]
    pub(crate) fn holds(&self) -> bool {
        self.landlock.is_some() && self.seccomp
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.landlock {
            Some(Extent::Whole) => "landlock holds",
            Some(Extent::Partial) => "landlock holds for files",
            None => "no landlock",
        })?;
        formatter.write_str(match self.seccomp {
            true => ", seccomp holds",
            false => ", no seccomp",
        })
    }
}

/// Gives up all but `places` and the system calls of a running server. What cannot be had on this
/// kernel is left out.
///
/// # Errors
/// A part that the kernel has cannot be put in place.
pub(crate) fn enter(places: &Places) -> io::Result<Confinement> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        if std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) > 1 {
            return Err(io::Error::other("the process has more than one thread"));
        }
        use landlock::RulesetStatus;
        Ok(Confinement {
            landlock: match domain::enter(places)? {
                RulesetStatus::FullyEnforced => Some(Extent::Whole),
                RulesetStatus::PartiallyEnforced => Some(Extent::Partial),
                RulesetStatus::NotEnforced => None,
            },
            seccomp: filter::install()?,
        })
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = places;
        Ok(Confinement {
            landlock: None,
            seccomp: false,
        })
    }
}
