//! A connection: the only file that knows the order receive → parse → resolve → respond →
//! transmit → record.
//!
//! A connection is a `Box` that goes round a ring. Whoever holds it calls
//! [`Connection::advance`], which takes it as far as it can go without waiting, and learns from
//! the [`Step`] where it has to go next. What may wait for a disk is an [`DiskJob`], which a disk
//! worker runs by [`Connection::run_disk_job`].

pub(crate) mod classify;
mod deferred_record;
mod http;
mod lingering_close;
mod name;
mod pacer;
mod prepare;
mod receive;
mod responding;
pub(crate) mod send_queue;
mod sending;
mod stall;
mod streamed_body;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use crate::http::parse::body::{Discard, Discarded};
use crate::http::{BodyLength, Expectation, Persistence, Refusal, Request};
use crate::server::client_share::{ClientShare, ShareHandle};
use crate::server::connection::deferred_record::{DeferredRecord, LOOK_EVERY, outstanding};
use crate::server::connection::lingering_close::Lingering;
use crate::server::connection::pacer::Pacer;
use crate::server::connection::prepare::{Cache, PendingRequest, PreparedResponse};
use crate::server::connection::receive::{Received, Receiving, RequestBuffer};
use crate::server::connection::send_queue::SendQueue;
pub(crate) use crate::server::connection::sending::READ_AHEAD_EXTENTS;
use crate::server::connection::sending::Sending;
use crate::server::files::OpenFile;
use crate::server::files::open_file_cache::OpenFileCache;
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::Extent;
use crate::server::transmit::sink::IoBuffers;
use crate::sys::file::Patience;
use crate::sys::poller::{Interest, Readiness};
use crate::sys::socket;

/// Where a connection has to go after a quantum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The quantum is spent: others may have their turn.
    Yield,
    /// The socket has to become ready, or the deadline to pass.
    Park(Interest),
    /// The deadline has to pass, whatever the socket says: it has sent what its rate allows.
    StreamedBody,
    /// The next names or bytes are not in memory: to the disk lane, with this to do there.
    Warm(DiskJob),
    /// It has ended.
    Close(CloseReason),
}

/// What a connection needs from the disk lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskJob {
    /// Look the target up, and list it if it is a directory.
    LookUp,
    /// Read an extent into the page cache.
    Read(Extent),
    /// Send from the disk lane: what is read in does not stay in memory, or what is there may not
    /// be touched without waiting for a network, or it is the last bytes that have to be read.
    SendCold,
    /// Produce more of a listing.
    Fill,
}

/// Whether a connection came within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It did.
    Welcome,
    /// It did not: its first request is answered with a refusal.
    Overloaded,
}

/// What a turn may use, besides the connection.
#[derive(Debug)]
pub(crate) struct TurnContext<'a> {
    /// What all connections share.
    pub service: &'a Shared,
    /// The time at which the turn began, or a later request was looked for. What is known of files
    /// since then holds for a request that came before.
    pub now: Instant,
    /// The worker's looked-up files.
    pub names: &'a mut OpenFileCache,
    /// What the worker moves bytes with.
    pub tools: &'a mut IoBuffers,
    /// Bytes of service that the turn has given; a quantum at the most.
    pub served: u64,
}

/// A connection. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    stream: TcpStream,
    peer: SocketAddr,
    membership: ShareHandle,
    _permit: Permit,
    admission: Admission,
    intake: RequestBuffer,
    state: State,
    /// Requests received whole.
    requests: u64,
    deadline: Instant,
    /// A file the disk lane looked up, for the names of the worker that gets the connection.
    looked_up: Option<(Vec<u8>, Arc<OpenFile>)>,
    queue: SendQueue,
    pace: Pacer,
    /// The record of the last response, while it has not arrived.
    receipt: Option<Box<DeferredRecord>>,
    /// Times that the answer was made anew because the file had changed.
    restarts: u8,
}

#[derive(Debug)]
enum State {
    /// Waiting for a request, or in the middle of one.
    Receiving(Receiving),
    /// Throwing a request's body away before answering.
    Discarding(Box<Discarding>),
    /// A request is whole and has to be looked up.
    Answering(Box<PendingRequest>),
    /// A response is on its way.
    Sending(Box<Sending>),
    /// All is sent and our side closed; the peer may finish.
    Lingering(Lingering),
}

#[derive(Debug)]
struct Discarding {
    request: Request,
    discard: Discard,
    since: Instant,
}

/// What a state's step says: go on with the state it left, or leave the quantum.
enum Flow {
    Again,
    Stop(Step),
}

impl Connection {
    /// Takes an accepted connection.
    #[must_use]
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        membership: ShareHandle,
        permit: Permit,
        admission: Admission,
        (service, now): (&Shared, Instant),
    ) -> Box<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Box::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            stream,
            peer,
            membership,
            _permit: permit,
            admission,
            intake: RequestBuffer::default(),
            state: State::Receiving(Receiving::first(now)),
            requests: 0,
            deadline: now + service.config.deadlines.first_byte,
            looked_up: None,
            queue: SendQueue::default(),
            pace: Pacer::default(),
            receipt: None,
            restarts: 0,
        })
    }

    /// The socket, to be watched.
    #[must_use]
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whose connection it is.
    #[must_use]
    pub(crate) fn client(&self) -> &Arc<ClientShare> {
        self.membership.client()
    }

    /// When the current state has lasted too long.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a response is on its way, so that the connection's turns are the long ones.
    #[must_use]
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending(_))
    }

    /// Notes that the poller saw something to read.
    pub(crate) fn note_readable(&mut self, readiness: Readiness) {
        self.intake.note(readiness);
    }

    /// Takes the connection as far as it can go without waiting, for a quantum at the most.
    pub(crate) fn advance(&mut self, turn: &mut TurnContext<'_>) -> Step {
        if let Some((path, file)) = self.looked_up.take() {
            turn.names.remember(&path, &file, turn.now);
        }
        for _ in 0..MAX_STEPS {
            let flow = match &mut self.state {
                State::Receiving(_) => self.receive(turn),
                State::Discarding(_) => self.discard(turn),
                State::Answering(_) => self.answer(turn),
                State::Sending(_) => self.send(turn),
                State::Lingering(_) => self.linger(turn),
            };
            if let Flow::Stop(step) = flow {
                return step;
            }
        }
        Step::Yield
    }

    /// Does what the connection came to the disk lane for.
    pub(crate) fn run_disk_job(
        &mut self,
        errand: DiskJob,
        service: &Shared,
        tools: &mut IoBuffers,
    ) {
        match &mut self.state {
            State::Answering(_) => self.answer_with_patience(service),
            State::Sending(sending) => {
                let charged = sending.run_disk_job(errand, &self.stream, service, tools);
                self.membership.client().charge(charged);
                self.pace.spend(charged);
            }
            // An errand belongs to one of the states above.
            State::Receiving(_) | State::Discarding(_) | State::Lingering(_) => {}
        }
    }

    /// The file whose bytes are being sent, if any.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&Arc<OpenFile>> {
        match &self.state {
            State::Sending(sending) => sending.file(),
            _ => None,
        }
    }

    /// The file system that the response comes from, if any.
    #[must_use]
    pub(crate) fn device(&self) -> Option<u64> {
        match &self.state {
            State::Sending(sending) => sending.device(),
            _ => None,
        }
    }

    /// The path that is being looked up, if any.
    #[must_use]
    pub(crate) fn path(&self) -> &[u8] {
        match &self.state {
            State::Answering(asked) => asked.path(),
            _ => b"",
        }
    }

    /// Its number, which no other connection ever has.
    #[must_use]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next extent that should be read ahead, if the file has to come from a disk.
    pub(crate) fn next_read_ahead(&mut self) -> Option<(Arc<OpenFile>, Extent)> {
        let State::Sending(sending) = &mut self.state else {
            return None;
        };
        sending.next_read_ahead()
    }

    /// What has to happen now that the deadline has passed.
    pub(crate) fn expire(&mut self, turn: &mut TurnContext<'_>) -> Step {
        if let (State::Receiving(_), Some(receipt)) = (&self.state, &self.receipt)
            && turn.now < receipt.deadline
        {
            return self.look_for_arrival(turn);
        }
        match &mut self.state {
            State::Receiving(receiving) => {
                if receiving.silence_ends_name(turn.now, turn.service.config.deadlines.head) {
                    return self.take_silence(turn);
                }
                self.give_up_receiving(turn)
            }
            State::Discarding(_) => {
                self.refuse(Refusal::RequestTimeout, turn);
                self.advance(turn)
            }
            State::Answering(_) => Step::Yield,
            State::Sending(_) if self.pace.rests() => Step::Yield,
            State::Sending(sending) => {
                match sending.expire(&self.stream, &turn.service.config, turn.now) {
                    Ok(deadline) => {
                        if sending.seems_stalled() {
                            self.queue.shorten(&self.stream);
                        }
                        self.deadline = deadline;
                        Step::Park(Interest::Write)
                    }
                    Err(reason) => Step::Close(reason),
                }
            }
            State::Lingering(_) => self.look_while_lingering(turn),
        }
    }

    /// What has to happen when the server drains or aborts.
    #[must_use]
    pub(crate) fn on_shutdown(&self, service: &Shared) -> Option<CloseReason> {
        let owes_nothing = match &self.state {
            State::Receiving(receiving) => {
                self.receipt.is_none() && receiving.is_idle(&self.intake)
            }
            State::Lingering(_) | State::Discarding(_) => false,
            State::Answering(_) | State::Sending(_) => false,
        };
        (service.is_aborting() || owes_nothing).then_some(CloseReason::Shutdown)
    }

    /// Ends the connection: what was promised and not sent makes the close a reset.
    pub(crate) fn close(self: Box<Self>, reason: CloseReason, service: &Shared) {
        let Self {
            stream,
            peer,
            state,
            receipt,
            ..
        } = *self;
        if let Some(receipt) = receipt {
            receipt.end(&stream, service);
        }
        if let State::Sending(sending) = state {
            if let Some(record) = sending.into_record(reason, peer, service) {
                service.journal.record(record);
            }
            let _ = socket::reset_on_close(&stream);
            service.end_transfer(self.membership.client());
        }
        service.counters.count_close(reason);
    }

    fn receive(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        let State::Receiving(receiving) = &mut self.state else {
            return Flow::Again;
        };
        match self
            .intake
            .recognize(receiving, &self.stream, turn, self.requests > 0)
        {
            Received::NotYet(wait_until) => {
                self.deadline = wait_until;
                if let Some(receipt) = &mut self.receipt {
                    receipt.deadline = wait_until;
                    self.deadline = wait_until.min(turn.now + LOOK_EVERY);
                }
                Flow::Stop(Step::Park(Interest::Read))
            }
            Received::Request(request) => self.begin(request, turn),
            Received::Name(raw) => {
                self.requests += 1;
                Counters::add_one(&turn.service.counters.requests);
                if self.admission == Admission::Overloaded {
                    return Flow::Stop(Step::Close(CloseReason::Overloaded));
                }
                self.state = State::Answering(Box::new(PendingRequest::name(raw)));
                Flow::Again
            }
            Received::Malformed(refusal) => {
                self.refuse(refusal, turn);
                Flow::Again
            }
            Received::Unrecognized(why) => {
                let why = (CloseReason::Malformed, why);
                prepare::record_no_request(&self.intake, why, self.peer, turn.service);
                Flow::Stop(Step::Close(CloseReason::Malformed))
            }
            // The peer has closed its side only, and reads on.
            Received::End(reason) if self.receipt.is_some() && self.intake.has_ended() => {
                self.end(reason, turn.now)
            }
            Received::End(_) if self.receipt.is_some() && outstanding(&self.stream) > 0 => {
                Flow::Stop(Step::Close(CloseReason::Aborted))
            }
            Received::End(reason) => Flow::Stop(Step::Close(reason)),
        }
    }

    /// Takes a request whose head is whole.
    fn begin(&mut self, mut request: Box<Request>, turn: &TurnContext<'_>) -> Flow {
        self.requests += 1;
        Counters::add_one(&turn.service.counters.requests);
        let limits = &turn.service.config.http_limits;
        if self.requests >= limits.requests_per_connection || turn.service.is_draining() {
            request.persistence = Persistence::Close;
        }
        if self.admission == Admission::Overloaded {
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
        // Who waits to be told whether to send a body is told so by the refusal itself. Either
        // way the parser has seen to it that the connection ends.
        let is_told = request.refusal.is_some() && request.expectation == Expectation::Continue;
        self.state = if request.body == BodyLength::Empty || is_too_long || is_told {
            State::Answering(Box::new(PendingRequest::http(request)))
        } else {
            let discard = Discard::new(request.body, limits.discarded_body_bytes);
            receive::invite_body(&self.stream, &request, &self.intake);
            self.deadline = turn.now + turn.service.config.deadlines.head;
            State::Discarding(Box::new(Discarding {
                request: *request,
                discard,
                since: turn.now,
            }))
        };
        Flow::Again
    }

    fn discard(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        let State::Discarding(discarding) = &mut self.state else {
            return Flow::Again;
        };
        match discarding.discard.take(self.intake.bytes()) {
            Ok(Discarded::Done(taken)) => {
                self.intake.consume(taken);
                let asked = PendingRequest::http(Box::new(discarding.request.clone()));
                self.state = State::Answering(Box::new(asked));
                Flow::Again
            }
            Ok(Discarded::More(taken)) => {
                self.intake.consume(taken);
                if self.intake.has_ended() {
                    return Flow::Stop(Step::Close(CloseReason::Aborted));
                }
                match self.intake.receive(&self.stream, &mut turn.tools.scratch) {
                    Ok(true) => Flow::Again,
                    Ok(false) => {
                        self.deadline = discarding.since + turn.service.config.deadlines.head;
                        Flow::Stop(Step::Park(Interest::Read))
                    }
                    Err(_) => Flow::Stop(Step::Close(CloseReason::Aborted)),
                }
            }
            Err(refusal) => {
                let line = std::mem::take(&mut discarding.request.line);
                self.state = State::Answering(Box::new(PendingRequest::malformed(refusal, line)));
                Flow::Again
            }
        }
    }

    fn answer(&mut self, turn: &mut TurnContext<'_>) -> Flow {
        let State::Answering(asked) = &mut self.state else {
            return Flow::Again;
        };
        let mut cache = Cache::OpenFileCache(turn.names, turn.now);
        match prepare(asked, turn.service, Patience::CachedOnly, &mut cache) {
            Some(answer) => {
                self.start(answer, turn.service);
                Flow::Again
            }
            None => Flow::Stop(Step::Warm(DiskJob::LookUp)),
        }
    }

    fn answer_with_patience(&mut self, service: &Shared) {
        let State::Answering(asked) = &mut self.state else {
            return;
        };
        let mut cache = Cache::Later(&mut self.looked_up);
        if let Some(answer) = prepare(asked, service, Patience::Wait, &mut cache) {
            self.start(answer, service);
        }
    }

    /// Answers what cannot be understood, and what came too late; the connection ends with it.
    fn refuse(&mut self, refusal: Refusal, turn: &TurnContext<'_>) {
        let line = self.intake.first_line();
        self.intake.clear();
        let answer = http::refuse(None, &refusal, turn.service);
        self.state = State::Answering(Box::new(PendingRequest::malformed(refusal, line)));
        self.start(answer, turn.service);
    }

    /// Silence has made a name of what came.
    fn take_silence(&mut self, turn: &mut TurnContext<'_>) -> Step {
        let State::Receiving(receiving) = &mut self.state else {
            return Step::Yield;
        };
        receiving.note_silence();
        self.advance(turn)
    }

    fn give_up_receiving(&mut self, turn: &mut TurnContext<'_>) -> Step {
        let State::Receiving(receiving) = &self.state else {
            return Step::Yield;
        };
        if receiving.may_be_name() {
            // Whatever was said now would be taken for the bytes of a file.
            let why = (CloseReason::HeadTimeout, "the name was not whole in time");
            prepare::record_no_request(&self.intake, why, self.peer, turn.service);
            return Step::Close(CloseReason::HeadTimeout);
        }
        if !self.intake.bytes().is_empty() {
            self.refuse(Refusal::RequestTimeout, turn);
            return self.advance(turn);
        }
        Step::Close(match self.requests {
            0 => CloseReason::FirstByteTimeout,
            _ => CloseReason::Idle,
        })
    }
}

/// Makes the answer, or says `None` if that takes the disk lane's patience.
fn prepare(
    asked: &PendingRequest,
    service: &Shared,
    patience: Patience,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    match asked {
        PendingRequest::Malformed { refusal, .. } => Some(http::refuse(None, refusal, service)),
        PendingRequest::Http(request) => http::prepare(request, service, patience, cache),
        PendingRequest::Name { target, .. } => name::prepare(target, service, patience, cache),
    }
}

/// Now, by the clock that people read.
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Steps of the state machine in one quantum; pipelined requests take three each.
const MAX_STEPS: usize = 192;
