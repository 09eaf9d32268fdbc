//! A connection's rate, and who keeps to it.
//!
//! The kernel does where it can: it spreads segments evenly, and nobody here wakes for it. It
//! waits for a timer between segments, though, and makes up for a late one by half a segment's
//! time at the most. Where timers come later than that (a tenth of a millisecond is usual on
//! virtual machines), high rates come out low, down to half. So those are kept to here, by turns:
//! a burst is sent when the bytes before it are due, and what a late turn missed is made up for.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::sys::socket;

/// The rate of a connection, over all its responses.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// In bytes a second.
    rate: Option<u64>,
    /// Where turns keep to it: when all that was sent is due.
    due: Option<Instant>,
    /// A turn had to be put off.
    is_throttled: bool,
}

/// What a turn may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// So many bytes, or a little more.
    Bytes(u64),
    /// Nothing before this time.
    NotBefore(Instant),
}

impl Pacer {
    /// The rate, if there is one.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Has a rate kept to from now on.
    pub(super) fn set(&mut self, stream: &TcpStream, rate: Option<u64>, now: Instant) {
        if self.rate == rate {
            return;
        }
        let for_kernel = rate.filter(|rate| *rate < KEPT_BY_TURNS_FROM);
        let told = socket::pace(stream, for_kernel);
        self.rate = rate;
        self.due = match (rate, for_kernel) {
            (None, _) => None,
            (_, Some(_)) if told.is_ok() => None,
            _ => Some(self.due.unwrap_or(now)),
        };
    }

    /// What may be sent in a turn that begins now.
    pub(super) fn allowance(&mut self, now: Instant) -> Allowance {
        self.is_throttled = false;
        let (Some(rate), Some(due)) = (self.rate, self.due) else {
            return Allowance::Bytes(u64::MAX);
        };
        if due > now {
            self.is_throttled = true;
            return Allowance::NotBefore(due);
        }
        let late = now.duration_since(due).min(MADE_UP_FOR);
        self.due = Some(now - late);
        let missed = rate as f64 * late.as_secs_f64();
        let burst = rate as f64 * BURST.as_secs_f64();
        Allowance::Bytes((missed + burst) as u64 + 1)
    }

    /// Notes that bytes were sent.
    pub(super) fn spend(&mut self, bytes: u64) {
        if let (Some(rate), Some(due)) = (self.rate, &mut self.due) {
            let seconds = (bytes as f64 / rate as f64).min(MOST_OWED);
            *due += Duration::from_secs_f64(seconds);
        }
    }

    /// Whether the last turn was put off, so that the connection waits for the time alone.
    pub(super) fn is_throttled(&self) -> bool {
        self.is_throttled
    }
}

/// From this rate on a segment takes less time than some timers are late.
const KEPT_BY_TURNS_FROM: u64 = 64 << 20;

/// The time that a burst makes up: pollers wait in milliseconds.
const BURST: Duration = Duration::from_millis(2);

/// A peer, or a disk, that was slower than the rate for longer than this has lost the rest.
const MADE_UP_FOR: Duration = Duration::from_millis(50);

/// In seconds, so that times stay within what clocks can say.
const MOST_OWED: f64 = 1e9;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const RATE: u64 = 1_000_000_000;

    fn socket() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        TcpStream::connect(listener.local_addr().expect("bound")).expect("connects")
    }

    fn paced(rate: u64, now: Instant) -> Pacer {
        let mut pace = Pacer::default();
        pace.set(&socket(), Some(rate), now);
        pace
    }

    /// Bytes sent in a second of turns that come `late` after they are due.
    fn sent_in_a_second(late: Duration) -> u64 {
        let begun = Instant::now();
        let (mut pace, mut now, mut sent) = (paced(RATE, begun), begun, 0);
        while now < begun + Duration::from_secs(1) {
            match pace.allowance(now) {
                Allowance::Bytes(bytes) => {
                    sent += bytes;
                    pace.spend(bytes);
                }
                Allowance::NotBefore(due) => now = due + late,
            }
        }
        sent
    }

    #[test]
    fn turns_that_come_late_make_up_for_it() {
        for late in [0, 300, 5_000, 40_000] {
            let sent = sent_in_a_second(Duration::from_micros(late));
            let off = sent.abs_diff(RATE);
            assert!(off < RATE / 20, "{late} us late: {sent}");
        }
    }

    #[test]
    fn who_takes_less_saves_little_up() {
        let begun = Instant::now();
        let mut pace = paced(RATE, begun);
        let later = begun + Duration::from_secs(3600);
        let most = (MADE_UP_FOR + BURST).as_millis() as u64 * (RATE / 1000);
        assert_eq!(pace.allowance(later), Allowance::Bytes(most + 1));
    }

    #[test]
    fn the_kernel_keeps_to_low_rates() {
        let begun = Instant::now();
        let mut pace = paced(1_000_000, begun);
        pace.spend(1 << 30);
        if cfg!(target_os = "linux") {
            assert_eq!(pace.allowance(begun), Allowance::Bytes(u64::MAX));
        }
    }

    #[test]
    fn a_rate_that_changes_keeps_its_debts() {
        let begun = Instant::now();
        let mut pace = paced(RATE, begun);
        pace.spend(RATE);
        pace.set(&socket(), Some(RATE / 2), begun);
        assert!(matches!(pace.allowance(begun), Allowance::NotBefore(_)));
        assert!(pace.is_throttled());
        pace.set(&socket(), None, begun);
        assert_eq!(pace.allowance(begun), Allowance::Bytes(u64::MAX));
        assert!(!pace.is_throttled());
    }

    #[test]
    fn no_rate_is_too_high() {
        let begun = Instant::now();
        let mut pace = paced(u64::MAX, begun);
        assert!(matches!(pace.allowance(begun), Allowance::Bytes(_)));
        pace.spend(u64::MAX);
        let _ = pace.allowance(begun);
    }
}
