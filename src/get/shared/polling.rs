//! Repeated requests for a result that a server is still computing.

use std::time::{Duration, Instant};

use crate::get::client::cancellation::Cancellation;
use crate::get::error::GetError;

/// The pauses between the requests: each is twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Polling {
    began: Instant,
    pause: Duration,
    timeout: Duration,
}

impl Polling {
    /// Requests that end after `timeout`; the first one is made now.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            began: Instant::now(),
            pause: MIN_PAUSE,
            timeout,
        }
    }

    /// Waits until the next request is due; `false` if that would be after the time-out.
    ///
    /// # Errors
    /// The wait was cancelled.
    pub(crate) fn wait(&mut self, cancellation: &Cancellation) -> Result<bool, GetError> {
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        if self.began.elapsed() + self.pause > self.timeout {
            return Ok(false);
        }
        cancellation.sleep(self.pause).map(|()| true)
    }
}

/// The pauses begin short: a small file is hashed long before the server's estimate.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_secs(5);
