//! A connection: what the threads that hold it may do with it.
//!
//! A connection is a `Box` that goes round a ring. [`Connection::advance`] takes it as far as it
//! can go without waiting, and returns a [`Step`] that says where it goes next. Work that may wait
//! for a disk is a [`DiskJob`](step::DiskJob), which a disk worker runs by
//! [`Connection::run_disk_job`]. The order of the states is that of `transitions`.

mod access;
pub(crate) mod classify;
mod common_state;
mod deferred_record;
mod discard;
mod exchange;
mod handshake;
mod http;
mod introduction;
mod lingering_close;
mod name_protocol;
mod observed;
mod pacer;
mod prepare;
pub(crate) mod proxy_header;
mod receive;
mod request_buffer;
mod send;
mod send_queue;
mod stall;
mod state;
pub(crate) mod step;
mod streamed_body;
mod transitions;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::client_share::{ClientShare, ShareHandle};
use crate::server::connection::common_state::CommonState;
use crate::server::connection::handshake::Handshaking;
use crate::server::connection::introduction::Introduction;
use crate::server::connection::lingering_close::Lingering;
use crate::server::connection::receive::Receiving;
use crate::server::connection::send::Sending;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{Admission, DiskAction, Step, TurnContext};
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{CloseReason, Counters, Peer};
use crate::server::transmit::read_ahead::ReadAhead;
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::tls::TlsStream;
use crate::sys::kernel_tls::KernelTls;
use crate::sys::poller::Readiness;
use crate::sys::socket;
use crate::tls::session::Session;

/// A connection. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` while a transition runs, and for good after one that panicked.
    state: Option<State>,
    common: CommonState,
}

impl Connection {
    /// Takes an accepted connection.
    pub(crate) fn new(
        stream: TcpStream,
        peer: Peer,
        share: ShareHandle,
        permit: Permit,
        admission: Admission,
        (service, now): (&Shared, Instant),
    ) -> Box<Self> {
        let state = match service.config.proxies.has_introduced(peer) {
            true => State::Introducing(Introduction::new(now)),
            false => State::Receiving(Receiving::new(now)),
        };
        Box::new(Self {
            state: Some(state),
            common: CommonState::new(stream, peer, share, permit, admission, (service, now)),
        })
    }

    /// Makes a new connection begin with the handshake of a session, which `kernel` may take over.
    pub(crate) fn with_session(
        mut self: Box<Self>,
        session: Session,
        kernel: Option<KernelTls>,
        now: Instant,
    ) -> Box<Self> {
        self.common.tls = Some(Box::new(TlsStream::new(session, kernel)));
        // A PROXY header comes in plain text, before the handshake.
        if let Some(State::Receiving(_)) = self.state {
            self.state = Some(State::Handshaking(Handshaking::new(now)));
        }
        self
    }

    /// The socket, to be watched.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.common.stream
    }

    /// The connection's part in its client's share.
    pub(crate) fn share(&self) -> &ShareHandle {
        &self.common.share
    }

    /// The client's share.
    pub(crate) fn client(&self) -> &Arc<ClientShare> {
        self.common.share.client()
    }

    /// When the current state has lasted too long.
    pub(crate) fn deadline(&self) -> Instant {
        self.common.deadline
    }

    /// Its number, which no other connection ever has.
    pub(crate) fn number(&self) -> u64 {
        self.common.number
    }

    /// Whether a response is on its way, so that the connection's turns are the long ones.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.state, Some(State::Sending(_)))
    }

    /// Whether its listing has taken a shared scan a step further.
    pub(crate) fn scan_is_under_way(&self) -> bool {
        matches!(&self.state, Some(State::Sending(sending)) if sending.scan_is_under_way())
    }

    /// Whether keys are being agreed upon, which takes as long as sending a piece of a file.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.state, Some(State::Handshaking(_)))
    }

    /// Whether the end of our side of the stream waits for room in the send queue.
    pub(crate) fn owes_end(&self) -> bool {
        matches!(&self.state, Some(State::Lingering(lingering)) if !lingering.is_closed())
    }

    /// The start of the silence on an idle connection; `None` while a request is under way, or may
    /// be in the receive queue.
    pub(crate) fn silent_since(&self, now: Instant) -> Option<Instant> {
        let common = &self.common;
        let since = match &self.state {
            Some(State::Handshaking(handshaking)) => handshaking.silent_since()?,
            Some(State::Receiving(receiving))
                if common.unconfirmed.is_none()
                    && receiving.is_idle(&common.received)
                    && !common.has_unsent_records() =>
            {
                receiving.since()
            }
            _ => return None,
        };
        // A request may lie in the socket, unread so far.
        let nothing_came = common.has_nothing_to_read();
        let is_new = common.requests == 0 && now < since + FIRST_REQUEST_GRACE;
        (nothing_came && !is_new).then_some(since)
    }

    /// Whether the peer has closed the connection, as far as the socket shows without a send.
    pub(crate) fn has_left(&mut self) -> bool {
        self.common.has_left()
    }

    /// Notes that the poller saw something to read.
    pub(crate) fn note_readable(&mut self, readiness: Readiness) {
        self.common.received.note(readiness);
    }

    /// The next extent to read ahead, if the file is not in memory.
    pub(crate) fn next_read_ahead(&mut self) -> Option<ReadAhead> {
        match &mut self.state {
            Some(State::Sending(sending)) => sending.next_read_ahead(),
            _ => None,
        }
    }

    /// Takes the connection as far as it can go without waiting, up to one quantum.
    pub(crate) fn advance(&mut self, turn: &mut TurnContext<'_>) -> Step {
        self.common.disk_wait = None;
        if let Some((path, file)) = self.common.resolved.take() {
            turn.names.remember(&path, &file, turn.now);
        }
        match self.state.take() {
            Some(state) => self.run(state, turn),
            None => Step::Close(CloseReason::Panicked),
        }
    }

    /// Follows from a deadline that has passed.
    pub(crate) fn expire(&mut self, turn: &mut TurnContext<'_>) -> Step {
        let Some(state) = self.state.take() else {
            return Step::Close(CloseReason::Panicked);
        };
        match transitions::expire(state, &mut self.common, turn) {
            Flow::Continue(state) => self.run(state, turn),
            Flow::Stop(state, step) => self.stop(state, step),
        }
    }

    /// Runs the disk job of the connection.
    pub(crate) fn run_disk_job(
        &mut self,
        action: DiskAction,
        service: &Shared,
        tools: &mut IoBuffers,
    ) {
        if let Some(state) = self.state.take() {
            let common = &mut self.common;
            let next = transitions::run_disk_job(state, action, common, service, tools);
            self.state = Some(next);
        }
    }

    /// The reason to close during a drain or an abort, if there is one. A connection's first
    /// request may be under way, and is waited for.
    pub(crate) fn on_shutdown(&mut self, service: &Shared, now: Instant) -> Option<CloseReason> {
        let common = &mut self.common;
        if service.is_aborting() {
            return Some(CloseReason::Shutdown);
        }
        let is_new = match &self.state {
            Some(State::Introducing(_) | State::Handshaking(_)) => true,
            Some(State::Receiving(receiving)) => {
                if common.unconfirmed.is_some() || !receiving.is_idle(&common.received) {
                    return None;
                }
                common.requests == 0
            }
            _ => return None,
        };
        if is_new {
            common.deadline = common.deadline.min(now + DRAIN_GRACE);
            return None;
        }
        // A request may lie in the socket, unread so far.
        if !common.has_nothing_to_read() {
            return None;
        }
        if common.tls.is_some() && matches!(common.end_stream(), Ok(false)) {
            // `close_notify` waits for room behind the last response.
            let lingering = Lingering::new(CloseReason::Shutdown, false, now);
            self.state = Some(State::Lingering(lingering));
            common.deadline = now;
            return None;
        }
        Some(CloseReason::Shutdown)
    }

    /// Closes the connection; a response that is not sent whole makes it a reset.
    pub(crate) fn close(self: Box<Self>, reason: CloseReason, service: &Shared) {
        let Self { state, mut common } = *self;
        let sent = match &state {
            Some(State::Sending(sending)) => sending.sent(),
            _ => 0,
        };
        common.observed.note_close(sent, &common.stream, service);
        let missing = common.outstanding();
        if let Some(record) = common.unconfirmed.take() {
            record.finish(missing, service);
        }
        match state {
            Some(State::Sending(sending)) => break_off(sending, reason, &mut common, service),
            Some(_) => {
                if let Some(tls) = &mut common.tls {
                    let _ = tls.end(&common.stream);
                }
            }
            None => {
                let _ = socket::reset_on_close(&common.stream);
            }
        }
        service.counters.count_close(reason);
    }

    /// A turn that waited nevertheless is counted, and the record of resident pages dropped.
    fn run(&mut self, state: State, turn: &mut TurnContext<'_>) -> Step {
        // `turn.now` is that of all connections that became ready together.
        let begun = Instant::now();
        let step = self.run_states(state, turn);
        if turn.watch.has_waited(begun) {
            Counters::add_one(&turn.service.counters.hot_waits);
            if let Some(State::Sending(sending)) = &self.state {
                sending.forget_residency();
            }
        }
        step
    }

    fn run_states(&mut self, mut state: State, turn: &mut TurnContext<'_>) -> Step {
        for _ in 0..MAX_STEPS {
            state = match transitions::advance(state, &mut self.common, turn) {
                Flow::Continue(next) => next,
                Flow::Stop(state, step) => return self.stop(state, step),
            };
        }
        self.stop(state, Step::Yield)
    }

    fn stop(&mut self, state: State, step: Step) -> Step {
        self.state = Some(state);
        step
    }
}

/// Records a response that was not sent whole. Over TLS the missing `close_notify` reports that as
/// a reset would, and discards no bytes in flight.
fn break_off(
    sending: Box<Sending>,
    reason: CloseReason,
    common: &mut CommonState,
    service: &Shared,
) {
    let is_ours = matches!(reason, CloseReason::Changed | CloseReason::ReadError);
    let is_told = common.tls.is_some() && !sending.ends_by_close();
    if !(is_ours && is_told) {
        let _ = socket::reset_on_close(&common.stream);
    }
    let unsent = common.tls.as_mut().map_or(0, |tls| {
        let _ = tls.flush(&common.stream);
        tls.unsent(&common.stream)
    });
    if let Some(mut record) = sending.into_record(reason, common.peer, service) {
        record.sent = record.sent.saturating_sub(unsent);
        service.journal.record(common.with_tls_client(record));
    }
}

/// Transitions in one quantum; pipelined requests take three each.
const MAX_STEPS: usize = 192;

/// A new connection is not silent before its first request had a round trip's time to arrive.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(200);

/// What a new connection has for its handshake and its first request while the server drains: some
/// round trips, and a lost packet that is sent again (after a second and more, RFC 6298).
const DRAIN_GRACE: Duration = Duration::from_secs(3);
