//! `--rate`: one allowance of bytes a second for all connections together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::get::client::cancellation::Cancellation;
use crate::get::config::MinRate;
use crate::get::error::{ErrorKind, GetError, Retry};

/// Limits bytes to a rate. A burst is at most that of a twentieth of a second.
#[derive(Debug)]
pub(crate) struct RateLimit(Option<Limit>);

#[derive(Debug)]
struct Limit {
    bytes_per_second: f64,
    /// The time at which all bytes so far are paid for.
    paid: Mutex<Instant>,
}

impl RateLimit {
    /// Without a rate everything is allowed.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.map(|rate| Limit {
            bytes_per_second: rate.max(1) as f64,
            paid: Mutex::new(Instant::now()),
        }))
    }

    /// Waits until bytes may be received; returns how many, at most `wanted`.
    pub(crate) fn allow(
        &self,
        wanted: usize,
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let Some(limit) = &self.0 else {
            return Ok(wanted);
        };
        loop {
            let paid = *limit.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = paid.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            cancellation.sleep(wait)?;
        }
        Ok(wanted
            .min((limit.bytes_per_second * BURST.as_secs_f64()) as usize)
            .max(1))
    }

    /// `count` bytes were received.
    pub(crate) fn spend(&self, count: usize) {
        let Some(limit) = &self.0 else { return };
        let cost = Duration::from_secs_f64(count as f64 / limit.bytes_per_second);
        let mut paid = limit.paid.lock().unwrap_or_else(PoisonError::into_inner);
        // Idle time is not saved up.
        *paid = (*paid).max(Instant::now() - BURST) + cost;
    }
}

/// `--min-rate`: what one file's connections have to bring together.
#[derive(Debug)]
pub(crate) struct RateFloor {
    limit: Option<MinRate>,
    since: Instant,
    received: u64,
}

impl RateFloor {
    pub(crate) fn new(limit: Option<MinRate>) -> Self {
        Self {
            limit,
            since: Instant::now(),
            received: 0,
        }
    }

    /// The measured time begins now.
    pub(crate) fn begin_anew(&mut self, received: u64) {
        self.since = Instant::now();
        self.received = received;
    }

    /// Takes note of all bytes received so far.
    ///
    /// # Errors
    /// Network, once a whole window has brought too little.
    pub(crate) fn observe(&mut self, received: u64) -> Result<(), GetError> {
        let Some(MinRate {
            bytes_per_second,
            window,
        }) = self.limit
        else {
            return Ok(());
        };
        let elapsed = self.since.elapsed();
        if elapsed < window {
            return Ok(());
        }
        let came = received.saturating_sub(self.received) as f64 / elapsed.as_secs_f64();
        self.begin_anew(received);
        if came >= bytes_per_second as f64 {
            return Ok(());
        }
        let text = format!(
            "{came:.0} bytes a second in the last {window:?}, fewer than --min-rate {bytes_per_second}"
        );
        Err(GetError::passing(ErrorKind::Network, text).with_retry(Retry::Slow))
    }
}

const BURST: Duration = Duration::from_millis(50);
