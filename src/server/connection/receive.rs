//! Receiving: bytes from the socket until they make a request.

use std::time::{Duration, Instant};

use crate::http::parse::{self, Parsed};
use crate::http::{ClientFields, Refusal, Request};
use crate::server::connection::classify::{Classified, InputEnd, SilenceRule, classify};
use crate::server::connection::request_buffer::{ByteSource, RequestBuffer};
use crate::server::connection::step::TurnContext;
use crate::server::telemetry::CloseReason;

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
    /// The grace for the rest of a name has passed.
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
    /// The state at the start of a connection, and after a response.
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
        self.progress == HeadProgress::Empty && received.bytes().is_empty()
    }

    /// Receives until the bytes make a request or none are left.
    pub(super) fn recognize(
        &mut self,
        buffer: &mut RequestBuffer,
        source: &mut ByteSource<'_>,
        turn: &mut TurnContext<'_>,
        kept: bool,
    ) -> Received {
        // The worker's memory is used: buffers of each connection would fragment the heap.
        buffer.move_into(std::mem::take(&mut turn.tools.request));
        let received = self.receive_request(buffer, source, turn, kept);
        turn.tools.request = buffer.move_out();
        received
    }

    fn receive_request(
        &mut self,
        buffer: &mut RequestBuffer,
        source: &mut ByteSource<'_>,
        turn: &mut TurnContext<'_>,
        kept: bool,
    ) -> Received {
        let mut reads_in_vain = 0;
        loop {
            if let Some(recognized) = self.look(buffer, turn, kept) {
                return recognized;
            }
            let before = buffer.bytes().len();
            match buffer.receive(source, &mut turn.tools.scratch) {
                // Records without content may come without end.
                Ok(true)
                    if buffer.bytes().len() == before && reads_in_vain >= MAX_READS_IN_VAIN =>
                {
                    return Received::End(CloseReason::Malformed);
                }
                Ok(true) => {
                    reads_in_vain += u32::from(buffer.bytes().len() == before);
                    if self.progress == HeadProgress::Empty && !buffer.bytes().is_empty() {
                        self.since = turn.now;
                    }
                }
                Ok(false) => return Received::Incomplete(wait_until(self, turn, kept)),
                Err(_) if buffer.bytes().is_empty() && kept => {
                    return Received::End(CloseReason::Complete);
                }
                Err(_) => return Received::End(CloseReason::Aborted),
            }
        }
    }

    /// The meaning of the bytes at hand; `None` if it takes more.
    fn look(
        &mut self,
        buffer: &mut RequestBuffer,
        turn: &TurnContext<'_>,
        kept: bool,
    ) -> Option<Received> {
        if buffer.bytes().is_empty() {
            return buffer
                .has_ended()
                .then_some(Received::End(CloseReason::Complete));
        }
        if let HeadProgress::Head { scanned } = self.progress {
            return self.look_for_request(buffer, scanned, turn);
        }
        if kept {
            return self.look_for_request(buffer, 0, turn);
        }
        let end = match self.progress {
            _ if buffer.has_ended() => InputEnd::HalfClose,
            HeadProgress::Silent => InputEnd::Silence,
            _ => InputEnd::Open,
        };
        match classify(buffer.bytes(), end) {
            Classified::Http => self.look_for_request(buffer, 0, turn),
            Classified::Name { len, consumed } => {
                // `consumed` counts the end mark and blank lines in front, `len` the name alone.
                let name = buffer.bytes()[..len].into();
                buffer.take_off(consumed);
                Some(Received::Name(name))
            }
            Classified::Unrecognized(why) => Some(Received::Unrecognized(why)),
            Classified::Undecided(_) if buffer.has_ended() => {
                Some(Received::End(CloseReason::Aborted))
            }
            Classified::Undecided(rule) => {
                self.progress = HeadProgress::Undecided(rule);
                None
            }
        }
    }

    fn look_for_request(
        &mut self,
        buffer: &mut RequestBuffer,
        scanned: usize,
        turn: &TurnContext<'_>,
    ) -> Option<Received> {
        match parse::parse_request(buffer.bytes(), scanned, &turn.service.config.http_limits) {
            Parsed::Complete {
                mut request,
                consumed,
            } => {
                let head = &buffer.bytes()[..consumed];
                request.forwarded_for = turn.service.config.proxies.named_by(head).map(Box::new);
                if turn.service.journal.wants_client_fields() {
                    request.client_fields = ClientFields::of(head);
                }
                buffer.take_off(consumed);
                Some(Received::Request(Box::new(request)))
            }
            Parsed::Malformed(refusal) => Some(Received::Malformed(refusal)),
            // A peer that has closed its sending side still reads.
            Parsed::Partial { .. } if buffer.has_ended() => {
                let why = "the request ends within its head";
                Some(Received::Malformed(Refusal::BadRequest(why)))
            }
            Parsed::Partial { scanned } => {
                self.progress = HeadProgress::Head { scanned };
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

/// Reads of a turn that give no byte of a request: a record of 16 KiB takes five.
const MAX_READS_IN_VAIN: u32 = 64;
