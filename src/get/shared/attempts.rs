//! How often, and after which wait, a failed request is made again.

use std::time::{Duration, Instant};

use crate::get::config::RetryPolicy;
use crate::get::error::{GetError, Retry};

/// The failures in a row, and the configured limits.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    failures: u32,
    retries: u32,
    progress: u64,
    /// When the failures in a row began.
    failing_since: Option<Instant>,
    /// Some server has been reached.
    reached: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            retries: 0,
            progress: 0,
            failing_since: None,
            reached: false,
        }
    }

    /// Takes note of a failure, with `kept` bytes of the file safe: how long to wait before the
    /// next attempt.
    ///
    /// # Errors
    /// The failure itself when trying again is no use, or enough has been tried.
    pub(crate) fn failed(&mut self, error: GetError, kept: u64) -> Result<Duration, GetError> {
        if matches!(error.retry, Retry::Never | Retry::Stopped) {
            return Err(error);
        }
        // A bad line that moves the file on is still a line; only standing still counts.
        if kept >= self.progress + MIN_PROGRESS_BYTES && error.retry != Retry::Slow {
            self.failures = 0;
            self.failing_since = None;
        }
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.failures == 0 || kept < self.progress {
            self.progress = kept;
        }
        self.reached |= kept > 0 || error.retry != Retry::Unreached;
        self.failures += 1;
        let retries = match self.reached {
            true => self.policy.retries,
            false => self.policy.retries_unreached,
        };
        if self.failures > retries {
            return Err(match retries {
                0 => error,
                1 => error.and("given up after 1 retry"),
                retries => error.and(format!("given up after {retries} retries")),
            });
        }
        self.retries += 1;
        let own = self.back_off(fastrand::f64());
        if let Some(longest) = self.policy.retry_for
            && failing_since.elapsed() + own > longest
        {
            return Err(error.and(format!("given up after {longest:?} without progress")));
        }
        match error.retry {
            Retry::After(asked) if asked > self.policy.retry_for.unwrap_or(MAX_RETRY_AFTER) => {
                Err(error.and(format!(
                    "it asks to come back in {} s; --retry-for can wait that long",
                    asked.as_secs()
                )))
            }
            Retry::After(asked) => Ok(own.max(asked)),
            _ => Ok(own),
        }
    }

    /// Another server has the file now: its failures count from here on.
    pub(crate) fn start_over(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// All retries so far, for the summary.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// `chance` in 0..1 spreads the clients of a server that broke down: half the wait is fixed.
    fn back_off(&self, chance: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let wait = self.policy.first_wait.saturating_mul(doubled).min(MAX_WAIT);
        wait.mul_f64(0.5 + chance / 2.0)
    }
}

/// Less than this between two failures is standing still.
pub(crate) const MIN_PROGRESS_BYTES: u64 = 16 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A longer `Retry-After` counts as a refusal.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::get::config::RetryPolicy;
    use crate::get::error::ErrorKind;

    fn attempts(retries: u32) -> Attempts {
        Attempts::new(RetryPolicy {
            retries,
            retries_unreached: 1,
            first_wait: Duration::from_secs(1),
            retry_for: None,
        })
    }

    fn passing() -> GetError {
        GetError::passing(ErrorKind::Network, "broke")
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut attempts = attempts(100);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = attempts.failed(passing(), 0).unwrap().as_secs_f64();
            let longest = f64::from(expected);
            assert!(
                (longest / 2.0..=longest).contains(&wait),
                "{wait} of {longest}"
            );
        }
    }

    #[test]
    fn only_standing_still_counts() {
        let mut attempts = attempts(2);
        for kept in 1..50 {
            attempts
                .failed(passing(), kept * MIN_PROGRESS_BYTES)
                .unwrap();
        }
        let kept = 49 * MIN_PROGRESS_BYTES;
        attempts.failed(passing(), kept + 1).unwrap();
        assert!(attempts.failed(passing(), kept + 2).is_err());
        assert_eq!(attempts.retries(), 50);
    }

    #[test]
    fn an_unreached_server_has_fewer_retries() {
        let unreached = || passing().with_retry(Retry::Unreached);
        let (mut never, mut once) = (attempts(3), attempts(3));
        never.failed(unreached(), 0).unwrap();
        let error = never.failed(unreached(), 0).unwrap_err();
        assert!(error.to_string().contains("after 1 retry"), "{error}");
        for error in [passing(), unreached(), unreached()] {
            once.failed(error, 0).unwrap();
        }
        assert!(once.failed(unreached(), 0).is_err());
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let mut attempts = attempts(5);
        let asked = |seconds| passing().with_retry(Retry::After(Duration::from_secs(seconds)));
        assert_eq!(
            attempts.failed(asked(30), 0).unwrap(),
            Duration::from_secs(30)
        );
        assert!(attempts.failed(asked(100_000), 0).is_err());
        assert!(
            attempts
                .failed(GetError::new(ErrorKind::NotFound, "404"), 0)
                .is_err()
        );
    }
}
