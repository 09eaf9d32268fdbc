//! Responses by outcome, and their durations.

use std::time::Duration;

use crate::http::Protocol;
use crate::server::telemetry::close_reason::CloseReason;
use crate::server::telemetry::counters::{Counter, Counters};
use crate::server::telemetry::histogram::{Distribution, Histogram, some_counters};

/// Counters of responses.
#[derive(Debug)]
pub struct Responses {
    /// By protocol, and by the first digit of the status; 0 for responses without one.
    by_status: Box<[Counter]>,
    by_outcome: Box<[Counter]>,
    /// From the whole request to the first byte of its response.
    first_byte: Histogram,
    /// From the whole request to the last byte.
    duration: Histogram,
}

/// None, and 1xx to 5xx.
pub const STATUS_CLASSES: usize = 6;

/// Responses by outcome so far.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseCounts {
    /// By the order of [`Protocol::ALL`], and by the first digit of the status.
    pub by_status: [[u64; STATUS_CLASSES]; Protocol::ALL.len()],
    /// By the order of [`CloseReason::ALL`].
    pub by_outcome: [u64; CloseReason::ALL.len()],
    /// Seconds from the whole request to the first byte of its response.
    pub first_byte: Distribution,
    /// Seconds from the whole request to the last byte.
    pub duration: Distribution,
}

impl Default for Responses {
    fn default() -> Self {
        Self {
            by_status: some_counters(Protocol::ALL.len() * STATUS_CLASSES),
            by_outcome: some_counters(CloseReason::ALL.len()),
            first_byte: Histogram::default(),
            duration: Histogram::default(),
        }
    }
}

impl Responses {
    /// Counts the first byte of a response.
    pub(crate) fn count_first_byte(&self, time: Duration) {
        self.first_byte.observe(time);
    }

    /// Counts the end of a response.
    pub(crate) fn count_end(
        &self,
        protocol: Protocol,
        status: u16,
        outcome: CloseReason,
        time: Duration,
    ) {
        let class = usize::from(status / 100).min(STATUS_CLASSES - 1);
        Counters::add_one(&self.by_status[protocol as usize * STATUS_CLASSES + class]);
        Counters::add_one(&self.by_outcome[outcome as usize]);
        self.duration.observe(time);
    }

    /// Reads all counters; together they are of nearly the same moment.
    #[must_use]
    pub fn counts(&self) -> ResponseCounts {
        let sum =
            |protocol: usize, class: usize| self.by_status[protocol * STATUS_CLASSES + class].sum();
        ResponseCounts {
            by_status: std::array::from_fn(|protocol| {
                std::array::from_fn(|class| sum(protocol, class))
            }),
            by_outcome: std::array::from_fn(|at| self.by_outcome[at].sum()),
            first_byte: self.first_byte.distribution(),
            duration: self.duration.distribution(),
        }
    }
}
