//! The process, its threads and its host.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The host's name, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname()
        .ok()?
        .into_string()
        .ok()
        .filter(|name| !name.is_empty())
}

/// The user whose rights the process has (geteuid(2)).
pub(crate) fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Limits the calling thread to idle processor time: any other thread preempts it (`SCHED_IDLE`,
/// sched(7)). A refusal is ignored.
///
/// Whatever lock such a thread holds it may hold for seconds: it takes none that others wait for.
pub(crate) fn have_idle_processor_only() {
    #[cfg(target_os = "linux")]
    {
        use nix::libc;
        let none = libc::sched_param { sched_priority: 0 };
        // Musl's own sched_setscheduler(2) only fails.
        // SAFETY: the call reads one number, which outlives it, and concerns this thread alone.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(
                libc::SYS_sched_setscheduler,
                0,
                libc::SCHED_IDLE,
                &raw const none,
            );
        }
    }
}

/// Gives the calling thread the smallest share of the processor (setpriority(2)). A refusal is
/// ignored.
pub(crate) fn have_lowest_priority() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::setpriority_process(None, LOWEST);
    }
}

/// The highest nice value.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Gives the calling thread the lowest disk priority above idle, so that a page that another thread
/// waits for still arrives (ioprio_set(2)). A refusal is ignored.
pub(crate) fn have_least_disk_priority() {
    #[cfg(target_os = "linux")]
    {
        use nix::libc;
        // The lowest of `IOPRIO_CLASS_BE`, for this thread (`IOPRIO_WHO_PROCESS`, 0): requests of
        // the idle class may wait for ten seconds (mq-deadline).
        let (who, class) = (1, 2 << 13 | 7);
        // SAFETY: the call takes three numbers and touches no memory of the process.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(libc::SYS_ioprio_set, who, 0, class);
        }
    }
}

/// A standard stream, written to without a buffer and without the lock that `std` holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standard {
    Output,
    Error,
}

impl io::Write for &Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(match self {
            Standard::Output => nix::unistd::write(io::stdout().as_fd(), bytes),
            Standard::Error => nix::unistd::write(io::stderr().as_fd(), bytes),
        }?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error is a stream of systemd's journal (`JOURNAL_STREAM`, systemd.exec(5)).
pub(crate) fn error_is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let found = rustix::fs::fstat(io::stderr());
        let found = found.map(|found| format!("{}:{}", found.st_dev, found.st_ino));
        let named = std::env::var("JOURNAL_STREAM");
        matches!((named, found), (Ok(named), Ok(found)) if named == found)
    })
}

/// Ends the process at once, without waiting for its threads.
pub fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

/// Detects whether a thread has waited during a turn: not for a processor, but for something else,
/// as a disk.
#[derive(Debug)]
pub(crate) struct WaitWatch {
    since: Instant,
    usage: Usage,
}

/// What the system has counted of a thread so far (getrusage(2)).
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Times that it gave its processor up; to be preempted does not count.
    waits: i64,
    /// Time on a processor.
    busy: Duration,
}

impl WaitWatch {
    /// Begins after the thread's last intended wait, as for its poller: a reading per turn would
    /// cost a system call per turn.
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
            usage: usage(),
        }
    }

    /// Whether a stretch that began then took longer than [`LONG_WAIT`], and since its last meant
    /// wait the thread has waited, and was off its processor for as long.
    ///
    /// A slow machine alone, where a turn takes that long and a lock's microseconds are a wait,
    /// keeps the thread on its processor.
    pub(crate) fn has_waited(&mut self, begun: Instant) -> bool {
        if begun.elapsed() <= LONG_WAIT {
            return false;
        }
        let before = std::mem::replace(self, Self::begin());
        let busy = self.usage.busy.saturating_sub(before.usage.busy);
        let idle = (self.since - before.since).saturating_sub(busy);
        self.usage.waits > before.usage.waits && idle > LONG_WAIT
    }
}

#[allow(clippy::useless_conversion)] // the types differ between architectures
fn usage() -> Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeVal;
    #[cfg(target_os = "linux")]
    let who = UsageWho::RUSAGE_THREAD;
    #[cfg(not(target_os = "linux"))]
    let who = UsageWho::RUSAGE_SELF;
    let micros = |time: TimeVal| {
        let seconds = i64::from(time.tv_sec()) * 1_000_000;
        Duration::from_micros((seconds + i64::from(time.tv_usec())).unsigned_abs())
    };
    getrusage(who).map_or_else(
        |_| Usage::default(),
        |usage| Usage {
            waits: i64::from(usage.voluntary_context_switches()),
            busy: micros(usage.user_time()) + micros(usage.system_time()),
        },
    )
}

/// Without optimization, and on an emulated processor, a turn takes tens of milliseconds, in which
/// other threads have the processor, while short waits for locks are counted still.
const LONG_WAIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 2 });

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch of work in which the thread sleeps `times` times for so long.
    fn has_waited(times: u32, sleep: Duration) -> bool {
        let mut watch = WaitWatch::begin();
        let begun = Instant::now();
        for _ in 0..times {
            std::thread::sleep(sleep);
            let work = Instant::now();
            while work.elapsed() < LONG_WAIT {
                std::hint::spin_loop();
            }
        }
        watch.has_waited(begun)
    }

    #[test]
    fn a_wait_counts_and_a_long_turn_with_a_short_one_does_not() {
        assert!(has_waited(1, 3 * LONG_WAIT));
        // Others may have the processor meanwhile, but not each time.
        let is_counted = (0..100).all(|_| has_waited(2, Duration::from_micros(1)));
        assert!(!is_counted);
    }
}
