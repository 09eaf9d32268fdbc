//! The end of a connection: our side of the stream closes first, and the peer has time to take
//! what it was sent and to say its last.

use std::time::Instant;

use crate::server::connection::deferred_record::{LOOK_EVERY, outstanding};
use crate::server::connection::{Connection, Flow, State, Step, TurnContext};
use crate::server::telemetry::CloseReason;
use crate::sys::poller::Interest;
use crate::sys::socket;

/// All is sent and our side closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lingering {
    since: Instant,
    reason: CloseReason,
    discarded: u64,
    /// Bytes that had not arrived when the deadline last passed.
    outstanding: u64,
}

impl Connection {
    /// Ends our side of the stream. What the peer still sends is thrown away, and what it was
    /// sent has time to arrive.
    pub(super) fn end(&mut self, reason: CloseReason, now: Instant) -> Flow {
        let has_all = self.intake.has_ended() && self.receipt.is_none();
        if socket::end_of_stream(&self.stream).is_err() || has_all {
            return Flow::Stop(Step::Close(reason));
        }
        self.intake.clear();
        self.state = State::Lingering(Lingering {
            since: now,
            reason,
            discarded: 0,
            outstanding: u64::MAX,
        });
        Flow::Again
    }

    pub(super) fn linger(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        let State::Lingering(lingering) = &mut self.state else {
            return Flow::Again;
        };
        let is_owed = self.receipt.is_some() && outstanding(&self.stream) > 0;
        match self.intake.receive(&self.stream, &mut turn.tools.scratch) {
            Ok(true) if lingering.discarded < MAX_LINGER_BYTES => {
                lingering.discarded += self.intake.bytes().len() as u64;
                self.intake.clear();
                if self.intake.has_ended() && !is_owed {
                    return Flow::Stop(Step::Close(lingering.reason));
                }
                Flow::Again
            }
            // Behind the end of the peer's stream nothing is read, and no read tells of a reset.
            Ok(false)
                if !self.intake.has_ended() || matches!(self.stream.take_error(), Ok(None)) =>
            {
                self.deadline = lingering.since + turn.service.config.deadlines.linger;
                if self.receipt.is_some() {
                    self.deadline = self.deadline.min(turn.now + LOOK_EVERY);
                }
                Flow::Stop(Step::Park(Interest::Read))
            }
            Ok(_) | Err(_) if is_owed => Flow::Stop(Step::Close(CloseReason::Aborted)),
            Ok(_) | Err(_) => Flow::Stop(Step::Close(lingering.reason)),
        }
    }

    /// Over a slow line the last megabytes take their time: what moves is not cut.
    pub(super) fn look_while_lingering(&mut self, turn: &mut TurnContext<'_>) -> Step {
        let State::Lingering(lingering) = &mut self.state else {
            return Step::Yield;
        };
        let linger = turn.service.config.deadlines.linger;
        let is_over = turn.now >= lingering.since + linger;
        let outstanding = match &self.receipt {
            Some(_) => outstanding(&self.stream),
            None => 0,
        };
        if outstanding == 0 {
            if is_over || self.intake.has_ended() {
                return Step::Close(lingering.reason);
            }
        } else if is_over {
            if outstanding >= lingering.outstanding {
                return Step::Close(CloseReason::Stalled);
            }
            lingering.outstanding = outstanding;
            lingering.since = turn.now;
        }
        if outstanding == 0
            && let Some(receipt) = self.receipt.take()
        {
            receipt.write(turn.service);
        }
        self.advance(turn)
    }

    /// Writes the record of the last response once it has arrived.
    pub(super) fn look_for_arrival(&mut self, turn: &mut TurnContext<'_>) -> Step {
        if outstanding(&self.stream) == 0
            && let Some(receipt) = self.receipt.take()
        {
            receipt.write(turn.service);
            if turn.service.is_draining()
                && let Some(reason) = self.on_shutdown(turn.service)
            {
                return Step::Close(reason);
            }
        }
        self.advance(turn)
    }
}

/// What a peer may still send after its last response, before the connection is cut.
const MAX_LINGER_BYTES: u64 = 16 << 20;
