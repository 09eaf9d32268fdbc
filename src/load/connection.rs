//! A connection of the generator: connect, send a request, read the head, discard the content, and
//! begin again.

mod request;
mod response;
mod step;

use std::time::{Duration, Instant};

use crate::sys::poller::Interest;

use super::exchange::Exchange;
use super::phase::Phase;
use super::tally::{Failure, Question};
use super::thread_context::ThreadContext;
pub(super) use response::HEAD_ROOM;
pub(super) use step::Next;
use step::{Stepped, fail};

/// A connection that a generator keeps busy. The socket changes, the place remains.
#[derive(Debug)]
pub(super) struct Connection {
    /// The place in the generator's list, and the token of its events.
    token: usize,
    phase: Phase,
}

impl Connection {
    pub(super) fn new(token: usize) -> Self {
        Self {
            token,
            phase: Phase::Down,
        }
    }

    /// Whether the next request has to connect first.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down)
    }

    /// Begins a request that was meant to be sent at `intended`.
    pub(super) fn ask(
        &mut self,
        question: Question,
        intended: Instant,
        context: &mut ThreadContext<'_>,
    ) -> Next {
        let exchange = Exchange::new(question, intended, context.config.bodies);
        let (phase, next) = match self.take(context) {
            Phase::Idle(mut stream) => {
                stream.moved = context.now;
                (Phase::Sending(stream, exchange, 0), None)
            }
            _ => request::connect(exchange, context),
        };
        self.put(phase, context);
        next.unwrap_or_else(|| self.advance(false, context))
    }

    /// Goes on as far as the socket allows. After the event that the peer has `hung_up`, short
    /// receives are repeated.
    pub(super) fn advance(&mut self, hung_up: bool, context: &mut ThreadContext<'_>) -> Next {
        if let Some(stream) = self.phase.stream_mut() {
            stream.hung_up |= hung_up;
        }
        loop {
            let (phase, next) = match self.take(context) {
                Phase::Down => (Phase::Down, Some(Next::Wait)),
                Phase::Idle(stream) => response::check_idle(stream, context),
                Phase::Connecting(stream, exchange) => {
                    request::finish_connect(stream, exchange, context)
                }
                Phase::ShakingHands(stream, exchange, began) => {
                    request::shake_hands(stream, exchange, began, context)
                }
                Phase::Sending(stream, exchange, sent) => {
                    request::send(stream, exchange, sent, context)
                }
                Phase::Awaiting(stream, exchange, head) => {
                    response::read_head(self.token, stream, exchange, head, context)
                }
                Phase::Receiving(stream, exchange, left) => {
                    response::receive(self.token, stream, exchange, left, context)
                }
                Phase::Closing(stream) => response::close(stream, context),
            };
            let (phase, next) = match next {
                Some(Next::Wait | Next::Ready) => self.watch(phase, next, context),
                next => (phase, next),
            };
            self.put(phase, context);
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Watches for what the phase waits for.
    fn watch(
        &self,
        mut phase: Phase,
        next: Option<Next>,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let interest = match &phase {
            Phase::Connecting(..) | Phase::Sending(..) => Interest::Write,
            Phase::ShakingHands(stream, ..) if stream.has_unsent() => Interest::Write,
            _ => Interest::Read,
        };
        let Some(stream) = phase.stream_mut() else {
            return (phase, next);
        };
        match stream.watch(self.token, interest, &context.poller) {
            Ok(()) => (phase, next),
            Err(error) => fail(Failure::of(&error), context),
        }
    }

    /// Gives a connection up on which nothing has moved for `timeout`.
    pub(super) fn expire(
        &mut self,
        timeout: Duration,
        context: &mut ThreadContext<'_>,
    ) -> Option<Next> {
        if let Phase::Idle(_) = self.phase {
            return None;
        }
        let moved = self.phase.stream_mut()?.moved;
        if context.now.saturating_duration_since(moved) < timeout {
            return None;
        }
        if let Phase::Closing(_) = self.take(context) {
            return Some(Next::Ready);
        }
        context.tally.fail(Failure::TimedOut);
        Some(Next::BackOff)
    }

    fn take(&mut self, context: &mut ThreadContext<'_>) -> Phase {
        let phase = std::mem::take(&mut self.phase);
        context.counts.leave(&phase);
        phase
    }

    fn put(&mut self, phase: Phase, context: &mut ThreadContext<'_>) {
        context.counts.enter(&phase);
        self.phase = phase;
    }
}
