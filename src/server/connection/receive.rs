//! Receiving: bytes from the socket until they make a request.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::parse::{self, Parsed};
use crate::http::{ClientFields, Refusal, Request};
use crate::name_protocol;
use crate::server::connection::classify::{Classified, InputEnd, SilenceRule, classify};
use crate::server::connection::step::TurnContext;
use crate::server::semaphore::{Permit, Semaphore};
use crate::server::telemetry::CloseReason;
use crate::server::transmit::tls::{Incoming, KernelStream, Layer, TlsStream, UserSpace};
use crate::sys::poller::Readiness;

/// Bytes that were received and not yet used.
#[derive(Debug)]
pub(super) struct RequestBuffer {
    bytes: Vec<u8>,
    /// The socket may be readable: set by the poller, cleared by a short read.
    readable: bool,
    /// The end of the stream has been reported, and is still to be read.
    hung_up: bool,
    /// The peer has closed its side.
    ended: bool,
    /// The right to more than [`LARGE_BYTES`].
    large: Option<Permit>,
}

impl Default for RequestBuffer {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            readable: true,
            hung_up: false,
            ended: false,
            large: None,
        }
    }
}

/// Where bytes are received from.
pub(super) struct ByteSource<'a> {
    pub(super) stream: &'a TcpStream,
    /// The session that they are opened by.
    pub(super) tls: Option<&'a mut TlsStream>,
}

impl<'a> ByteSource<'a> {
    pub(super) fn new(stream: &'a TcpStream, tls: &'a mut Option<Box<TlsStream>>) -> Self {
        let tls = tls.as_deref_mut();
        Self { stream, tls }
    }
}

/// The progress of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    /// The beginning of the state, or the time of a request's first byte.
    since: Instant,
    progress: HeadProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadProgress {
    /// No byte yet.
    Empty,
    /// Bytes of undecided protocol; silence may make a name of them.
    Undecided(SilenceRule),
    /// Silence has fallen.
    Silent,
    /// The head of an HTTP request, of which so many bytes need not be searched again.
    Head { scanned: usize },
}

/// The meaning of the bytes at hand.
pub(super) enum Received {
    /// No request yet; the wait ends at that time.
    Incomplete(Instant),
    /// An HTTP request; its head is consumed.
    Request(Box<Request>),
    /// A bare name.
    Name(Box<[u8]>),
    /// HTTP that breaks a rule or a limit.
    Malformed(Refusal),
    /// Neither protocol.
    Unrecognized(&'static str),
    /// The connection has ended.
    End(CloseReason),
}

impl Receiving {
    /// At the start of a connection, and after a response.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            progress: HeadProgress::Empty,
        }
    }

    /// Its beginning, or the time of a request's first byte.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether the deadline that has passed was that of a name's grace.
    pub(super) fn silence_ends_name(&self, now: Instant, head: Duration) -> bool {
        self.may_be_name() && now < self.since + head
    }

    /// Whether the received bytes may be a bare name.
    pub(super) fn may_be_name(&self) -> bool {
        self.progress == HeadProgress::Undecided(SilenceRule::Applies)
    }

    /// Notes that the grace has passed.
    pub(super) fn note_silence(&mut self) {
        self.progress = HeadProgress::Silent;
    }

    /// Whether no byte of a request has arrived.
    pub(super) fn is_idle(&self, received: &RequestBuffer) -> bool {
        self.progress == HeadProgress::Empty && received.bytes.is_empty()
    }
}

/// The received bytes up to the first line end: later ones may hold credentials.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = &bytes[..end.min(MAX_LOGGED)];
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl RequestBuffer {
    /// Notes what the poller saw.
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.hung_up |= readiness.hung_up;
    }

    /// The bytes at hand.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the buffer is empty, and the socket as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.readable
    }

    /// Whether the peer has closed its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the received bytes may wait for the rest of their request, beside the memory of a
    /// session: long requests have a limited budget.
    pub(super) fn may_wait(&mut self, session: usize, permits: &Arc<Semaphore>) -> bool {
        let is_large = self.bytes.len() + session > LARGE_BYTES;
        self.large = match self.large.take() {
            _ if !is_large => None,
            None => permits.try_acquire(),
            permit => permit,
        };
        is_large == self.large.is_some()
    }

    /// Takes a request off, whose bytes lie in a worker's memory.
    fn take_off(&mut self, len: usize) {
        self.large = None;
        self.bytes.drain(..len);
    }

    /// Throws the first bytes away.
    pub(super) fn consume(&mut self, len: usize) {
        self.large = None;
        if len >= self.bytes.len() {
            // An idle connection holds no buffer.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..len);
        }
    }

    /// Gives back memory beyond what the bytes at hand need.
    pub(super) fn shrink(&mut self) {
        // A copy, since shrinking in place leaves a hole that nothing of the size fits.
        if self.bytes.capacity() > self.bytes.len() {
            self.bytes = self.bytes.as_slice().to_vec();
        }
    }

    /// Throws all bytes away.
    pub(super) fn clear(&mut self) {
        self.large = None;
        self.bytes = Vec::new();
    }

    /// The bytes up to the first line end, for the log.
    pub(super) fn first_line(&self) -> Box<[u8]> {
        first_line(&self.bytes).into()
    }

    /// Replaces the received bytes.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Notes that the peer has closed its side.
    pub(super) fn note_end(&mut self) {
        self.ended = true;
        self.readable = false;
    }

    /// Where a session's plaintext goes.
    pub(super) fn plaintext(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Receives once. `true` if that brought bytes, or the end of the stream.
    pub(super) fn receive(
        &mut self,
        source: &mut ByteSource<'_>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        match source.tls.as_mut().map(|tls| tls.layer()) {
            None => self.receive_plain(source.stream, scratch),
            Some(Layer::UserSpace(tls)) => self.receive_sealed(source.stream, tls, scratch),
            Some(Layer::Kernel(tls)) => self.receive_opened(source.stream, tls, scratch),
            Some(Layer::Lost) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// As [`Self::receive`], where nothing that comes is of use any more.
    pub(super) fn discard(
        &mut self,
        source: &mut ByteSource<'_>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let received = match source.tls.as_mut().map(|tls| tls.layer()) {
            _ if self.ended => return Ok(false),
            // The kernel opens what is read, and may find a message.
            Some(Layer::Kernel(tls)) => self.receive_opened(source.stream, tls, scratch),
            _ => self.receive_plain(source.stream, scratch),
        };
        match received {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.note_end();
                Ok(true)
            }
            received => received,
        }
    }

    fn receive_plain(&mut self, stream: &TcpStream, scratch: &mut [u8]) -> io::Result<bool> {
        match self.read(stream, scratch, usize::MAX)? {
            None => return Ok(false),
            Some(0) => self.ended = true,
            Some(count) => self.append(&scratch[..count]),
        }
        Ok(true)
    }

    /// Receives what the kernel has opened. The session says whether the peer has closed its side: an
    /// attacker can end the TCP stream.
    fn receive_opened(
        &mut self,
        stream: &TcpStream,
        tls: &mut KernelStream,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        match tls.receive(stream, &mut scratch[..READ_BYTES]) {
            // Messages divide what comes: a short count does not mean that nothing is left.
            Ok(Incoming::Bytes(count)) => self.append(&scratch[..count]),
            Ok(Incoming::Message) => {}
            Ok(Incoming::End) => self.note_end(),
            Ok(Incoming::Cut) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn append(&mut self, received: &[u8]) {
        // Doubling would take twice what a long head needs.
        self.bytes.reserve_exact(received.len());
        self.bytes.extend_from_slice(received);
    }

    /// Opens what comes. The session says whether the peer has closed its side: an attacker can end
    /// the TCP stream.
    fn receive_sealed(
        &mut self,
        stream: &TcpStream,
        tls: &mut UserSpace,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let Some(count) = self.read(stream, scratch, tls.most_wanted())? else {
            return Ok(false);
        };
        let received = &scratch[..count];
        if received.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.take_in(received);
        let opened = tls.open(&mut self.bytes);
        if tls.unsent() > 0 {
            // An alert, or a new key: what the socket does not take goes before the next response.
            let _ = tls.flush(stream);
        }
        opened.map_err(io::Error::other)?;
        if tls.session().is_closed_by_peer() {
            self.note_end();
        }
        Ok(true)
    }

    /// Reads once into the front of `scratch`, at most `most` bytes; 0 is the end of the stream,
    /// `None` means that no bytes are there.
    pub(super) fn read(
        &mut self,
        mut stream: &TcpStream,
        scratch: &mut [u8],
        most: usize,
    ) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        let buffer = &mut scratch[..READ_BYTES.min(most)];
        loop {
            match stream.read(buffer) {
                Ok(count) => {
                    // A short count means an empty socket (epoll(7)): later bytes are reported
                    // again.
                    self.readable = count == buffer.len() || self.hung_up && count > 0;
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives until the bytes make a request or none are left.
    pub(super) fn recognize(
        &mut self,
        receiving: &mut Receiving,
        source: &mut ByteSource<'_>,
        turn: &mut TurnContext<'_>,
        kept: bool,
    ) -> Received {
        // In the worker's memory: that of each connection would leave holes of all sizes.
        let mut lent = std::mem::take(&mut turn.tools.request);
        lent.extend_from_slice(&self.bytes);
        self.bytes = lent;
        let received = self.receive_request(receiving, source, turn, kept);
        let rest = self.bytes.as_slice().to_vec();
        turn.tools.request = std::mem::replace(&mut self.bytes, rest);
        turn.tools.request.clear();
        received
    }

    fn receive_request(
        &mut self,
        receiving: &mut Receiving,
        source: &mut ByteSource<'_>,
        turn: &mut TurnContext<'_>,
        kept: bool,
    ) -> Received {
        let mut reads_in_vain = 0;
        loop {
            if let Some(recognized) = self.look(receiving, turn, kept) {
                return recognized;
            }
            let before = self.bytes.len();
            match self.receive(source, &mut turn.tools.scratch) {
                // Records without content may come without end.
                Ok(true) if self.bytes.len() == before && reads_in_vain >= MAX_READS_IN_VAIN => {
                    return Received::End(CloseReason::Malformed);
                }
                Ok(true) => {
                    reads_in_vain += u32::from(self.bytes.len() == before);
                    if receiving.progress == HeadProgress::Empty && !self.bytes.is_empty() {
                        receiving.since = turn.now;
                    }
                }
                Ok(false) => return Received::Incomplete(wait_until(receiving, turn, kept)),
                Err(_) if self.bytes.is_empty() && kept => {
                    return Received::End(CloseReason::Complete);
                }
                Err(_) => return Received::End(CloseReason::Aborted),
            }
        }
    }

    /// The meaning of the bytes at hand; `None` if it takes more.
    fn look(
        &mut self,
        receiving: &mut Receiving,
        turn: &TurnContext<'_>,
        kept: bool,
    ) -> Option<Received> {
        if self.bytes.is_empty() {
            return self.ended.then_some(Received::End(CloseReason::Complete));
        }
        if let HeadProgress::Head { scanned } = receiving.progress {
            return self.look_for_request(receiving, scanned, turn);
        }
        if kept {
            return self.look_for_request(receiving, 0, turn);
        }
        let end = match receiving.progress {
            _ if self.ended => InputEnd::HalfClose,
            HeadProgress::Silent => InputEnd::Silence,
            _ => InputEnd::Open,
        };
        match classify(&self.bytes, end) {
            Classified::Http => self.look_for_request(receiving, 0, turn),
            Classified::Name { len, consumed } => {
                // `consumed` counts the end mark and blank lines in front, `len` the name alone.
                let name = self.bytes[..len].into();
                self.take_off(consumed);
                Some(Received::Name(name))
            }
            Classified::Unrecognized(why) => Some(Received::Unrecognized(why)),
            Classified::Undecided(_) if self.ended => Some(Received::End(CloseReason::Aborted)),
            Classified::Undecided(rule) => {
                receiving.progress = HeadProgress::Undecided(rule);
                None
            }
        }
    }

    fn look_for_request(
        &mut self,
        receiving: &mut Receiving,
        scanned: usize,
        turn: &TurnContext<'_>,
    ) -> Option<Received> {
        match parse::parse_request(&self.bytes, scanned, &turn.service.config.http_limits) {
            Parsed::Complete {
                mut request,
                consumed,
            } => {
                let head = &self.bytes[..consumed];
                request.forwarded_for = turn.service.config.proxies.named_by(head).map(Box::new);
                if turn.service.journal.wants_client_fields() {
                    request.client_fields = ClientFields::of(head);
                }
                self.take_off(consumed);
                Some(Received::Request(Box::new(request)))
            }
            Parsed::Malformed(refusal) => Some(Received::Malformed(refusal)),
            // A peer that has closed its sending side still reads.
            Parsed::Partial { .. } if self.ended => {
                let why = "the request ends within its head";
                Some(Received::Malformed(Refusal::BadRequest(why)))
            }
            Parsed::Partial { scanned } => {
                receiving.progress = HeadProgress::Head { scanned };
                None
            }
        }
    }
}

/// When the wait ends, or silence counts as the end of a name.
fn wait_until(receiving: &Receiving, turn: &TurnContext<'_>, kept: bool) -> Instant {
    let deadlines = &turn.service.config.deadlines;
    match receiving.progress {
        HeadProgress::Empty if kept => receiving.since + deadlines.idle,
        HeadProgress::Empty => receiving.since + deadlines.first_byte,
        HeadProgress::Undecided(SilenceRule::Applies) => {
            (turn.now + deadlines.name_grace).min(receiving.since + deadlines.head)
        }
        HeadProgress::Undecided(SilenceRule::DoesNotApply)
        | HeadProgress::Silent
        | HeadProgress::Head { .. } => receiving.since + deadlines.head,
    }
}

/// Bytes per receive call: at most this much is kept for a peer that pipelines requests and reads
/// no response.
const READ_BYTES: usize = 4 << 10;

/// Reads of a turn that give no byte of a request: a record of 16 KiB takes five.
const MAX_READS_IN_VAIN: u32 = 64;

/// Longer beginnings of requests are rare, and so many at a time are few: `Shared::long_requests`.
const LARGE_BYTES: usize = 18 << 10;

/// Bytes of a malformed request that go to the log.
const MAX_LOGGED: usize = name_protocol::MAX_NAME_BYTES;
