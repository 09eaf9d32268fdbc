//! A response from its beginning to its end, as a state of its connection.

use std::time::Instant;

use crate::http::{Persistence, Refusal};
use crate::server::connection::deferred_record::DeferredRecord;
use crate::server::connection::prepare::{PendingRequest, PreparedResponse};
use crate::server::connection::receive::Receiving;
use crate::server::connection::sending::{Flowing, Sending};
use crate::server::connection::{Connection, Flow, State, Step, TurnContext};
use crate::server::shared::Shared;
use crate::server::telemetry::CloseReason;
use crate::sys::poller::Interest;
use crate::sys::socket;

impl Connection {
    /// Begins to send an answer to what was asked.
    pub(super) fn start(&mut self, answer: PreparedResponse, service: &Shared) {
        let State::Answering(asked) = &mut self.state else {
            return;
        };
        if let Some(receipt) = self.receipt.take() {
            // Whoever asks for more has had it, or it cannot be told apart any more.
            receipt.write(service);
        }
        service.begin_transfer(self.membership.client());
        let asked = std::mem::replace(
            &mut **asked,
            PendingRequest::malformed(Refusal::NotFound, [].into()),
        );
        let sending = Sending::new(asked, answer, service);
        if sending.ends_like_a_file() {
            // From here to the last byte even the death of the process must look like a break.
            let _ = socket::reset_on_close(&self.stream);
        }
        if sending.is_large() {
            self.queue.begin_large(&self.stream);
        }
        self.state = State::Sending(Box::new(sending));
    }

    pub(super) fn send(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        let State::Sending(sending) = &mut self.state else {
            return Flow::Again;
        };
        let client = self.membership.client();
        let rate = turn.service.rate_for(client);
        self.pace.set(&self.stream, rate, turn.now);
        match sending.advance(&self.stream, turn, client, &mut self.pace) {
            Flowing::Done => self.finish(turn),
            Flowing::Blocked(deadline) => {
                let long_queues = &turn.service.long_queues;
                let so_far = (sending.sent(), self.pace.rate());
                self.queue.note_full(&self.stream, so_far, long_queues);
                self.deadline = deadline;
                Flow::Stop(Step::Park(Interest::Write))
            }
            Flowing::Resting(due) => {
                self.deadline = due;
                Flow::Stop(Step::StreamedBody)
            }
            Flowing::Spent => Flow::Stop(Step::Yield),
            Flowing::Warm(errand) => Flow::Stop(Step::Warm(errand)),
            Flowing::Broken(CloseReason::Changed) if self.may_answer_anew() => {
                self.restart_response(turn)
            }
            Flowing::Broken(reason) => Flow::Stop(Step::Close(reason)),
        }
    }

    /// Whether nothing of the response has left, so that another can take its place. A file that
    /// changes each time is not waited for.
    fn may_answer_anew(&self) -> bool {
        matches!(&self.state, State::Sending(sending) if sending.sent() == 0)
            && self.restarts < MAX_RENEWALS
    }

    /// The file has changed before its first byte was sent: answers with what it is now.
    fn restart_response(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        self.restarts += 1;
        turn.now = Instant::now();
        if let Some(sending) = self.take_sending(turn) {
            self.state = State::Answering(Box::new(sending.into_asked()));
        }
        Flow::Again
    }

    /// Ends the sending state; what follows is another request or another answer.
    fn take_sending(&mut self, turn: &TurnContext<'_>) -> Option<Box<Sending>> {
        let next = State::Receiving(Receiving::next(turn.now));
        let State::Sending(sending) = std::mem::replace(&mut self.state, next) else {
            return None;
        };
        turn.service.end_transfer(self.membership.client());
        self.queue.end(&self.stream);
        if sending.ends_like_a_file() {
            let _ = socket::orderly_on_close(&self.stream);
        }
        Some(sending)
    }

    /// Records a response that was sent, and goes on to the next request or to the end.
    fn finish(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        turn.now = Instant::now();
        self.restarts = 0;
        let Some(sending) = self.take_sending(turn) else {
            return Flow::Again;
        };
        let outcome = sending.outcome();
        let persistence = sending.persistence();
        let is_last = sending.answers_the_last() && !sending.ends_like_a_file();
        self.receipt = sending
            .into_record(outcome, self.peer, turn.service)
            .and_then(|record| DeferredRecord::of(record, &self.stream, turn.service));
        if persistence == Persistence::KeepAlive {
            self.deadline = turn.now + turn.service.config.deadlines.idle;
            return Flow::Again;
        }
        if is_last && self.has_nothing_to_wait_for() {
            return Flow::Stop(Step::Close(outcome));
        }
        // A close with bytes unread would be a reset, and might take the response with it.
        self.end(outcome, turn.now)
    }

    /// Whether the peer has acknowledged all (RFC 9112 section 9.6), and sent nothing more, which
    /// would make the close a reset.
    fn has_nothing_to_wait_for(&self) -> bool {
        self.intake.is_empty()
            && socket::unacknowledged(&self.stream) == Some(0)
            && socket::unread(&self.stream) == Some(0)
    }
}

/// Answers to one request that a changing file may cost before the connection is reset.
const MAX_RENEWALS: u8 = 3;
