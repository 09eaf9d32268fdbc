//! Work for an observer in small pieces: ten thousand transfers are looked at without a request's
//! waiting for the processor meanwhile.

use std::time::{Duration, Instant};

/// The pace of one piece of work.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    steps: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        let since = Instant::now();
        Self { since, steps: 0 }
    }

    /// To be called after each small step: rests as long as it has worked.
    pub(super) fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS) && self.since.elapsed() >= WORK {
            std::thread::sleep(WORK);
            self.since = Instant::now();
        }
    }
}

/// Less than a scheduler's slice; a look at ten thousand cards takes some milliseconds in all.
const WORK: Duration = Duration::from_micros(200);
/// Looking at the clock is no step's business.
const STEPS: u32 = 16;
