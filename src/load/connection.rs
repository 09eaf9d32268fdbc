//! A connection of the generator: connect, ask, read the head, have the content thrown away, and
//! begin again.

use std::io;
use std::time::{Duration, Instant};

use crate::http::Persistence;
use crate::http::chunked::Piece;
use crate::sys::client_socket;
use crate::sys::poller::Interest;
use crate::tls::client::Channel;

use super::exchange::{Chunks, Exchange, Left, parse_head};
use super::link::Link;
use super::phase::Phase;
use super::tally::{Failure, Question, Tally, record};
use super::target::Wire;
use super::thread_context::ThreadContext;

/// A connection that a generator keeps busy. The socket changes, the place remains.
#[derive(Debug)]
pub(super) struct Connection {
    /// The place in the generator's list, and the token of its events.
    token: usize,
    phase: Phase,
}

/// The event that a connection waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// For its socket.
    Wait,
    /// For another request.
    Ready,
    /// For other connections' turns: its socket has more for it.
    Turn,
    /// For a while, since the last attempt failed.
    BackOff,
}

type Stepped = (Phase, Option<Next>);

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
            Phase::Idle(mut link) => {
                link.moved = context.now;
                (Phase::Sending(link, exchange, 0), None)
            }
            _ => connect(exchange, context),
        };
        self.put(phase, context);
        next.unwrap_or_else(|| self.advance(false, context))
    }

    /// Goes on as far as the socket allows. After the event that the peer has `hung_up`, short
    /// receives are followed by another.
    pub(super) fn advance(&mut self, hung_up: bool, context: &mut ThreadContext<'_>) -> Next {
        if let Some(link) = self.phase.link_mut() {
            link.hung_up |= hung_up;
        }
        loop {
            let (phase, next) = match self.take(context) {
                Phase::Down => (Phase::Down, Some(Next::Wait)),
                Phase::Idle(link) => self.check_idle(link, context),
                Phase::Connecting(link, exchange) => self.finish_connect(link, exchange, context),
                Phase::ShakingHands(link, exchange, began) => {
                    self.shake_hands(link, exchange, began, context)
                }
                Phase::Sending(link, exchange, sent) => self.send(link, exchange, sent, context),
                Phase::Awaiting(link, exchange, head) => {
                    self.read_head(link, exchange, head, context)
                }
                Phase::Receiving(link, exchange, left) => {
                    self.receive(link, exchange, left, context)
                }
                Phase::Closing(link) => self.close(link, context),
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
            Phase::ShakingHands(link, ..) if link.has_unsent() => Interest::Write,
            _ => Interest::Read,
        };
        let Some(link) = phase.link_mut() else {
            return (phase, next);
        };
        match link.watch(self.token, interest, &context.poller) {
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
        let moved = self.phase.link_mut()?.moved;
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

    /// Sends right away: on a fast network the connection is there by now, and where it is not,
    /// `send` says so.
    fn finish_connect(
        &self,
        mut link: Link,
        exchange: Exchange,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let first = match link.handshake() {
            None => send_rest(&mut link, &exchange, 0, context),
            Some((channel, socket)) => channel.flush(socket).map(|()| 0),
        };
        match first {
            Ok(sent) => {
                link.moved = Instant::now();
                context.tally.connects += 1;
                record(&mut context.tally.connect, link.moved - link.opened);
                let began = link.moved;
                let phase = match link.handshake().is_some() {
                    true => Phase::ShakingHands(link, exchange, began),
                    false => Phase::Sending(link, exchange, sent),
                };
                (phase, None)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::Connecting(link, exchange), Some(Next::Wait))
            }
            Err(error) => fail(Failure::of(&error), context),
        }
    }

    fn shake_hands(
        &self,
        mut link: Link,
        exchange: Exchange,
        began: Instant,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let Some((channel, socket)) = link.handshake() else {
            record(&mut context.tally.handshake, Instant::now() - began);
            return (Phase::Sending(link, exchange, 0), None);
        };
        match channel.shake_hands(socket, &mut context.scratch) {
            Ok(()) => {
                link.moved = context.now;
                (Phase::ShakingHands(link, exchange, began), None)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let phase = Phase::ShakingHands(link, exchange, began);
                (phase, Some(Next::Wait))
            }
            Err(error) => fail(Failure::of(&error), context),
        }
    }

    fn send(
        &self,
        mut link: Link,
        exchange: Exchange,
        sent: usize,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        match send_rest(&mut link, &exchange, sent, context) {
            Ok(0) => {
                let phase = Phase::Awaiting(link, exchange, Vec::new());
                (phase, Some(Next::Wait))
            }
            Ok(more) => (Phase::Sending(link, exchange, sent + more), None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::Sending(link, exchange, sent), Some(Next::Wait))
            }
            Err(error) => repeat_or_fail(&link, exchange, Failure::of(&error), context),
        }
    }

    /// Receives the first bytes, which hold the head and, of a small file, all of the content.
    fn read_head(
        &self,
        mut link: Link,
        mut exchange: Exchange,
        mut head: Vec<u8>,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let room = &mut context.room[..HEAD_ROOM];
        let received = match link.receive(room, &mut context.scratch) {
            Ok(0) if head.is_empty() && exchange.wire(context.targets) == Wire::Name => {
                return fail(Failure::Empty, context);
            }
            Ok(0) if head.is_empty() => {
                return repeat_or_fail(&link, exchange, Failure::Short, context);
            }
            Ok(0) => return fail(Failure::Short, context),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Phase::Awaiting(link, exchange, head), Some(Next::Wait));
            }
            Err(error) if head.is_empty() => {
                return repeat_or_fail(&link, exchange, Failure::of(&error), context);
            }
            Err(error) => return fail(Failure::of(&error), context),
        };
        link.moved = context.now;
        if head.is_empty() {
            record(
                &mut context.tally.first_byte,
                Instant::now() - exchange.intended,
            );
        }
        if exchange.wire(context.targets) == Wire::Name {
            self.count(&mut exchange, &context.room[..received], &mut context.tally);
            return (Phase::Receiving(link, exchange, Left::UntilClose), None);
        }
        let before = head.len();
        let parsed = if before == 0 {
            parse_head(&context.room[..received])
        } else {
            head.extend_from_slice(&context.room[..received]);
            parse_head(&head)
        };
        match parsed {
            Ok(Some((answer, length))) => {
                let left =
                    exchange.accept(&answer, context.config.persistence, &mut context.lengths);
                // `parse_head` found the head incomplete before, so its end is among the new bytes.
                let content = &context.room[length - before..received];
                let (content, left) = match left {
                    Left::Chunked(mut chunks) => {
                        chunks.input.extend_from_slice(content);
                        return self.decode(link, exchange, chunks, None, context);
                    }
                    Left::Bytes(left) => {
                        let most = usize::try_from(left).unwrap_or(usize::MAX);
                        let content = &content[..content.len().min(most)];
                        (content, Left::Bytes(left - content.len() as u64))
                    }
                    Left::UntilClose => (content, Left::UntilClose),
                };
                self.count(&mut exchange, content, &mut context.tally);
                (Phase::Receiving(link, exchange, left), None)
            }
            Ok(None) if before + received > LONGEST_HEAD => fail(Failure::BadHead, context),
            Ok(None) => {
                if before == 0 {
                    head.extend_from_slice(&context.room[..received]);
                }
                (Phase::Awaiting(link, exchange, head), None)
            }
            Err(failure) => fail(failure, context),
        }
    }

    fn receive(
        &self,
        mut link: Link,
        mut exchange: Exchange,
        left: Left,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let room = context.room.len();
        let most = match &left {
            Left::Bytes(0) => return self.finish(link, exchange, context),
            Left::Bytes(left) => room.min(usize::try_from(*left).unwrap_or(usize::MAX)),
            Left::Chunked(_) | Left::UntilClose => room,
        };
        let room = &mut context.room[..most];
        let received = match (&exchange.hasher, &left) {
            (None, Left::Bytes(_) | Left::UntilClose) => link.discard(room, &mut context.scratch),
            _ => link.receive(room, &mut context.scratch),
        };
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Phase::Receiving(link, exchange, left), Some(Next::Wait));
            }
            Err(error) => return fail(Failure::of(&error), context),
        };
        link.moved = context.now;
        let content = &context.room[..received];
        let next = Some(match received == most || link.hung_up || link.is_secure() {
            true => Next::Turn,
            false => Next::Wait,
        });
        match left {
            Left::UntilClose if received == 0 => self.finish(link, exchange, context),
            _ if received == 0 => fail(Failure::Short, context),
            Left::Chunked(mut chunks) => {
                chunks.input.extend_from_slice(content);
                self.decode(link, exchange, chunks, next, context)
            }
            Left::UntilClose => {
                self.count(&mut exchange, content, &mut context.tally);
                (Phase::Receiving(link, exchange, left), next)
            }
            Left::Bytes(left) => {
                self.count(&mut exchange, content, &mut context.tally);
                let left = left - received as u64;
                let next = next.filter(|_| left > 0);
                (Phase::Receiving(link, exchange, Left::Bytes(left)), next)
            }
        }
    }

    /// Counts what has come of a body in chunks; where that is not all of it, `next` says how to go
    /// on.
    fn decode(
        &self,
        link: Link,
        mut exchange: Exchange,
        mut chunks: Box<Chunks>,
        next: Option<Next>,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let mut used = 0;
        loop {
            let input = &chunks.input[used..];
            match chunks.decoder.next(input, usize::MAX) {
                Ok(Piece::Framing(length)) => used += length,
                Ok(Piece::Data(length)) => {
                    self.count(&mut exchange, &input[..length], &mut context.tally);
                    used += length;
                }
                Ok(Piece::Partial) => {
                    chunks.input.drain(..used);
                    let left = Left::Chunked(chunks);
                    return (Phase::Receiving(link, exchange, left), next);
                }
                Ok(Piece::End) => {
                    if !input.is_empty() {
                        exchange.persistence = Persistence::Close;
                    }
                    return self.finish(link, exchange, context);
                }
                Err(_) => return fail(Failure::BadChunks, context),
            }
        }
    }

    fn finish(
        &self,
        mut link: Link,
        exchange: Exchange,
        context: &mut ThreadContext<'_>,
    ) -> Stepped {
        let verdict = match (exchange.verdict, exchange.hasher) {
            (Ok(()), Some(hasher)) => context.tally.compare(exchange.question, hasher.finalize()),
            (verdict, _) => verdict,
        };
        match verdict {
            Ok(()) => {
                context.tally.requests += 1;
                record(
                    &mut context.tally.latency,
                    Instant::now() - exchange.intended,
                );
            }
            Err(failure) => context.tally.fail(failure),
        }
        link.served += 1;
        match exchange.persistence {
            Persistence::KeepAlive => (Phase::Idle(link), Some(Next::Ready)),
            Persistence::Close => (Phase::Closing(link), None),
        }
    }

    fn close(&self, mut link: Link, context: &mut ThreadContext<'_>) -> Stepped {
        let room = &mut context.room[..HEAD_ROOM];
        match link.receive(room, &mut context.scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::Closing(link), Some(Next::Wait))
            }
            // The end, a reset behind a whole answer, or bytes that were not asked for.
            Ok(_) | Err(_) => (Phase::Down, Some(Next::Ready)),
        }
    }

    /// Counts content; if there is no hasher it may have been thrown away instead of written.
    fn count(&self, exchange: &mut Exchange, content: &[u8], tally: &mut Tally) {
        let bytes = content.len() as u64;
        exchange.received += bytes;
        if exchange.verdict.is_ok() {
            tally.bytes += bytes;
            tally.shares[self.token] += bytes;
        }
        if let Some(hasher) = &mut exchange.hasher {
            hasher.update(content);
        }
    }

    /// Whether the server has closed an idle connection; the next request connects again then.
    fn check_idle(&self, mut link: Link, context: &mut ThreadContext<'_>) -> Stepped {
        match link.receive(&mut context.room[..1], &mut context.scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::Idle(link), Some(Next::Wait))
            }
            Ok(_) | Err(_) => (Phase::Down, Some(Next::Wait)),
        }
    }
}

fn connect(exchange: Exchange, context: &mut ThreadContext<'_>) -> Stepped {
    let opened = Instant::now();
    let target = &context.targets[exchange.question.0];
    let name = target.secure.as_deref();
    let channel = match name.map(|name| context.connector.begin(name)).transpose() {
        Ok(session) => session.map(Channel::new),
        Err(failure) => return fail(Failure::Tls(failure.text), context),
    };
    match client_socket::connect(&target.address) {
        Ok(socket) => {
            let link = Link::new(socket, channel, opened);
            (Phase::Connecting(link, exchange), None)
        }
        Err(error) => fail(Failure::of(&error), context),
    }
}

fn send_rest(
    link: &mut Link,
    exchange: &Exchange,
    sent: usize,
    context: &mut ThreadContext<'_>,
) -> io::Result<usize> {
    let (target, range) = exchange.question;
    context.request.clear();
    context.targets[target].write_request(range, &mut context.request);
    link.send(&context.request, sent)
}

/// A kept-alive connection may be closed just as the next request is sent. The request is sent
/// again then (RFC 9110 section 9.2.2), and that counts as no failure.
fn repeat_or_fail(
    link: &Link,
    exchange: Exchange,
    failure: Failure,
    context: &mut ThreadContext<'_>,
) -> Stepped {
    if link.served == 0 {
        return fail(failure, context);
    }
    context.tally.repeats += 1;
    connect(exchange, context)
}

fn fail(failure: Failure, context: &mut ThreadContext<'_>) -> Stepped {
    context.tally.fail(failure);
    (Phase::Down, Some(Next::BackOff))
}

/// Enough for the head and a kibibyte of content in one call.
pub(super) const HEAD_ROOM: usize = 4_096;
const LONGEST_HEAD: usize = 64 * 1_024;
