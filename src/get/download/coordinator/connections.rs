//! How many connections a session should have: the scaler, with the session's clock and counters.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::get::config::Segments;
use crate::get::download::scaler::{ConnectionScaler, Sample};
use crate::get::download::session::Session;

/// The scaler of a running session.
#[derive(Debug)]
pub(super) struct Connections {
    scaler: ConnectionScaler,
    began: Instant,
    ticked: Instant,
}

/// The bytes of a session after a tick.
pub(super) struct Ticked {
    /// Received so far, repeated bytes included.
    pub(super) received: u64,
    /// The next progress report is due.
    pub(super) is_report_due: bool,
}

impl Connections {
    pub(super) fn new(segments: Segments) -> Self {
        let now = Instant::now();
        Self {
            scaler: ConnectionScaler::new(segments),
            began: now,
            ticked: now,
        }
    }

    /// How many connections are wanted now.
    pub(super) fn want(&self) -> usize {
        self.scaler.want()
    }

    /// The server takes no more connections than these, for now.
    pub(super) fn limit(&mut self, connections: usize) {
        self.scaler.limit(connections, self.began.elapsed());
    }

    /// Sets the wanted number to one for good.
    pub(super) fn fix_to_one(&mut self) {
        self.scaler = ConnectionScaler::new(Segments::Fixed(1));
    }

    /// Adjusts to the received bytes; segments' rates are updated every [`TICK_EVERY`].
    pub(super) fn tick(&mut self, session: &Session<'_>) -> Ticked {
        let elapsed = self.ticked.elapsed();
        let is_report_due = elapsed >= TICK_EVERY;
        let (received, left) = {
            let mut plan = session.plan();
            if is_report_due {
                plan.tick(elapsed);
            }
            let done = plan.done().total();
            let left = plan.length().map_or(0, |length| length - done);
            (plan.received(), left)
        };
        if is_report_due {
            self.ticked = Instant::now();
        }
        let writing = session.writing_nanos.load(Ordering::Relaxed);
        self.scaler.observe(Sample {
            now: self.began.elapsed(),
            received,
            left,
            writing: Duration::from_nanos(writing),
        });
        Ticked {
            received,
            is_report_due,
        }
    }
}

const TICK_EVERY: Duration = Duration::from_millis(200);
