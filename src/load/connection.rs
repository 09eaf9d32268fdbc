//! One connection of the generator: connect, ask, read the head, have the content thrown away, and
//! begin again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::http::Persistence;
use crate::http::chunked::Piece;
use crate::sys::buffer::Buffer;
use crate::sys::client_socket::{self, Interest, Readiness};

use super::config::LoadConfig;
use super::exchange::{Chunks, Exchange, Left, parse_head};
use super::tally::{Failure, Question, Tally, record};
use super::target::{Target, Wire};

/// One of the connections that a generator keeps busy. The socket changes, the place remains.
#[derive(Debug)]
pub(super) struct Connection {
    /// The place in the generator's list, and the token of its events.
    token: usize,
    phase: Phase,
}

/// What a step leaves a connection waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// For its socket.
    Wait,
    /// For another request.
    Ready,
    /// For a while, since the last attempt failed.
    BackOff,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Bench<'run> {
    pub(super) config: &'run LoadConfig,
    pub(super) targets: &'run [Target],
    pub(super) readiness: Readiness,
    pub(super) tally: Tally,
    /// The targets' whole lengths, learnt from their first range.
    pub(super) lengths: Vec<Option<u64>>,
    pub(super) now: Instant,
    pub(super) census: Census,
    /// Where heads and verified content are received. Content that is thrown away is not written
    /// here, so most of it is never touched.
    pub(super) room: Buffer,
    pub(super) request: Vec<u8>,
}

/// How many connections are in which kind of phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) connecting: usize,
    /// With a request under way.
    pub(super) busy: usize,
    /// With a socket.
    pub(super) open: usize,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Down,
    Idle(Link),
    Connecting(Link, Exchange),
    /// With the number of bytes sent.
    Sending(Link, Exchange, usize),
    /// With what has come of the head.
    Awaiting(Link, Exchange, Vec<u8>),
    Receiving(Link, Exchange, Left),
    /// The answer is whole, and the server is to close first: the side that closes first keeps
    /// the port occupied, and clients run out of ports.
    Closing(Link),
}

/// A socket and what is known of it.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    armed: Option<Interest>,
    /// Whole answers received.
    served: u32,
    opened: Instant,
    /// When a byte was last sent or received.
    moved: Instant,
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
        bench: &mut Bench<'_>,
    ) -> Next {
        let exchange = Exchange::new(question, intended, bench.config.bodies);
        let (phase, next) = match self.take(bench) {
            Phase::Idle(mut link) => {
                link.moved = bench.now;
                (Phase::Sending(link, exchange, 0), None)
            }
            _ => connect(exchange, bench),
        };
        self.put(phase, bench);
        next.unwrap_or_else(|| self.advance(bench))
    }

    /// Goes on as far as the socket allows.
    pub(super) fn advance(&mut self, bench: &mut Bench<'_>) -> Next {
        loop {
            let (phase, next) = match self.take(bench) {
                Phase::Down => (Phase::Down, Some(Next::Wait)),
                // The server closed an idle connection; the next request connects again.
                Phase::Idle(_) => (Phase::Down, Some(Next::Wait)),
                Phase::Connecting(link, exchange) => self.finish_connect(link, exchange, bench),
                Phase::Sending(link, exchange, sent) => self.send(link, exchange, sent, bench),
                Phase::Awaiting(link, exchange, head) => {
                    self.read_head(link, exchange, head, bench)
                }
                Phase::Receiving(link, exchange, left) => self.receive(link, exchange, left, bench),
                Phase::Closing(link) => self.close(link, bench),
            };
            self.put(phase, bench);
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Gives a connection up on which nothing has moved for `timeout`.
    pub(super) fn expire(&mut self, timeout: Duration, bench: &mut Bench<'_>) -> Option<Next> {
        let moved = match &self.phase {
            Phase::Down | Phase::Idle(_) => return None,
            Phase::Connecting(link, _)
            | Phase::Sending(link, ..)
            | Phase::Awaiting(link, ..)
            | Phase::Receiving(link, ..)
            | Phase::Closing(link) => link.moved,
        };
        if bench.now.saturating_duration_since(moved) < timeout {
            return None;
        }
        if let Phase::Closing(_) = self.take(bench) {
            return Some(Next::Ready);
        }
        bench.tally.fail(Failure::TimedOut);
        Some(Next::BackOff)
    }

    fn take(&mut self, bench: &mut Bench<'_>) -> Phase {
        let phase = std::mem::take(&mut self.phase);
        bench.census.leave(&phase);
        phase
    }

    fn put(&mut self, phase: Phase, bench: &mut Bench<'_>) {
        bench.census.enter(&phase);
        self.phase = phase;
    }

    /// Sends right away: on a fast network the connection is there by now, and where it is not,
    /// `send` says so.
    fn finish_connect(&self, mut link: Link, exchange: Exchange, bench: &mut Bench<'_>) -> Stepped {
        match send_rest(&link, &exchange, 0, bench) {
            Ok(sent) => {
                link.moved = Instant::now();
                bench.tally.connects += 1;
                record(&mut bench.tally.connect, link.moved - link.opened);
                (Phase::Sending(link, exchange, sent), None)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.arm(&mut link, Interest::Writable, bench) {
                    Ok(()) => (Phase::Connecting(link, exchange), Some(Next::Wait)),
                    Err(error) => fail(Failure::of(&error), bench),
                }
            }
            Err(error) => fail(Failure::of(&error), bench),
        }
    }

    fn send(
        &self,
        mut link: Link,
        exchange: Exchange,
        sent: usize,
        bench: &mut Bench<'_>,
    ) -> Stepped {
        match send_rest(&link, &exchange, sent, bench) {
            Ok(0) => match self.arm(&mut link, Interest::Readable, bench) {
                Ok(()) => (
                    Phase::Awaiting(link, exchange, Vec::new()),
                    Some(Next::Wait),
                ),
                Err(error) => fail(Failure::of(&error), bench),
            },
            Ok(more) => (Phase::Sending(link, exchange, sent + more), None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.arm(&mut link, Interest::Writable, bench) {
                    Ok(()) => (Phase::Sending(link, exchange, sent), Some(Next::Wait)),
                    Err(error) => fail(Failure::of(&error), bench),
                }
            }
            Err(error) => repeat_or_fail(&link, exchange, Failure::of(&error), bench),
        }
    }

    /// Receives the first bytes, which hold the head and, of a small file, all of the content.
    fn read_head(
        &self,
        mut link: Link,
        mut exchange: Exchange,
        mut head: Vec<u8>,
        bench: &mut Bench<'_>,
    ) -> Stepped {
        let received = match client_socket::receive(&link.socket, &mut bench.room[..HEAD_ROOM]) {
            Ok(0) if head.is_empty() && exchange.wire(bench.targets) == Wire::Name => {
                return fail(Failure::Empty, bench);
            }
            Ok(0) if head.is_empty() => {
                return repeat_or_fail(&link, exchange, Failure::Short, bench);
            }
            Ok(0) => return fail(Failure::Short, bench),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Phase::Awaiting(link, exchange, head), Some(Next::Wait));
            }
            Err(error) if head.is_empty() => {
                return repeat_or_fail(&link, exchange, Failure::of(&error), bench);
            }
            Err(error) => return fail(Failure::of(&error), bench),
        };
        link.moved = bench.now;
        if head.is_empty() {
            record(
                &mut bench.tally.first_byte,
                Instant::now() - exchange.intended,
            );
        }
        if exchange.wire(bench.targets) == Wire::Name {
            self.count(&mut exchange, &bench.room[..received], &mut bench.tally);
            return (Phase::Receiving(link, exchange, Left::UntilClose), None);
        }
        let before = head.len();
        let parsed = if before == 0 {
            parse_head(&bench.room[..received])
        } else {
            head.extend_from_slice(&bench.room[..received]);
            parse_head(&head)
        };
        match parsed {
            Ok(Some((answer, length))) => {
                let left = exchange.accept(&answer, bench.config.persistence, &mut bench.lengths);
                // `parse_head` found the head incomplete before, so its end is among the new bytes.
                let content = &bench.room[length - before..received];
                let (content, left) = match left {
                    Left::Chunked(mut chunks) => {
                        chunks.input.extend_from_slice(content);
                        return self.decode(link, exchange, chunks, bench);
                    }
                    Left::Bytes(left) => {
                        let most = usize::try_from(left).unwrap_or(usize::MAX);
                        let content = &content[..content.len().min(most)];
                        (content, Left::Bytes(left - content.len() as u64))
                    }
                    Left::UntilClose => (content, Left::UntilClose),
                };
                self.count(&mut exchange, content, &mut bench.tally);
                (Phase::Receiving(link, exchange, left), None)
            }
            Ok(None) if before + received > LONGEST_HEAD => fail(Failure::BadHead, bench),
            Ok(None) => {
                if before == 0 {
                    head.extend_from_slice(&bench.room[..received]);
                }
                (Phase::Awaiting(link, exchange, head), Some(Next::Wait))
            }
            Err(failure) => fail(failure, bench),
        }
    }

    fn receive(
        &self,
        mut link: Link,
        mut exchange: Exchange,
        left: Left,
        bench: &mut Bench<'_>,
    ) -> Stepped {
        let room = bench.room.len();
        let most = match &left {
            Left::Bytes(0) => return self.finish(link, exchange, bench),
            Left::Bytes(left) => room.min(usize::try_from(*left).unwrap_or(usize::MAX)),
            Left::Chunked(_) | Left::UntilClose => room,
        };
        let room = &mut bench.room[..most];
        let received = match (&exchange.hasher, &left) {
            (None, Left::Bytes(_) | Left::UntilClose) => client_socket::discard(&link.socket, room),
            _ => client_socket::receive(&link.socket, room),
        };
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Phase::Receiving(link, exchange, left), Some(Next::Wait));
            }
            Err(error) => return fail(Failure::of(&error), bench),
        };
        link.moved = bench.now;
        let content = &bench.room[..received];
        // What a full receive left behind is reported again; others go first.
        match left {
            Left::UntilClose if received == 0 => self.finish(link, exchange, bench),
            _ if received == 0 => fail(Failure::Short, bench),
            Left::Chunked(mut chunks) => {
                chunks.input.extend_from_slice(content);
                self.decode(link, exchange, chunks, bench)
            }
            Left::UntilClose => {
                self.count(&mut exchange, content, &mut bench.tally);
                (Phase::Receiving(link, exchange, left), Some(Next::Wait))
            }
            Left::Bytes(left) => {
                self.count(&mut exchange, content, &mut bench.tally);
                let left = left - received as u64;
                let next = (left > 0).then_some(Next::Wait);
                (Phase::Receiving(link, exchange, Left::Bytes(left)), next)
            }
        }
    }

    /// Counts what has come of a body in chunks.
    fn decode(
        &self,
        link: Link,
        mut exchange: Exchange,
        mut chunks: Box<Chunks>,
        bench: &mut Bench<'_>,
    ) -> Stepped {
        let mut used = 0;
        loop {
            let input = &chunks.input[used..];
            match chunks.decoder.next(input, usize::MAX) {
                Ok(Piece::Framing(length)) => used += length,
                Ok(Piece::Data(length)) => {
                    self.count(&mut exchange, &input[..length], &mut bench.tally);
                    used += length;
                }
                Ok(Piece::Partial) => {
                    chunks.input.drain(..used);
                    let left = Left::Chunked(chunks);
                    return (Phase::Receiving(link, exchange, left), Some(Next::Wait));
                }
                Ok(Piece::End) => {
                    if !input.is_empty() {
                        exchange.persistence = Persistence::Close;
                    }
                    return self.finish(link, exchange, bench);
                }
                Err(_) => return fail(Failure::BadChunks, bench),
            }
        }
    }

    fn finish(&self, mut link: Link, exchange: Exchange, bench: &mut Bench<'_>) -> Stepped {
        let verdict = match (exchange.verdict, exchange.hasher) {
            (Ok(()), Some(hasher)) => bench.tally.compare(exchange.question, hasher.finalize()),
            (verdict, _) => verdict,
        };
        match verdict {
            Ok(()) => {
                bench.tally.requests += 1;
                record(&mut bench.tally.latency, Instant::now() - exchange.intended);
            }
            Err(failure) => bench.tally.fail(failure),
        }
        link.served += 1;
        match exchange.persistence {
            Persistence::KeepAlive => (Phase::Idle(link), Some(Next::Ready)),
            Persistence::Close => (Phase::Closing(link), None),
        }
    }

    fn close(&self, link: Link, bench: &mut Bench<'_>) -> Stepped {
        match client_socket::receive(&link.socket, &mut bench.room[..HEAD_ROOM]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Phase::Closing(link), Some(Next::Wait))
            }
            // The end, a reset behind a whole answer, or bytes that nobody asked for.
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

    fn arm(&self, link: &mut Link, interest: Interest, bench: &Bench<'_>) -> io::Result<()> {
        match link.armed {
            Some(armed) if armed == interest => return Ok(()),
            Some(_) => bench.readiness.modify(&link.socket, self.token, interest)?,
            None => bench.readiness.add(&link.socket, self.token, interest)?,
        }
        link.armed = Some(interest);
        Ok(())
    }
}

impl Census {
    fn enter(&mut self, phase: &Phase) {
        let (connecting, busy, open) = class(phase);
        self.connecting += connecting;
        self.busy += busy;
        self.open += open;
    }

    fn leave(&mut self, phase: &Phase) {
        let (connecting, busy, open) = class(phase);
        self.connecting -= connecting;
        self.busy -= busy;
        self.open -= open;
    }
}

/// What a phase adds to each count of the census.
fn class(phase: &Phase) -> (usize, usize, usize) {
    match phase {
        Phase::Down => (0, 0, 0),
        Phase::Idle(_) | Phase::Closing(_) => (0, 0, 1),
        Phase::Connecting(..) => (1, 1, 1),
        Phase::Sending(..) | Phase::Awaiting(..) | Phase::Receiving(..) => (0, 1, 1),
    }
}

fn connect(exchange: Exchange, bench: &mut Bench<'_>) -> Stepped {
    let opened = Instant::now();
    match client_socket::connect(&bench.targets[exchange.question.0].address) {
        Ok(socket) => {
            let link = Link {
                socket,
                armed: None,
                served: 0,
                opened,
                moved: opened,
            };
            (Phase::Connecting(link, exchange), None)
        }
        Err(error) => fail(Failure::of(&error), bench),
    }
}

fn send_rest(
    link: &Link,
    exchange: &Exchange,
    sent: usize,
    bench: &mut Bench<'_>,
) -> io::Result<usize> {
    let (target, range) = exchange.question;
    bench.request.clear();
    bench.targets[target].write_request(range, &mut bench.request);
    if sent == bench.request.len() {
        return Ok(0);
    }
    client_socket::send(&link.socket, &bench.request[sent..])
}

/// A kept-alive connection may be closed just as the next request is sent. The request is sent
/// again then (RFC 9110 section 9.2.2), and that counts as no failure.
fn repeat_or_fail(
    link: &Link,
    exchange: Exchange,
    failure: Failure,
    bench: &mut Bench<'_>,
) -> Stepped {
    if link.served == 0 {
        return fail(failure, bench);
    }
    bench.tally.repeats += 1;
    connect(exchange, bench)
}

fn fail(failure: Failure, bench: &mut Bench<'_>) -> Stepped {
    bench.tally.fail(failure);
    (Phase::Down, Some(Next::BackOff))
}

/// Enough for the head and a kibibyte of content in one call.
pub(super) const HEAD_ROOM: usize = 4_096;
const LONGEST_HEAD: usize = 64 * 1_024;
