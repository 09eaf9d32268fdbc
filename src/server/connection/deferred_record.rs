//! Deferred records: a large response is logged with the acknowledged bytes, not those in the send
//! queue.
//!
//! The kernel takes megabytes more than the peer has acknowledged. The record of a large response
//! waits until nothing is outstanding, or until the connection ends with something that is.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason};
use crate::sys::socket;

/// The record of a response that was sent and may not have arrived.
#[derive(Debug)]
pub(super) struct DeferredRecord {
    record: AccessRecord,
    /// When the connection's own deadline passes; until then it is looked at more often.
    pub(super) deadline: Instant,
}

impl DeferredRecord {
    /// Writes the record now if all bytes were acknowledged as far as the system shows, or if they
    /// are too few to wait for.
    pub(super) fn defer(
        record: AccessRecord,
        outstanding: impl FnOnce() -> u64,
        service: &Shared,
    ) -> Option<Box<Self>> {
        if record.sent >= WORTH_WAITING && outstanding() > 0 {
            let deadline = Instant::now();
            return Some(Box::new(Self { record, deadline }));
        }
        service.journal.record(record);
        None
    }

    /// Writes the record as it is: all bytes have arrived, or no later look can show it.
    pub(super) fn flush(self, service: &Shared) {
        service.journal.record(self.record);
    }

    /// Writes the record of a response whose connection ends now, with so many bytes missing.
    pub(super) fn finish(mut self, missing: u64, service: &Shared) {
        if missing > 0 {
            self.record.sent = self.record.sent.saturating_sub(missing);
            self.record.outcome = CloseReason::Aborted;
            self.record.detail = "the peer did not acknowledge the rest";
        }
        self.flush(service);
    }
}

/// Bytes of responses that the peer has not acknowledged. The kernel counts our FIN as one byte,
/// which may be wrong by that much for a peer that vanished just then.
pub(super) fn outstanding(stream: &TcpStream) -> u64 {
    socket::unacknowledged(stream)
        .unwrap_or(0)
        .saturating_sub(1)
}

/// Content of this size fits no send buffer of the usual size before the peer has taken some.
const WORTH_WAITING: u64 = 64 << 10;

/// An idle connection whose last response has not arrived is looked at this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
