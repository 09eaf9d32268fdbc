//! The reasons to end a wait on a socket: Ctrl-C, the end of the transfer, and the stall deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::get::error::{ErrorKind, GetError, Retry};

/// A request to stop, from a signal handler or from another thread. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The flag itself, for `signal_hook::flag::register`.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The user or the transfer has ended the wait.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A thread's reasons to end a wait.
#[derive(Clone, Debug)]
pub(crate) struct Cancellation {
    user: Cancel,
    own: Cancel,
    stall_timeout: Duration,
    /// The end of `--max-time`.
    end: Option<Instant>,
}

/// A wait that has begun and will not last longer than the stall time-out.
#[derive(Debug)]
pub(crate) struct StallTimer<'a> {
    cancellation: &'a Cancellation,
    began: Instant,
    deadline: Instant,
}

impl Cancellation {
    pub(crate) fn new(user: Cancel, stall_timeout: Duration, end: Option<Instant>) -> Self {
        Self {
            user,
            own: Cancel::default(),
            stall_timeout,
            end,
        }
    }

    /// The same reasons, and a new one: the second value ends only waits of the first.
    pub(crate) fn fork(&self) -> (Self, Cancel) {
        let own = Cancel::default();
        (
            Self {
                own: own.clone(),
                ..self.clone()
            },
            own,
        )
    }

    /// # Errors
    /// Interrupted, once there is a reason to end.
    pub(crate) fn check(&self) -> Result<(), GetError> {
        if self.user.is_cancelled() || self.own.is_cancelled() {
            return Err(GetError::interrupted());
        }
        if self.end.is_some_and(|end| Instant::now() >= end) {
            let error = GetError::new(ErrorKind::Incomplete, "the time of --max-time is over");
            return Err(error.with_retry(Retry::Stopped));
        }
        Ok(())
    }

    pub(crate) fn stall_timer(&self) -> StallTimer<'_> {
        let began = Instant::now();
        StallTimer {
            cancellation: self,
            began,
            deadline: began + self.stall_timeout,
        }
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// Sleeps in short steps.
    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), GetError> {
        let end = Instant::now() + wait;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

impl StallTimer<'_> {
    /// Whether to wait another [`TICK`].
    ///
    /// # Errors
    /// Interrupted, or stalled for too long.
    pub(crate) fn check(&self) -> Result<(), GetError> {
        self.cancellation.check()?;
        if Instant::now() >= self.deadline {
            let text = format!("nothing came for {:?}", self.cancellation.stall_timeout);
            return Err(GetError::passing(ErrorKind::Network, text));
        }
        Ok(())
    }

    /// Something came that is of no use yet. What drips in must be of use within some time-outs.
    pub(crate) fn extend(&mut self) {
        let timeout = self.cancellation.stall_timeout;
        self.deadline = (Instant::now() + timeout).min(self.began + timeout * MAX_TIMEOUTS);
    }
}

/// A TLS record of 16 KiB may take them: at 30 s each it comes with 55 B/s.
const MAX_TIMEOUTS: u32 = 10;
/// How long a thread waits in the kernel before it looks up.
pub(crate) const TICK: Duration = Duration::from_millis(100);
