//! A rate in bytes a second, kept to by all that share it.
//!
//! The generic cell rate algorithm (ITU-T I.371): `due` is the time at which all bytes sent are
//! paid for. Nothing is sent before it, and each send moves it on. A stalled transfer holds no part
//! of the rate, and a new connection inherits the debt of earlier ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate, and the time at which it is paid for.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// 0 for no limit.
    bytes_per_second: AtomicU64,
    epoch: Instant,
    /// Nanoseconds since `epoch`.
    due: AtomicU64,
}

/// The bytes that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// So many bytes, or a little more.
    Bytes(u64),
    /// Nothing before this time.
    NotBefore(Instant),
}

impl Allowance {
    /// The bytes that both limits allow.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bytes(one), Self::Bytes(other)) => Self::Bytes(one.min(other)),
            (Self::NotBefore(one), Self::NotBefore(other)) => Self::NotBefore(one.max(other)),
            (due @ Self::NotBefore(_), _) | (_, due) => due,
        }
    }
}

impl RateLimit {
    /// A rate without debts; without a rate, what allows everything.
    pub(crate) fn new(bytes_per_second: Option<u64>, now: Instant) -> Self {
        Self {
            bytes_per_second: AtomicU64::new(as_number(bytes_per_second)),
            epoch: now,
            due: AtomicU64::new(0),
        }
    }

    /// Sets the rate; if it is another one, debts of the old one are forgotten.
    pub(crate) fn set(&self, bytes_per_second: Option<u64>) {
        let rate = as_number(bytes_per_second);
        if self.bytes_per_second.load(Ordering::Relaxed) != rate {
            self.bytes_per_second.store(rate, Ordering::Relaxed);
            self.due.store(0, Ordering::Relaxed);
        }
    }

    fn rate(&self) -> Option<u64> {
        Some(self.bytes_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// The bytes that may be sent now. Concurrent callers may each send that much; later ones wait
    /// until all of it is paid for.
    pub(crate) fn allowance(&self, now: Instant) -> Allowance {
        let Some(rate) = self.rate() else {
            return Allowance::Bytes(u64::MAX);
        };
        let (due, at) = (self.due.load(Ordering::Relaxed), self.nanoseconds(now));
        if due > at {
            return Allowance::NotBefore(self.epoch + Duration::from_nanos(due));
        }
        let late = Duration::from_nanos(at - due).min(MADE_UP_FOR);
        let missed = rate as f64 * late.as_secs_f64();
        Allowance::Bytes((missed as u64).saturating_add(burst_of(rate)))
    }

    /// Charges bytes that were sent.
    pub(crate) fn charge(&self, bytes: u64, now: Instant) {
        let Some(rate) = self.rate().filter(|_| bytes > 0) else {
            return;
        };
        let seconds = (bytes as f64 / rate as f64).min(MAX_OWED);
        let cost = (seconds * 1e9) as u64;
        let earliest = self
            .nanoseconds(now)
            .saturating_sub(MADE_UP_FOR.as_nanos() as u64);
        let charged = |due: u64| Some(due.max(earliest).saturating_add(cost).min(LATEST));
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.due.fetch_update(set, fetch, charged);
    }

    /// Whether something is not paid for.
    pub(crate) fn is_in_debt(&self, now: Instant) -> bool {
        matches!(self.allowance(now), Allowance::NotBefore(_))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

fn as_number(bytes_per_second: Option<u64>) -> u64 {
    bytes_per_second.map_or(0, |rate| rate.max(1))
}

/// Bytes that are sent at a time: those of ten milliseconds where the kernel spreads them, of two
/// where it does not, since pollers wait in milliseconds. At low rates, what a small response
/// needs, but at most those of a quarter of a second.
fn burst_of(rate: u64) -> u64 {
    let per_second = match rate < KERNEL_PACED_BELOW {
        true => 100,
        false => 500,
    };
    (rate / per_second).max(SMALL_BURST.min(rate / 4)).max(1)
}

/// From this rate on a segment takes less time than some timers are late. The kernel makes up for
/// at most half a segment's time, and would send at half of the rate.
pub(crate) const KERNEL_PACED_BELOW: u64 = 64 << 20;

/// A peer, or a disk, that was slower than the rate for longer than this has lost the rest.
const MADE_UP_FOR: Duration = Duration::from_millis(50);

const SMALL_BURST: u64 = 16 << 10;

/// In seconds; later times could overflow a clock.
const MAX_OWED: f64 = 1e9;

/// In nanoseconds, for the same reason.
const LATEST: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Bytes sent in `time` by readers that take up to `response` bytes a turn, `late` after they
    /// are due.
    fn sent_in(time: Duration, limit: &RateLimit, response: u64, late: Duration) -> u64 {
        let (begun, mut sent) = (limit.epoch, 0);
        let mut now = begun;
        while now < begun + time {
            match limit.allowance(now) {
                Allowance::Bytes(bytes) => {
                    let bytes = bytes.min(response);
                    sent += bytes;
                    limit.charge(bytes, now);
                }
                Allowance::NotBefore(due) => now = due + late,
            }
        }
        sent
    }

    #[test]
    fn a_rate_is_kept_to_whatever_the_turns_are_like() {
        for rate in [10_000, 200_000, 20_000_000, 1_000_000_000] {
            for late in [0, 300, 5_000, 40_000] {
                let limit = RateLimit::new(Some(rate), Instant::now());
                let late = Duration::from_micros(late);
                let sent = sent_in(20 * SECOND, &limit, u64::MAX, late);
                assert!(sent.abs_diff(20 * rate) < rate, "{rate} {late:?}: {sent}");
            }
        }
    }

    #[test]
    fn small_responses_one_after_another_keep_to_the_rate() {
        let limit = RateLimit::new(Some(200_000), Instant::now());
        let sent = sent_in(20 * SECOND, &limit, 14_000, Duration::from_micros(500));
        assert!(sent.abs_diff(4_000_000) < 200_000, "{sent}");
    }

    #[test]
    fn a_slow_reader_saves_little_up() {
        let limit = RateLimit::new(Some(1_000_000_000), Instant::now());
        let later = limit.epoch + 3600 * SECOND;
        assert_eq!(limit.allowance(later), Allowance::Bytes(52_000_000));
    }

    #[test]
    fn what_was_sent_before_is_paid_for_first() {
        let limit = RateLimit::new(Some(1_000), Instant::now());
        limit.charge(5_000, limit.epoch);
        let due = limit.epoch + 5 * SECOND;
        assert_eq!(limit.allowance(limit.epoch), Allowance::NotBefore(due));
        assert!(limit.is_in_debt(due - Duration::from_millis(1)));
        assert_eq!(limit.allowance(due), Allowance::Bytes(250));
    }

    #[test]
    fn no_rate_is_too_high_or_too_low() {
        for rate in [0, 1, u64::MAX] {
            let limit = RateLimit::new(Some(rate), Instant::now());
            assert!(matches!(
                limit.allowance(limit.epoch),
                Allowance::Bytes(1..)
            ));
            limit.charge(u64::MAX, limit.epoch);
            limit.charge(u64::MAX, limit.epoch);
            let _ = limit.allowance(limit.epoch);
        }
    }

    #[test]
    fn another_rate_holds_at_once_and_forgets_the_debts_of_the_last() {
        let limit = RateLimit::new(Some(1), Instant::now());
        limit.charge(3_600, limit.epoch);
        limit.set(Some(1));
        assert!(limit.is_in_debt(limit.epoch), "the same rate");
        limit.set(Some(1_000_000));
        assert!(!limit.is_in_debt(limit.epoch));
        limit.set(None);
        limit.charge(u64::MAX, limit.epoch);
        assert_eq!(limit.allowance(limit.epoch), Allowance::Bytes(u64::MAX));
    }

    #[test]
    fn the_latest_of_several_limits_holds() {
        let now = Instant::now();
        let (bytes, due) = (Allowance::Bytes, Allowance::NotBefore);
        assert_eq!(bytes(1).and(bytes(2)), bytes(1));
        assert_eq!(bytes(1).and(due(now)), due(now));
        assert_eq!(due(now + SECOND).and(due(now)), due(now + SECOND));
    }
}
