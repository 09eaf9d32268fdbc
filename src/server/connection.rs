//! A connection: the only file that knows the order receive → parse → resolve → respond →
//! transmit → record.
//!
//! A connection is a `Box` that goes round a ring. Its holder calls [`Connection::advance`], which
//! takes it as far as it can go without waiting, and learns from the [`Step`] where it has to go
//! next. What may wait for a disk is a [`DiskJob`], which a disk worker runs by
//! [`Connection::run_disk_job`].

pub(crate) mod classify;
mod deferred_record;
mod discard;
mod gate;
mod handshake;
mod http;
mod introduction;
mod lingering_close;
mod name;
mod observed;
mod pacer;
mod prepare;
pub(crate) mod proxy_header;
mod receive;
mod send;
pub(crate) mod send_queue;
mod stall;
pub(crate) mod step;
mod streamed_body;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::{BodyLength, Expectation, Persistence, Refusal, Request};
use crate::server::client_share::{ClientShare, ShareHandle};
use crate::server::connection::deferred_record::{DeferredRecord, LOOK_EVERY, outstanding};
use crate::server::connection::discard::{Discarding, Progress};
use crate::server::connection::handshake::{HandshakeStep, Handshaking};
use crate::server::connection::introduction::{Introduced, Introduction};
use crate::server::connection::lingering_close::{LingerStep, Lingering};
use crate::server::connection::observed::Observed;
use crate::server::connection::pacer::Pacer;
use crate::server::connection::prepare::{Cache, Pending, PreparedResponse, RequestKind};
use crate::server::connection::receive::{Received, Receiving, RequestBuffer, Source};
use crate::server::connection::send::{LEAST_CHARGE, SendStep, Sending};
use crate::server::connection::send_queue::SendQueue;
use crate::server::connection::step::{
    Admission, DiskAction, DiskJob, Resolved, Step, TurnContext,
};
use crate::server::places::Place;
use crate::server::rate_limit::Allowance;
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason, Counters, Peer, TlsClient};
use crate::server::transmit::ReadAhead;
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::tls::{TlsSink, TlsStream};
use crate::sys::file::Blocking;
use crate::sys::poller::{Interest, Readiness};
use crate::sys::socket;
use crate::tls::session::Session;

/// A connection. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    stream: TcpStream,
    /// Whom it is for: who sends, or whom a proxy speaks for.
    /// The session, if it speaks TLS.
    tls: Option<Box<TlsStream>>,
    peer: Peer,
    /// Who sends: the peer, or whom a PROXY header named.
    sender: Peer,
    share: ShareHandle,
    _permit: Permit,
    admission: Admission,
    received: RequestBuffer,
    /// `None` while a step runs, and for good after one that panicked.
    state: Option<State>,
    /// Requests received whole.
    requests: u64,
    deadline: Instant,
    resolved: Option<Resolved>,
    send_queue: SendQueue,
    pacer: Pacer,
    /// Whether the kernel asks now and then whether the peer is there.
    is_probed: bool,
    /// While it waits for a disk, or is about to.
    place: Option<Place>,
    /// The record of the last response, while its bytes have not arrived.
    unconfirmed: Option<Box<DeferredRecord>>,
    observed: Observed,
}

#[derive(Debug)]
enum State {
    /// Waiting for a proxy to say for whom it speaks.
    Introducing(Introduction),
    /// Agreeing on keys.
    Handshaking(Handshaking),
    /// Waiting for a request, or in the middle of one.
    Receiving(Receiving),
    /// Throwing a request's body away before answering.
    Discarding(Discarding),
    /// A request is whole and has to be looked up.
    Preparing(Box<Pending>),
    /// A response is on its way.
    Sending(Box<Sending>),
    /// All is sent and our side closed; the peer may finish.
    Lingering(Lingering),
}

/// What a state's step leads to.
enum Flow {
    Continue(State),
    Stop(State, Step),
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
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Box::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            stream,
            tls: None,
            peer,
            sender: peer,
            share,
            _permit: permit,
            admission,
            received: RequestBuffer::default(),
            state: Some(state),
            requests: 0,
            deadline: now + service.config.deadlines.first_byte,
            resolved: None,
            send_queue: SendQueue::default(),
            pacer: Pacer::new(service, now),
            is_probed: false,
            place: None,
            unconfirmed: None,
            observed: Observed::new(service),
        })
    }

    /// Has a new connection begin with the handshake of a session.
    pub(crate) fn with_session(mut self: Box<Self>, session: Session, now: Instant) -> Box<Self> {
        self.tls = Some(Box::new(TlsStream::new(session)));
        // A proxy's word comes in plain text, before the handshake.
        if let Some(State::Receiving(_)) = self.state {
            self.state = Some(State::Handshaking(Handshaking::new(now)));
        }
        self
    }

    /// The socket, to be watched.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whose connection it is.
    pub(crate) fn share(&self) -> &ShareHandle {
        &self.share
    }

    /// The client whose connection it is.
    pub(crate) fn client(&self) -> &Arc<ClientShare> {
        self.share.client()
    }

    /// When the current state has lasted too long.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Its number, which no other connection ever has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a response is on its way, so that the connection's turns are the long ones.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.state, Some(State::Sending(_)))
    }

    /// Whether keys are being agreed upon, which takes as long as sending a piece of a file.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.state, Some(State::Handshaking(_)))
    }

    /// Whether the end of our side of the stream waits for room in the send queue.
    pub(crate) fn owes_end(&self) -> bool {
        matches!(&self.state, Some(State::Lingering(lingering)) if !lingering.is_closed())
    }

    /// Since when nothing has come and nothing is owed; `None` while a request is under way, or
    /// may still be on its way.
    pub(crate) fn silent_since(&self, now: Instant) -> Option<Instant> {
        let since = match &self.state {
            Some(State::Handshaking(handshaking)) => handshaking.silent_since()?,
            Some(State::Receiving(receiving))
                if self.unconfirmed.is_none() && receiving.is_idle(&self.received) =>
            {
                receiving.since()
            }
            _ => return None,
        };
        // A request may lie in the socket, unread so far.
        let nothing_came = matches!(self.stream.peek(&mut [0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        let is_new = self.requests == 0 && now < since + FIRST_REQUEST_GRACE;
        (nothing_came && !is_new).then_some(since)
    }

    /// Whether the peer has left, as far as can be told without sending anything: it reset the
    /// connection, or no host answers any more. Who has closed its side only may still read.
    pub(crate) fn has_left(&mut self) -> bool {
        if !self.is_probed {
            // The kernel finds out who has closed both sides.
            self.is_probed = socket::keep_alive(&self.stream).is_ok();
        }
        socket::is_broken(&self.stream)
    }

    /// Notes that the poller saw something to read.
    pub(crate) fn note_readable(&mut self, readiness: Readiness) {
        self.received.note(readiness);
    }

    /// The next extent that should be read ahead, if the file has to come from a disk.
    pub(crate) fn next_read_ahead(&mut self) -> Option<ReadAhead> {
        match &mut self.state {
            Some(State::Sending(sending)) => sending.next_read_ahead(),
            _ => None,
        }
    }

    /// Takes the connection as far as it can go without waiting, for a quantum at the most.
    pub(crate) fn advance(&mut self, turn: &mut TurnContext<'_>) -> Step {
        self.place = None;
        if let Some((path, file)) = self.resolved.take() {
            turn.names.remember(&path, &file, turn.now);
        }
        match self.state.take() {
            Some(state) => self.run(state, turn),
            None => Step::Close(CloseReason::Panicked),
        }
    }

    /// What has to happen now that the deadline has passed.
    pub(crate) fn expire(&mut self, turn: &mut TurnContext<'_>) -> Step {
        let flow = match self.state.take() {
            Some(State::Introducing(introduction)) => {
                let why = "the PROXY header was not whole in time";
                self.refuse_introduction(introduction, (CloseReason::HeadTimeout, why), turn)
            }
            Some(State::Handshaking(handshaking)) => self.expire_handshaking(handshaking, turn),
            Some(State::Receiving(receiving)) => self.expire_receiving(receiving, turn),
            Some(State::Discarding(discarding)) => {
                let pending = discarding.into_refused(Refusal::RequestTimeout);
                self.received.clear();
                Flow::Continue(State::Preparing(Box::new(pending)))
            }
            Some(State::Sending(sending)) => self.expire_sending(sending, turn),
            Some(State::Lingering(lingering)) => self.expire_lingering(lingering, turn),
            Some(state @ State::Preparing(_)) => Flow::Stop(state, Step::Yield),
            None => return Step::Close(CloseReason::Panicked),
        };
        match flow {
            Flow::Continue(state) => self.run(state, turn),
            Flow::Stop(state, step) => self.stop(state, step),
        }
    }

    /// Does what the connection came to the disk worker for.
    pub(crate) fn run_disk_job(
        &mut self,
        action: DiskAction,
        service: &Shared,
        tools: &mut IoBuffers,
    ) {
        self.state = match (self.state.take(), &mut self.tls) {
            (Some(State::Handshaking(mut handshaking)), Some(tls)) => {
                handshaking.open(tls, &mut self.received);
                Some(State::Handshaking(handshaking))
            }
            (Some(State::Preparing(mut pending)), _) if action == DiskAction::CheckPassword => {
                if let Some(access) = &service.access {
                    pending.check_password(access, self.peer);
                }
                Some(State::Preparing(pending))
            }
            (Some(State::Preparing(pending)), _) => {
                let mut cache = Cache::Later(&mut self.resolved);
                Some(
                    match prepare(&pending, service, Blocking::Allowed, &mut cache) {
                        Some(response) => self.start(*pending, response, service),
                        None => State::Preparing(pending),
                    },
                )
            }
            (Some(State::Sending(mut sending)), tls) => {
                let (client, now) = (self.share.client(), Instant::now());
                let budget = match self.pacer.allowance(service, client, now) {
                    Allowance::Bytes(bytes) => bytes.min(service.config.quantum_bytes),
                    // Another connection of the client was faster: the first piece is on credit.
                    Allowance::NotBefore(_) => LEAST_CHARGE,
                };
                let charged = match tls {
                    None => {
                        let mut sink = &self.stream;
                        sending.run_disk_job(action, &mut sink, service, tools, budget)
                    }
                    Some(tls) => {
                        let mut buffers = tools.sealing.take().unwrap_or_default();
                        let mut sink = TlsSink::new(&self.stream, tls, &mut buffers);
                        let sent = sending.run_disk_job(action, &mut sink, service, tools, budget);
                        tools.sealing = Some(buffers);
                        sent
                    }
                };
                client.charge(charged);
                self.pacer.charge(charged, service, client, now);
                Some(State::Sending(sending))
            }
            // No other state asks for a disk job.
            (state, _) => state,
        };
    }

    /// What has to happen when the server drains or aborts.
    pub(crate) fn on_shutdown(&self, service: &Shared) -> Option<CloseReason> {
        let owes_nothing = match &self.state {
            Some(State::Introducing(_)) => true,
            Some(State::Receiving(receiving)) => {
                self.unconfirmed.is_none() && receiving.is_idle(&self.received)
            }
            Some(State::Handshaking(_)) => true,
            _ => false,
        };
        (service.is_aborting() || owes_nothing).then_some(CloseReason::Shutdown)
    }

    /// Ends the connection: what was promised and not sent makes the close a reset. Over TLS the
    /// lack of `close_notify` tells as much, and takes no byte away that is on its way.
    pub(crate) fn close(mut self: Box<Self>, reason: CloseReason, service: &Shared) {
        let sent = match &self.state {
            Some(State::Sending(sending)) => sending.sent(),
            _ => 0,
        };
        self.observed.note_close(sent, &self.stream, service);
        let missing = self.outstanding();
        if let Some(record) = self.unconfirmed.take() {
            record.finish(missing, service);
        }
        match self.state {
            Some(State::Sending(sending)) => {
                let is_ours = matches!(reason, CloseReason::Changed | CloseReason::ReadError);
                let is_told = self.tls.is_some() && !sending.ends_by_close();
                if !(is_ours && is_told) {
                    let _ = socket::reset_on_close(&self.stream);
                }
                let unsent = self.tls.as_mut().map_or(0, |tls| {
                    let _ = tls.flush(&self.stream);
                    tls.unsent()
                });
                if let Some(mut record) = sending.into_record(reason, self.peer, service) {
                    record.sent = record.sent.saturating_sub(unsent);
                    record.tls = self.tls.as_deref().map(client_of);
                    service.journal.record(record);
                }
            }
            Some(_) => {
                if let Some(tls) = &mut self.tls {
                    tls.close();
                    let _ = tls.flush(&self.stream);
                }
            }
            None => {
                let _ = socket::reset_on_close(&self.stream);
            }
        }
        service.counters.count_close(reason);
    }

    /// A turn that had to wait all the same is counted, and what was thought to be in memory
    /// forgotten.
    fn run(&mut self, state: State, turn: &mut TurnContext<'_>) -> Step {
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
            let flow = match state {
                State::Introducing(introduction) => self.introduce(introduction, turn),
                State::Handshaking(handshaking) => self.handshake(handshaking, turn),
                State::Receiving(receiving) => self.receive(receiving, turn),
                State::Discarding(discarding) => self.discard(discarding, turn),
                State::Preparing(pending) => self.prepare(pending, turn),
                State::Sending(sending) => self.send(sending, turn),
                State::Lingering(lingering) => self.linger(lingering, turn),
            };
            state = match flow {
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

    /// Takes a proxy's word for whom it speaks.
    fn introduce(&mut self, mut introduction: Introduction, turn: &mut TurnContext<'_>) -> Flow {
        match introduction.advance(&self.stream, &mut turn.tools.scratch) {
            Introduced::Incomplete => {
                let deadlines = &turn.service.config.deadlines;
                self.deadline = introduction.since() + deadlines.first_byte.min(deadlines.head);
                Flow::Stop(State::Introducing(introduction), Step::Park(Interest::Read))
            }
            Introduced::As(client) => {
                if let Some(address) = client {
                    self.sender = address.into();
                    self.speak_for(self.sender, turn.service);
                }
                Flow::Continue(match self.tls {
                    Some(_) => State::Handshaking(Handshaking::new(turn.now)),
                    None => State::Receiving(Receiving::new(turn.now)),
                })
            }
            Introduced::Refused(why) => {
                self.refuse_introduction(introduction, (CloseReason::Malformed, why), turn)
            }
            Introduced::End(reason) => {
                Flow::Stop(State::Introducing(introduction), Step::Close(reason))
            }
        }
    }

    fn handshake(&mut self, mut handshaking: Handshaking, turn: &mut TurnContext<'_>) -> Flow {
        let Some(tls) = &mut self.tls else {
            return Flow::Continue(State::Receiving(Receiving::new(turn.now)));
        };
        let scratch = &mut turn.tools.scratch;
        let socket = (&self.stream, &mut **tls);
        match handshaking.advance(socket, &mut self.received, scratch, turn.now) {
            HandshakeStep::Opens if turn.service.has_slow_keys() => {
                let job = DiskJob {
                    file_system: NO_FILE_SYSTEM,
                    action: DiskAction::Handshake,
                };
                Flow::Stop(State::Handshaking(handshaking), Step::Disk(job))
            }
            HandshakeStep::Opens => {
                handshaking.open(tls, &mut self.received);
                self.share.client().charge(HANDSHAKE_CHARGE);
                turn.served += HANDSHAKE_CHARGE;
                Flow::Continue(State::Handshaking(handshaking))
            }
            HandshakeStep::Wait(interest) => {
                self.deadline = handshaking.deadline(&turn.service.config.deadlines);
                if self.admission == Admission::Rejected {
                    self.deadline = self.deadline.min(turn.now + REJECTED_WAIT);
                }
                Flow::Stop(State::Handshaking(handshaking), Step::Park(interest))
            }
            HandshakeStep::Done => {
                let counters = &turn.service.counters;
                Counters::add_one(&counters.handshakes);
                if tls.session().is_resumed() {
                    Counters::add_one(&counters.handshakes_resumed);
                }
                tls.note_subject();
                if tls.session().is_closed_by_peer() {
                    self.received.note_end();
                }
                turn.now = Instant::now();
                Flow::Continue(State::Receiving(Receiving::new(turn.now)))
            }
            HandshakeStep::PlainHttp => {
                let text = self.tls.take().map(|tls| tls.into_partial());
                self.received.replace(text.unwrap_or_default());
                self.refuse(Refusal::BadRequest(
                    "this port speaks TLS: the address begins with https://",
                ))
            }
            HandshakeStep::Failed(why) => {
                Counters::add_one(&turn.service.counters.handshakes_failed);
                let why = (CloseReason::Malformed, why);
                prepare::record_no_request(&self.received, why, self.peer, turn.service);
                // What else comes is nothing that could be opened.
                self.tls = None;
                self.end(
                    State::Handshaking(handshaking),
                    CloseReason::Malformed,
                    turn.now,
                )
            }
            HandshakeStep::Ended => {
                let step = Step::Close(CloseReason::Aborted);
                Flow::Stop(State::Handshaking(handshaking), step)
            }
        }
    }

    fn refuse_introduction(
        &self,
        introduction: Introduction,
        why: (CloseReason, &'static str),
        turn: &TurnContext<'_>,
    ) -> Flow {
        let line = receive::first_line(introduction.head());
        prepare::record_request(line, why, self.peer, turn.service);
        Flow::Stop(State::Introducing(introduction), Step::Close(why.0))
    }

    /// What follows is for this client: its limits, its share and its name in the log.
    fn speak_for(&mut self, peer: Peer, service: &Shared) {
        if peer == self.peer {
            return;
        }
        self.peer = peer;
        self.share = service.clients.join(peer);
        if service.has_too_many(&self.share, peer) {
            self.admission = Admission::Rejected;
        }
    }

    fn receive(&mut self, mut receiving: Receiving, turn: &mut TurnContext<'_>) -> Flow {
        let is_kept = self.requests > 0;
        let mut source = Source {
            stream: &self.stream,
            tls: self.tls.as_deref_mut(),
        };
        let received = self
            .received
            .recognize(&mut receiving, &mut source, turn, is_kept);
        let close = |reason| Flow::Stop(State::Receiving(receiving), Step::Close(reason));
        match received {
            Received::Incomplete(wait_until) => {
                self.deadline = match self.admission {
                    Admission::Admitted => wait_until,
                    Admission::Rejected => wait_until.min(receiving.since() + REJECTED_WAIT),
                };
                if let Some(record) = &mut self.unconfirmed {
                    record.deadline = wait_until;
                    self.deadline = wait_until.min(turn.now + LOOK_EVERY);
                }
                Flow::Stop(State::Receiving(receiving), Step::Park(Interest::Read))
            }
            Received::Request(request) => self.begin(request, turn),
            Received::Name(raw) => {
                self.count_request(turn.service);
                if self.admission == Admission::Rejected {
                    return close(CloseReason::Overloaded);
                }
                if let Peer::Unix { .. } = self.peer {
                    // Unix sockets know no reset: a file that broke off would look whole.
                    let why = (
                        CloseReason::Refused,
                        "names are not served over Unix sockets",
                    );
                    prepare::record_request(&raw, why, self.peer, turn.service);
                    return close(CloseReason::Refused);
                }
                Flow::Continue(State::Preparing(Box::new(Pending::name(raw))))
            }
            Received::Malformed(refusal) => self.refuse(refusal),
            Received::Unrecognized(why) => {
                let why = (CloseReason::Malformed, why);
                prepare::record_no_request(&self.received, why, self.peer, turn.service);
                if self.tls.is_none() && classify::is_tls(self.received.bytes()) {
                    // Whoever means TLS understands this. If the socket does not take it, no harm.
                    let _ = socket::send(&self.stream, TLS_ALERT, false);
                    return self.end(
                        State::Receiving(receiving),
                        CloseReason::Malformed,
                        turn.now,
                    );
                }
                close(CloseReason::Malformed)
            }
            // The peer has closed its side only, and reads on.
            Received::End(reason) if self.unconfirmed.is_some() && self.received.has_ended() => {
                self.end(State::Receiving(receiving), reason, turn.now)
            }
            Received::End(_) if self.is_unacknowledged() => close(CloseReason::Aborted),
            Received::End(reason) => close(reason),
        }
    }

    /// Takes a request whose head is whole.
    fn begin(&mut self, mut request: Box<Request>, turn: &TurnContext<'_>) -> Flow {
        self.count_request(turn.service);
        let proxies = &turn.service.config.proxies;
        if proxies.has_forwarding(self.sender) {
            let named = request
                .forwarded_for
                .take()
                .map(|ip| SocketAddr::new(*ip, 0).into());
            self.speak_for(named.unwrap_or(self.sender), turn.service);
        }
        let limits = &turn.service.config.http_limits;
        if self.requests >= limits.requests_per_connection || turn.service.is_draining() {
            request.persistence = Persistence::Close;
        }
        if self.admission == Admission::Rejected {
            request.persistence = Persistence::Close;
            request.refusal = Some(Refusal::Overloaded);
        }
        let is_too_long = match request.body {
            BodyLength::Known(len) => len > limits.discarded_body_bytes,
            BodyLength::Empty | BodyLength::Chunked => false,
        };
        if is_too_long {
            request.refusal = request.refusal.or(Some(Refusal::BodyTooLarge));
        }
        // The refusal takes the place of `100 Continue`; the parser has set `Persistence::Close`.
        let is_refused = request.refusal.is_some() && request.expectation == Expectation::Continue;
        if request.body == BodyLength::Empty || is_too_long || is_refused {
            return Flow::Continue(State::Preparing(Box::new(Pending::http(request, b""))));
        }
        let most = limits.discarded_body_bytes;
        let mut source = Source {
            stream: &self.stream,
            tls: self.tls.as_deref_mut(),
        };
        let discarding = Discarding::new(request, most, &mut source, &self.received, turn.now);
        Flow::Continue(State::Discarding(discarding))
    }

    fn discard(&mut self, mut discarding: Discarding, turn: &mut TurnContext<'_>) -> Flow {
        let scratch = &mut turn.tools.scratch;
        let mut source = Source {
            stream: &self.stream,
            tls: self.tls.as_deref_mut(),
        };
        match discarding.advance(&mut source, &mut self.received, scratch) {
            Progress::Done => Flow::Continue(State::Preparing(Box::new(discarding.into_pending()))),
            Progress::Refused(refusal) => {
                let pending = discarding.into_refused(refusal);
                Flow::Continue(State::Preparing(Box::new(pending)))
            }
            Progress::Again => Flow::Continue(State::Discarding(discarding)),
            Progress::Incomplete => {
                self.deadline = discarding.since() + turn.service.config.deadlines.head;
                Flow::Stop(State::Discarding(discarding), Step::Park(Interest::Read))
            }
            Progress::Ended => {
                let step = Step::Close(CloseReason::Aborted);
                Flow::Stop(State::Discarding(discarding), step)
            }
        }
    }

    fn prepare(&mut self, mut pending: Box<Pending>, turn: &mut TurnContext<'_>) -> Flow {
        if let Some(access) = &turn.service.access
            && !pending.is_decided(access, self.peer, turn.now)
        {
            let step = Step::Disk(DiskJob::CHECK_PASSWORD);
            return Flow::Stop(State::Preparing(pending), step);
        }
        let mut cache = Cache::OpenFileCache(turn.names, turn.now);
        match prepare(&pending, turn.service, Blocking::Forbidden, &mut cache) {
            Some(response) => Flow::Continue(self.start(*pending, response, turn.service)),
            None => {
                let file_system = turn.service.root.device_towards(pending.path());
                if !turn.service.has_place(file_system) {
                    let response = turn_away(&pending, turn.service);
                    return Flow::Continue(self.start(*pending, response, turn.service));
                }
                self.place = Some(turn.service.places.take(file_system));
                let action = DiskAction::LookUp;
                let job = DiskJob {
                    file_system,
                    action,
                };
                Flow::Stop(State::Preparing(pending), Step::Disk(job))
            }
        }
    }

    /// Begins to send a response.
    fn start(&mut self, pending: Pending, response: PreparedResponse, service: &Shared) -> State {
        if let Some(record) = self.unconfirmed.take() {
            // The next request means that the last response arrived, or its bytes can no longer
            // be told from the new one's.
            record.flush(service);
        }
        let sending = Sending::new(pending, response, service);
        self.pacer.smooth(&self.stream, service);
        if sending.ends_by_close() {
            // Until the last byte is out even the death of the process must look like a break.
            let _ = socket::reset_on_close(&self.stream);
        }
        if sending.is_large() {
            self.send_queue.begin_large(&self.stream);
        }
        State::Sending(Box::new(sending))
    }

    fn send(&mut self, mut sending: Box<Sending>, turn: &mut TurnContext<'_>) -> Flow {
        self.pacer.smooth(&self.stream, turn.service);
        let client = self.share.client();
        let sent = match &mut self.tls {
            None => sending.advance(&mut &self.stream, turn, client, &mut self.pacer),
            Some(tls) => {
                let mut buffers = turn.tools.sealing.take().unwrap_or_default();
                let mut sink = TlsSink::new(&self.stream, tls, &mut buffers);
                let sent = sending.advance(&mut sink, turn, client, &mut self.pacer);
                turn.tools.sealing = Some(buffers);
                sent
            }
        };
        let whose = (self.number, self.peer);
        (self.observed).note_step(&sent, &sending, whose, &self.stream, turn.service);
        let step = match sent {
            SendStep::Done => return self.finish(sending, turn),
            SendStep::Blocked(deadline) => {
                let so_far = (sending.sent(), turn.service.rates().lowest());
                let long_queues = &turn.service.long_queues;
                self.send_queue.note_full(&self.stream, so_far, long_queues);
                self.received.shrink();
                self.deadline = deadline;
                Step::Park(Interest::Write)
            }
            SendStep::Throttled(due) => {
                self.deadline = due;
                Step::Delay
            }
            SendStep::Spent => Step::Yield,
            SendStep::Disk(job) => {
                self.place = Some(turn.service.places.take(job.file_system));
                Step::Disk(job)
            }
            SendStep::Broken(reason) => {
                let ends_by_close = sending.ends_by_close();
                return match sending.restart_after(reason) {
                    Ok(pending) => {
                        self.observed.note_end(0);
                        // The file changed before the first byte left: answer with what it is now.
                        turn.now = Instant::now();
                        self.reset_socket(ends_by_close);
                        Flow::Continue(State::Preparing(Box::new(pending)))
                    }
                    Err(sending) => Flow::Stop(State::Sending(sending), Step::Close(reason)),
                };
            }
        };
        Flow::Stop(State::Sending(sending), step)
    }

    /// Sets the socket back to what it was before the response.
    fn reset_socket(&mut self, ended_by_close: bool) {
        self.send_queue.end(&self.stream);
        if ended_by_close {
            let _ = socket::orderly_on_close(&self.stream);
        }
    }

    /// Records a response that was sent, and goes on to the next request or to the end.
    fn finish(&mut self, sending: Box<Sending>, turn: &mut TurnContext<'_>) -> Flow {
        turn.now = Instant::now();
        self.reset_socket(sending.ends_by_close());
        self.observed.note_end(sending.sent());
        let (outcome, persistence) = (sending.outcome(), sending.persistence());
        let is_last = sending.is_answer_to_last() && !sending.ends_by_close();
        self.unconfirmed = sending
            .into_record(outcome, self.peer, turn.service)
            .map(|record| AccessRecord {
                tls: self.tls.as_deref().map(client_of),
                ..record
            })
            .and_then(|record| DeferredRecord::defer(record, &self.stream, turn.service));
        let next = State::Receiving(Receiving::new(turn.now));
        if persistence == Persistence::KeepAlive {
            self.deadline = turn.now + turn.service.config.deadlines.idle;
            return Flow::Continue(next);
        }
        if is_last && self.has_nothing_to_wait_for() {
            return Flow::Stop(next, Step::Close(outcome));
        }
        // A close with bytes unread would be a reset, and might take the response with it.
        self.end(next, outcome, turn.now)
    }

    /// Ends our side of the stream. What the peer still sends is thrown away, and what it was
    /// sent has time to arrive.
    fn end(&mut self, state: State, reason: CloseReason, now: Instant) -> Flow {
        let has_all = self.received.has_ended() && self.unconfirmed.is_none();
        let Ok(is_closed) = self.end_stream() else {
            return Flow::Stop(state, Step::Close(reason));
        };
        if is_closed && has_all {
            return Flow::Stop(state, Step::Close(reason));
        }
        self.received.clear();
        Flow::Continue(State::Lingering(Lingering::new(reason, is_closed, now)))
    }

    /// Ends our side of the stream, over TLS by `close_notify` first; `false` if the socket has no
    /// room for that now.
    fn end_stream(&mut self) -> std::io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            tls.close();
            match tls.flush(&self.stream) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                flushed => flushed?,
            }
        }
        socket::end_of_stream(&self.stream).map(|()| true)
    }

    fn linger(&mut self, mut lingering: Lingering, turn: &mut TurnContext<'_>) -> Flow {
        if !lingering.is_closed() {
            match self.end_stream() {
                Ok(true) => lingering.note_closed(),
                Ok(false) => {
                    self.deadline = lingering.deadline(&turn.service.config);
                    return Flow::Stop(State::Lingering(lingering), Step::Park(Interest::Write));
                }
                Err(_) => {
                    let step = Step::Close(CloseReason::Aborted);
                    return Flow::Stop(State::Lingering(lingering), step);
                }
            }
        }
        let is_owed = self.is_unacknowledged();
        let scratch = &mut turn.tools.scratch;
        let step = match lingering.advance(&self.stream, &mut self.received, is_owed, scratch) {
            LingerStep::Again => return Flow::Continue(State::Lingering(lingering)),
            LingerStep::Wait => {
                self.deadline = lingering.deadline(&turn.service.config);
                if self.unconfirmed.is_some() {
                    self.deadline = self.deadline.min(turn.now + LOOK_EVERY);
                }
                Step::Park(Interest::Read)
            }
            LingerStep::Ended if is_owed => Step::Close(CloseReason::Aborted),
            LingerStep::Ended => Step::Close(lingering.reason()),
        };
        Flow::Stop(State::Lingering(lingering), step)
    }

    fn expire_handshaking(&self, handshaking: Handshaking, turn: &TurnContext<'_>) -> Flow {
        let reason = match handshaking.silent_since() {
            Some(_) => CloseReason::FirstByteTimeout,
            None => {
                let why = (
                    CloseReason::HeadTimeout,
                    "the handshake was not whole in time",
                );
                prepare::record_no_request(&self.received, why, self.peer, turn.service);
                CloseReason::HeadTimeout
            }
        };
        Flow::Stop(State::Handshaking(handshaking), Step::Close(reason))
    }

    fn expire_receiving(&mut self, mut receiving: Receiving, turn: &TurnContext<'_>) -> Flow {
        let is_early = |record: &DeferredRecord| turn.now < record.deadline;
        if self.unconfirmed.as_deref().is_some_and(is_early) {
            let has_arrived = self.record_if_arrived(turn.service);
            let is_over = turn.service.is_draining() && receiving.is_idle(&self.received);
            let state = State::Receiving(receiving);
            return match has_arrived && is_over {
                true => Flow::Stop(state, Step::Close(CloseReason::Shutdown)),
                false => Flow::Continue(state),
            };
        }
        if receiving.silence_ends_name(turn.now, turn.service.config.deadlines.head) {
            receiving.note_silence();
            return Flow::Continue(State::Receiving(receiving));
        }
        let may_be_name = receiving.may_be_name();
        if !may_be_name && !self.received.bytes().is_empty() {
            return self.refuse(Refusal::RequestTimeout);
        }
        let reason = match self.requests {
            _ if may_be_name => {
                // Any answer would be taken for the bytes of a file.
                let why = (CloseReason::HeadTimeout, "the name was not whole in time");
                prepare::record_no_request(&self.received, why, self.peer, turn.service);
                CloseReason::HeadTimeout
            }
            0 => CloseReason::FirstByteTimeout,
            _ => CloseReason::Idle,
        };
        Flow::Stop(State::Receiving(receiving), Step::Close(reason))
    }

    fn expire_sending(&mut self, mut sending: Box<Sending>, turn: &mut TurnContext<'_>) -> Flow {
        let step = if self.pacer.is_throttled() {
            Step::Yield
        } else {
            let expired = match &mut self.tls {
                None => sending.expire(&&self.stream, turn.service, turn.now),
                Some(tls) => {
                    let buffers = turn.tools.sealing.get_or_insert_default();
                    let sink = TlsSink::new(&self.stream, tls, buffers);
                    sending.expire(&sink, turn.service, turn.now)
                }
            };
            match expired {
                Ok(deadline) => {
                    if sending.seems_stalled() {
                        self.send_queue.shorten(&self.stream);
                    }
                    self.deadline = deadline;
                    Step::Park(Interest::Write)
                }
                Err(reason) => Step::Close(reason),
            }
        };
        Flow::Stop(State::Sending(sending), step)
    }

    /// Over a slow line the last megabytes take their time: a peer that takes some is not cut.
    fn expire_lingering(&mut self, mut lingering: Lingering, turn: &TurnContext<'_>) -> Flow {
        let missing = match &self.unconfirmed {
            Some(_) => self.outstanding(),
            None => 0,
        };
        let ended = lingering.expire(missing, &self.received, &turn.service.config, turn.now);
        if let Err(reason) = ended {
            return Flow::Stop(State::Lingering(lingering), Step::Close(reason));
        }
        self.record_if_arrived(turn.service);
        Flow::Continue(State::Lingering(lingering))
    }

    /// Answers what cannot be understood or came too late; the connection ends with it.
    fn refuse(&mut self, refusal: Refusal) -> Flow {
        let line = self.received.first_line();
        self.received.clear();
        let pending = Pending::malformed(refusal, line);
        Flow::Continue(State::Preparing(Box::new(pending)))
    }

    /// Writes the record of the last response once all of it has arrived.
    fn record_if_arrived(&mut self, service: &Shared) -> bool {
        if self.unconfirmed.is_none() || self.outstanding() > 0 {
            return false;
        }
        let record = self.unconfirmed.take();
        record.map(|record| record.flush(service)).is_some()
    }

    /// Bytes of responses that the peer has not acknowledged. `close_notify` is none of them: a peer
    /// that has all may be gone when it comes.
    fn outstanding(&self) -> u64 {
        let closing = self.tls.as_ref().map_or(0, |tls| tls.closing());
        outstanding(&self.stream).saturating_sub(closing)
    }

    /// Whether the last response has not arrived.
    fn is_unacknowledged(&self) -> bool {
        self.unconfirmed.is_some() && self.outstanding() > 0
    }

    /// Whether the peer has acknowledged all (RFC 9112 section 9.6), and sent nothing more, which
    /// would make the close a reset.
    fn has_nothing_to_wait_for(&self) -> bool {
        self.received.is_empty()
            && socket::unacknowledged(&self.stream) == Some(0)
            && socket::unread(&self.stream) == Some(0)
    }

    fn count_request(&mut self, service: &Shared) {
        self.requests += 1;
        Counters::add_one(&service.counters.requests);
    }
}

/// What the log says of a client that came by TLS.
fn client_of(tls: &TlsStream) -> TlsClient {
    TlsClient {
        subject: tls.subject(),
    }
}

/// Makes the response; `None` if that may wait for a disk.
fn prepare(
    pending: &Pending,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    match &pending.request {
        RequestKind::Malformed { refusal, .. } => Some(http::refuse(None, refusal, service)),
        RequestKind::Http(request) => {
            http::prepare(request, &pending.gate, service, blocking, cache)
        }
        RequestKind::Name { target, .. } => name::prepare(target, service, blocking, cache),
    }
}

/// The answer where too many wait for the same file system.
fn turn_away(pending: &Pending, service: &Shared) -> PreparedResponse {
    match &pending.request {
        RequestKind::Http(request) => http::refuse(Some(request), &Refusal::Overloaded, service),
        RequestKind::Name { .. } => name::turn_away(),
        RequestKind::Malformed { refusal, .. } => http::refuse(None, refusal, service),
    }
}

/// What a handshake is in service, in bytes: it takes as long as sealing so many.
const HANDSHAKE_CHARGE: u64 = 128 << 10;

/// A line of its own in the disk queue: no file system has this device number.
const NO_FILE_SYSTEM: u64 = u64::MAX;

/// A fatal alert, `protocol_version` (RFC 8446 section 6).
const TLS_ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];

/// For a rejected connection's request; others may be told the same in its place.
const REJECTED_WAIT: Duration = Duration::from_secs(2);

/// Steps of the state machine in one quantum; pipelined requests take three each.
const MAX_STEPS: usize = 192;

/// A new connection is not silent before its first request had a round trip's time to come.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(200);
