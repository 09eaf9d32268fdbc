//! The end of a connection: our side of the stream closes first, and the peer has time to receive
//! what is queued and to send its last bytes. Over TLS these are not decrypted any more.

use std::time::{Duration, Instant};

use crate::server::config::ServeConfig;
use crate::server::connection::request_buffer::{ByteSource, RequestBuffer};
use crate::server::telemetry::CloseReason;

/// The response is sent, and our side closed or about to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lingering {
    since: Instant,
    reason: CloseReason,
    /// Our sending side is closed, over TLS after `close_notify`.
    is_closed: bool,
    discarded: u64,
    /// Bytes that had not arrived when the deadline last passed, if it has.
    outstanding: Option<u64>,
}

/// The outcome of reading while lingering.
pub(super) enum LingerStep {
    /// There may be more to read.
    Again,
    /// Nothing to read for now.
    Wait,
    /// The peer has ended its side, or sent too much.
    Ended,
}

impl Lingering {
    pub(super) fn new(reason: CloseReason, is_closed: bool, now: Instant) -> Self {
        Self {
            since: now,
            reason,
            is_closed,
            discarded: 0,
            outstanding: None,
        }
    }

    /// How the connection ends if nothing goes wrong.
    pub(super) fn reason(&self) -> CloseReason {
        self.reason
    }

    /// Whether our side is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Notes that our side is closed now.
    pub(super) fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// How long the peer has taken nothing, or since the end began.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(super) fn deadline(&self, config: &ServeConfig) -> Instant {
        self.since + config.deadlines.linger
    }

    /// Reads once and discards it; `is_owed` if the last response is not acknowledged.
    pub(super) fn advance(
        &mut self,
        source: &mut ByteSource<'_>,
        received: &mut RequestBuffer,
        is_owed: bool,
        scratch: &mut [u8],
    ) -> LingerStep {
        match received.discard(source, scratch) {
            Ok(true) if self.discarded < MAX_LINGER_BYTES => {
                self.discarded += received.bytes().len() as u64;
                received.clear();
                match received.has_ended() && !is_owed {
                    true => LingerStep::Ended,
                    false => LingerStep::Again,
                }
            }
            // Nothing is read behind the end of the peer's stream, so no read reports a reset.
            Ok(false)
                if !received.has_ended() || matches!(source.stream.take_error(), Ok(None)) =>
            {
                LingerStep::Wait
            }
            Ok(_) | Err(_) => LingerStep::Ended,
        }
    }

    /// The deadline has passed with so many bytes not yet acknowledged. Fails if that is the end.
    pub(super) fn expire(
        &mut self,
        outstanding: u64,
        received: &RequestBuffer,
        config: &ServeConfig,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let is_over = now >= self.deadline(config);
        if outstanding == 0 {
            return match is_over || received.has_ended() {
                true => Err(self.reason),
                false => Ok(()),
            };
        }
        if is_over {
            if self.outstanding.is_some_and(|before| outstanding >= before) {
                return Err(CloseReason::Stalled);
            }
            self.outstanding = Some(outstanding);
            self.since = now;
        }
        Ok(())
    }
}

/// Bytes that a peer may send after its last response before the connection is cut.
const MAX_LINGER_BYTES: u64 = 16 << 20;
