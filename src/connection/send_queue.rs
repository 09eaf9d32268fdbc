//! A connection's send queue in the kernel: how much may wait in it, how fast it drains, and when
//! incomplete segments leave it.
//!
//! A long queue is what fast readers want: each time it fills costs a wake-up. A stalled reader's
//! queue is kernel memory that everybody else lacks. So every queue is short at first, and long
//! for a limited number of peers that have proved to take what they are sent.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::permits::{Permit, Permits};
use crate::sys::socket;

/// What is set on a connection's socket.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pace: Option<Pace>,
    /// The right to a long queue.
    long: Option<Permit>,
    /// Incomplete segments are held back.
    corked: bool,
}

impl SendQueue {
    /// Has the kernel keep to a rate in bytes a second; `sent` bytes of the response are on their
    /// way.
    pub(super) fn pace(&mut self, stream: &TcpStream, rate: Option<u64>, sent: u64, now: Instant) {
        let pace = match (&mut self.pace, rate) {
            (None, None) => return,
            (Some(pace), Some(rate)) if pace.rate == rate => {
                if let Some(told) = pace.correct(sent, now)
                    && socket::pace(stream, Some(told)).is_ok()
                {
                    pace.told = told;
                }
                return;
            }
            (_, rate) => rate.map(|rate| Pace::new(rate, sent, now)),
        };
        if socket::pace(stream, rate).is_ok() {
            self.pace = pace;
        }
    }

    /// A response begins whose content comes from a file by sendfile(2), which would send each
    /// piece's last segment incomplete.
    pub(super) fn begin_large(&mut self, stream: &TcpStream) {
        self.corked = socket::cork(stream, true).is_ok();
    }

    /// The queue is full, after `sent` bytes of a response. Lets it be longer if the peer has
    /// proved to take what it is sent: more than fits a queue and a window of one that does not.
    pub(super) fn note_full(&mut self, stream: &TcpStream, sent: u64, long_queues: &Arc<Permits>) {
        if self.long.is_some() || sent < PROOF_BYTES {
            return;
        }
        if let Some(permit) = long_queues.take()
            && socket::limit_unsent(stream, self.long_bytes()).is_ok()
        {
            self.long = Some(permit);
        }
    }

    /// The peer has stopped taking bytes: somebody else may have the long queue.
    pub(super) fn note_stall(&mut self, stream: &TcpStream) {
        if self.long.take().is_some() {
            // What is in the queue stays there; no more goes in.
            let _ = socket::limit_unsent(stream, UNSENT_BYTES);
        }
    }

    /// A response is in the queue: lets its last segment go, and starts the next one short.
    pub(super) fn end(&mut self, stream: &TcpStream) {
        if std::mem::take(&mut self.corked) {
            let _ = socket::cork(stream, false);
        }
        self.note_stall(stream);
    }

    /// The kernel's pacing keeps a queue from draining faster than its rate: a tenth of a second
    /// of it never runs dry, and more would only be memory.
    fn long_bytes(&self) -> u32 {
        let paced = self.pace.as_ref().map_or(u64::MAX, |pace| {
            (pace.rate / 10).max(u64::from(UNSENT_BYTES))
        });
        u32::try_from(paced).unwrap_or(u32::MAX).min(LONG_BYTES)
    }
}

/// A rate that the kernel keeps to.
///
/// It waits for a timer between segments and makes up for a late one by half a segment's time at
/// the most. Where timers come later than that (on virtual machines a tenth of a millisecond is
/// usual), high rates come out low. So what high rates come to is measured, and the kernel is
/// told more.
#[derive(Debug)]
struct Pace {
    rate: u64,
    /// What the kernel was told.
    told: u64,
    /// When the measurement began, and the bytes sent then.
    since: (Instant, u64),
}

impl Pace {
    fn new(rate: u64, sent: u64, now: Instant) -> Self {
        Self {
            rate,
            told: rate,
            since: (now, sent),
        }
    }

    /// What the kernel should be told from now on, if it is something else.
    fn correct(&mut self, sent: u64, now: Instant) -> Option<u64> {
        if self.rate < CORRECTED_FROM {
            return None;
        }
        // Another response has begun since: what came of this one says nothing, nor does the
        // silence between the two.
        let bytes = sent.checked_sub(self.since.1).filter(|_| sent > 0);
        let Some(bytes) = bytes else {
            self.since = (now, sent);
            return None;
        };
        let elapsed = now.saturating_duration_since(self.since.0);
        if elapsed < MEASURED_OVER {
            return None;
        }
        self.since = (now, sent);
        let measured = bytes as f64 / elapsed.as_secs_f64();
        let told = self.told as f64 * self.rate as f64 / measured.max(1.0);
        // A peer that takes less than it may must not have saved up for later.
        let told = (told as u64).clamp(self.rate, self.rate.saturating_mul(MOST_CORRECTION));
        (told.abs_diff(self.told) > self.rate / 100).then_some(told)
    }
}

/// What may wait unsent in a connection's send queue at first: enough for a fast reader on a
/// short line, and so little that ten thousand stalled readers leave the kernel's TCP memory to
/// those who read.
pub(crate) const UNSENT_BYTES: u32 = 16 << 10;

/// What may wait unsent for a peer that reads.
const LONG_BYTES: u32 = 4 << 20;

/// A peer that was sent this much of a response has taken most of it: a window and a short queue
/// hold less.
const PROOF_BYTES: u64 = 1 << 20;

/// Below this rate a segment takes longer than any timer is late.
const CORRECTED_FROM: u64 = 64 << 20;
const MEASURED_OVER: Duration = Duration::from_millis(200);
const MOST_CORRECTION: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000_000;

    /// What the kernel is told after bytes went out at these rates for a window each.
    fn told_after(rate: u64, measured: &[u64]) -> u64 {
        let (mut now, mut sent) = (Instant::now(), 0);
        let mut pace = Pace::new(rate, sent, now);
        for measured in measured {
            now += MEASURED_OVER;
            sent += measured / 5;
            if let Some(told) = pace.correct(sent, now) {
                pace.told = told;
            }
        }
        pace.told
    }

    #[test]
    fn a_rate_that_comes_out_low_is_corrected_and_taken_back() {
        assert_eq!(told_after(RATE, &[RATE]), RATE);
        assert_eq!(told_after(RATE, &[RATE / 2]), 2 * RATE);
        assert_eq!(told_after(RATE, &[RATE / 2, RATE]), 2 * RATE);
        assert_eq!(told_after(RATE, &[RATE / 2, 2 * RATE]), RATE);
        assert_eq!(told_after(RATE, &[RATE, 2 * RATE]), RATE, "never below");
    }

    #[test]
    fn a_slow_peer_saves_little_up_and_a_low_rate_is_left_alone() {
        assert_eq!(told_after(RATE, &[5, 5, 5]), MOST_CORRECTION * RATE);
        assert_eq!(told_after(1_000_000, &[1, 1, 1]), 1_000_000);
    }

    #[test]
    fn the_next_response_begins_a_measurement_of_its_own() {
        let now = Instant::now();
        let mut pace = Pace::new(RATE, 500, now);
        assert_eq!(pace.correct(0, now + MEASURED_OVER), None);
        assert_eq!(pace.correct(RATE / 5, now + 2 * MEASURED_OVER), None);
    }

    #[test]
    fn silence_between_two_responses_is_no_low_rate() {
        let now = Instant::now();
        let mut pace = Pace::new(RATE, 0, now);
        assert_eq!(pace.correct(0, now + 5 * MEASURED_OVER), None);
        assert_eq!(pace.correct(RATE / 5, now + 6 * MEASURED_OVER), None);
    }

    #[test]
    fn no_rate_is_too_high_to_be_corrected() {
        let now = Instant::now();
        let mut pace = Pace::new(u64::MAX, 0, now);
        assert_eq!(pace.correct(1, now + MEASURED_OVER), None);
    }
}
