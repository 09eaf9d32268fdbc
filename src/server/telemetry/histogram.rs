//! Histograms of times, in parts for each thread as all counters are.

use std::time::Duration;

use crate::server::telemetry::counters::Counter;

/// How many times fell below each bound, and their sum.
#[derive(Debug)]
pub struct Histogram {
    /// A counter for each of [`BOUNDS`], one for longer durations, and one for the nanoseconds of
    /// all.
    counters: Box<[Counter]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counters: some_counters(BOUNDS.len() + 2),
        }
    }
}

/// So many counters, each made on the heap: together they would take much of a thread's stack.
pub(super) fn some_counters(count: usize) -> Box<[Counter]> {
    std::iter::repeat_with(Counter::default)
        .take(count)
        .collect()
}

const NANOSECONDS: usize = BOUNDS.len() + 1;

/// Upper bounds in seconds: a response takes from microseconds to days.
pub const BOUNDS: [f64; 14] = [
    0.000_25, 0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 15.0, 60.0, 240.0, 900.0, 3600.0, 14400.0,
];

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Times within each bucket alone; the last one has no bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All times together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counters[bucket].add(1);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counters[NANOSECONDS].add(nanoseconds);
    }

    /// Reads all counters; together they are of nearly the same moment.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|at| self.counters[at].sum()),
            sum: self.counters[NANOSECONDS].sum() as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_at_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        for time in [1, 1_000, 1_001, 16_000_000, 20_000_000_000] {
            histogram.observe(Duration::from_micros(time));
        }
        let found = histogram.distribution();
        assert_eq!(found.counts[0], 1);
        assert_eq!((found.counts[1], found.counts[2]), (1, 1));
        assert_eq!((found.counts[9], found.counts[14]), (1, 1));
        assert_eq!(found.counts.iter().sum::<u64>(), 5);
        assert!((found.sum - 20_016.002_002).abs() < 1e-9, "{}", found.sum);
    }
}
