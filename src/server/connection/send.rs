//! Sending: a response from its first byte to its last.

mod cold;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::http::{Plan, Protocol, Segment};
use crate::server::client_share::ClientShare;
use crate::server::config::CacheChoice;
use crate::server::connection::exchange::Exchange;
use crate::server::connection::pacer::Pacer;
use crate::server::connection::prepare::{Pending, PreparedResponse};
use crate::server::connection::send::cold::Cold;
use crate::server::connection::stall::StallDetector;
use crate::server::connection::step::{DiskAction, DiskJob, TurnContext};
use crate::server::connection::streamed_body::StreamedBody;
use crate::server::files::OpenFile;
use crate::server::listing::Memory;
use crate::server::rate_limit::Allowance;
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason, Counters, Peer};
use crate::server::transmit::read_ahead::{ReadAhead, read_into_cache};
use crate::server::transmit::sink::{IoBuffers, Sink};
use crate::server::transmit::{Extent, Prefill, Progress, RunContext, Transfer, TransmitError};
use crate::sys::file::Blocking;

/// A response that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    exchange: Exchange,
    transfer: Transfer,
    /// Content that disk workers have yet to produce.
    streamed: Option<StreamedBody>,
    ending: Ending,
    /// The reason why the disk worker stopped, for the hot worker to act upon.
    disk_progress: Option<Progress>,
    /// Bytes given to the kernel, the head included.
    sent: u64,
    stall: StallDetector,
    cold: Cold,
    is_paused: bool,
    _bulk: Option<Permit>,
}

/// The sign by which the peer knows the response's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By a length or by chunks.
    Framing,
    /// By the end of the stream alone.
    Close,
}

/// The outcome of a response's turn.
pub(super) enum SendStep {
    Done,
    Blocked(Instant),
    Throttled(Instant),
    /// A listing waits for memory that others hold; its directory is on this file system.
    Paused(Instant, u64),
    Spent,
    Disk(DiskJob),
    Broken(CloseReason),
}

impl Sending {
    pub(super) fn new(pending: Pending, prepared: PreparedResponse, service: &Shared) -> Self {
        let PreparedResponse {
            response,
            file,
            rest: streamed,
            outcome,
            detail,
            bulk,
        } = prepared;
        let head_bytes = (pending.interim.len() + response.head.len()) as u64;
        let content_length = streamed.is_none().then_some(response.content_length);
        let is_name = pending.protocol() == Protocol::Name && response.content_length > 0;
        let ending = match is_name || streamed.as_ref().is_some_and(StreamedBody::ends_by_close) {
            true => Ending::Close,
            false => Ending::Framing,
        };
        let mut segments = response.body.segments;
        for bytes in [response.head, pending.interim.to_vec()] {
            if !bytes.is_empty() {
                segments.push_front(Segment::Memory(bytes));
            }
        }
        let exchange = Exchange::new(
            pending,
            (response.status, response.persistence),
            (outcome, detail),
            (content_length, head_bytes),
        );
        Self {
            exchange,
            transfer: Transfer::new(Plan { segments }, file, service.config.transmit),
            streamed,
            ending,
            disk_progress: None,
            sent: 0,
            stall: StallDetector::new(Instant::now()),
            cold: Cold::Never,
            is_paused: false,
            _bulk: bulk,
        }
    }

    /// The request, and the response's facts for the log.
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Whether the end of the stream alone tells the peer that it has all.
    pub(super) fn ends_by_close(&self) -> bool {
        self.ending == Ending::Close
    }

    /// Whether its listing has taken a shared scan a step further.
    pub(super) fn scan_is_under_way(&self) -> bool {
        self.streamed
            .as_ref()
            .is_some_and(StreamedBody::scan_is_under_way)
    }

    /// Whether it waits for memory that others hold, for which time alone wakes it.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The prefill that the peer's pace gave, for the connection's next response.
    pub(super) fn prefill(&self) -> Prefill {
        self.transfer.prefill()
    }

    /// Begins with the prefill of the connection's last response.
    pub(super) fn set_prefill(&mut self, prefill: Prefill) {
        self.transfer.set_prefill(prefill);
    }

    /// The remaining bytes, if most are a file's and take many calls to send.
    pub(super) fn large(&self) -> Option<u64> {
        let remaining = self.transfer.remaining();
        (self.transfer.file().is_some() && remaining > LARGE_BYTES).then_some(remaining)
    }

    /// Whether the peer seems to have stopped reading.
    pub(super) fn seems_stalled(&self) -> bool {
        self.stall.seems_stalled()
    }

    /// Bytes given to the kernel so far, the head included.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Forgets the file's residency, in which a hot worker had to wait.
    pub(super) fn forget_residency(&self) {
        if let Some(file) = self.transfer.file() {
            file.forget_residency();
        }
    }

    /// Sends at most a quantum.
    pub(super) fn advance(
        &mut self,
        sink: &mut impl Sink,
        turn: &mut TurnContext<'_>,
        client: &ClientShare,
        pacer: &mut Pacer,
    ) -> SendStep {
        self.is_paused = false;
        if let Some(progress) = self.disk_progress.take() {
            return self.step_after(progress, sink, turn);
        }
        // A response that is never blocked has its total time checked here alone.
        if let Err(reason) = self.stall.check_length(turn.service, turn.now) {
            return SendStep::Broken(reason);
        }
        if self.stall.waited_since(turn.now) > STALE_AFTER {
            self.transfer.forget_residency();
        }
        let quantum = turn.service.config.quantum_bytes;
        // A turn sends something even with a quantum below the least charge.
        if turn.served > 0 && turn.served + LEAST_CHARGE > quantum {
            return SendStep::Spent;
        }
        let budget = match pacer.allowance(turn.service, client, turn.now) {
            Allowance::Bytes(bytes) => bytes.min(quantum.saturating_sub(turn.served)),
            Allowance::NotBefore(due) => {
                self.stall.pause();
                return SendStep::Throttled(due);
            }
        };
        let mut context = RunContext {
            budget,
            blocking: Blocking::Forbidden,
            now: turn.now,
            tools: turn.tools,
        };
        let (sent, progress) = self.run(sink, &mut context, turn.service);
        let charge = sent.max(LEAST_CHARGE);
        client.charge(charge);
        turn.served += charge;
        pacer.charge(sent, turn.service, client, turn.now);
        self.stall.note_sent(sent, turn.now);
        self.step_after(progress, sink, turn)
    }

    fn step_after(
        &mut self,
        progress: Progress,
        sink: &impl Sink,
        turn: &TurnContext<'_>,
    ) -> SendStep {
        match progress {
            Progress::Done => self.step_after_all(),
            Progress::Spent => SendStep::Spent,
            Progress::Reserved => self.disk_step(|_, _| DiskAction::Send),
            Progress::Cold(extent) => self.disk_step(|cold, file| cold.action(extent, file)),
            Progress::Blocked => {
                // An attacker that reads no response must not hold much memory.
                self.exchange.keep_line_only(turn.service);
                self.transfer.shrink();
                match self.stall.block(sink, self.sent, turn.service, turn.now) {
                    Ok(deadline) => SendStep::Blocked(self.hold_listing(deadline, turn.now)),
                    Err(reason) => SendStep::Broken(reason),
                }
            }
            Progress::Failed(error) => SendStep::Broken(reason_of(&error)),
        }
    }

    /// The step after the last byte of the plan.
    fn step_after_all(&mut self) -> SendStep {
        let Some(body) = &mut self.streamed else {
            return SendStep::Done;
        };
        if body.take_turned_away() {
            self.stall.pause();
            self.is_paused = true;
            return SendStep::Paused(Instant::now() + PERMIT_WAIT, body.device());
        }
        SendStep::Disk(DiskJob {
            file_system: body.device(),
            action: DiskAction::ProduceListing(body.awaited_scan()),
        })
    }

    /// The step to a disk worker for the file's bytes.
    fn disk_step(&mut self, action: impl FnOnce(&mut Cold, &OpenFile) -> DiskAction) -> SendStep {
        let Some(file) = self.transfer.file() else {
            return SendStep::Broken(CloseReason::ReadError);
        };
        self.stall.pause();
        SendStep::Disk(DiskJob {
            file_system: file.file_system.device(),
            action: action(&mut self.cold, file),
        })
    }

    /// Handles the passed deadline of a blocked response. Returns the next one if bytes arrive at
    /// the peer after all.
    pub(super) fn expire(
        &mut self,
        sink: &impl Sink,
        service: &Shared,
        now: Instant,
    ) -> Result<Instant, CloseReason> {
        let deadline = self.stall.expire(sink, self.sent, service, now)?;
        Ok(self.hold_listing(deadline, now))
    }

    /// Releases memory that a blocked listing can make anew: after some time, or at once if others
    /// need it. Returns when to look again, at the latest at `deadline`.
    fn hold_listing(&mut self, deadline: Instant, now: Instant) -> Instant {
        let Some(body) = &mut self.streamed else {
            return deadline;
        };
        let until = now - self.stall.waited_since(now) + HOLD_LISTING;
        match body.memory() {
            Memory::Little => deadline,
            Memory::Some if now < until => deadline.min(until),
            Memory::Some | Memory::Dear => {
                body.give_back();
                deadline
            }
        }
    }

    /// Runs a job that may wait for a disk. Returns the bytes sent.
    pub(super) fn run_disk_job(
        &mut self,
        action: DiskAction,
        sink: &mut impl Sink,
        service: &Shared,
        tools: &mut IoBuffers,
        budget: u64,
    ) -> u64 {
        let done = match action {
            DiskAction::CheckPassword(_) | DiskAction::LookUp | DiskAction::Handshake => Ok(()),
            DiskAction::Read(extent, _) => self.read_in(extent, service, tools),
            DiskAction::Send => return self.send_from_disk(sink, service, tools, budget),
            DiskAction::ProduceListing(_) => self.produce_listing(service),
        };
        self.disk_progress = done.err().map(Progress::Failed);
        0
    }

    /// The next extent to read ahead of this reader, if its file comes from a disk.
    pub(super) fn next_read_ahead(&mut self) -> Option<ReadAhead> {
        if self.cold == Cold::Never {
            return None;
        }
        self.transfer.next_read_ahead()
    }

    /// The request, if it is to be answered anew, as [`Exchange::restart_after`].
    pub(super) fn restart_after(
        mut self: Box<Self>,
        reason: CloseReason,
    ) -> Result<Pending, Box<Self>> {
        self.exchange.restart_after(reason).ok_or(self)
    }

    /// Ends the response. Returns its access record, if there is a log.
    pub(super) fn into_record(
        self: Box<Self>,
        outcome: CloseReason,
        peer: Peer,
        service: &Shared,
    ) -> Option<AccessRecord> {
        if self.transfer.choice() != service.config.transmit {
            Counters::add_one(&service.counters.copied_bodies);
        }
        self.exchange.into_record(self.sent, outcome, peer, service)
    }

    fn run(
        &mut self,
        sink: &mut impl Sink,
        context: &mut RunContext<'_>,
        service: &Shared,
    ) -> (u64, Progress) {
        let (sent, progress) = self.transfer.run(sink, context);
        if self.sent == 0 && sent > 0 {
            let responses = &service.responses;
            responses.count_first_byte(self.exchange.elapsed());
        }
        self.sent += sent;
        if sent > 0 {
            self.exchange.keep_line_only(service);
        }
        let counters = &service.counters;
        counters.bytes_sent.add(sent);
        (sent, progress)
    }

    fn read_in(
        &mut self,
        extent: Extent,
        service: &Shared,
        tools: &mut IoBuffers,
    ) -> Result<(), TransmitError> {
        let Some(file) = self.transfer.file().cloned() else {
            return Ok(());
        };
        if service.config.cache == CacheChoice::DropBehind {
            file.drop_behind(extent.offset);
        }
        read_into_cache(&file, extent, tools).map_err(TransmitError::File)?;
        Counters::add_one(&service.counters.extents_warmed);
        // Pages that do not stay in memory are missing again at once.
        if file.file_system.is_remote() || !file.may_wait(extent, Instant::now()) {
            self.transfer.note_resident(extent);
        }
        Ok(())
    }

    fn send_from_disk(
        &mut self,
        sink: &mut impl Sink,
        service: &Shared,
        tools: &mut IoBuffers,
        budget: u64,
    ) -> u64 {
        Counters::add_one(&service.counters.extents_sent_cold);
        let mut context = RunContext {
            budget,
            blocking: Blocking::Allowed,
            now: Instant::now(),
            tools,
        };
        let (sent, progress) = self.run(sink, &mut context, service);
        self.stall.note_sent(sent, Instant::now());
        self.cold = Cold::Before;
        // The hot worker finds every other outcome again.
        if let Progress::Failed(_) | Progress::Blocked = progress {
            self.disk_progress = Some(progress);
        }
        sent
    }

    fn produce_listing(&mut self, service: &Shared) -> Result<(), TransmitError> {
        let Some(body) = &mut self.streamed else {
            return Ok(());
        };
        let chunk = body.fill(service).map_err(TransmitError::File)?;
        if chunk.is_last {
            self.streamed = None;
        }
        if !chunk.bytes.is_empty() {
            self.transfer.append(Segment::Memory(chunk.bytes));
        }
        Ok(())
    }
}

fn reason_of(error: &TransmitError) -> CloseReason {
    match error {
        TransmitError::Network(_) => CloseReason::Aborted,
        TransmitError::File(_) => CloseReason::ReadError,
        TransmitError::Changed => CloseReason::Changed,
    }
}

/// Wait after which the residency of pages is doubtful.
const STALE_AFTER: Duration = Duration::from_millis(200);

/// Wait after which a blocked listing releases its names, to look them up anew.
const HOLD_LISTING: Duration = Duration::from_millis(100);

/// Pause of a listing that has no permit for its names in memory.
const PERMIT_WAIT: Duration = Duration::from_millis(5);

/// Least cost of a turn, in bytes, so that tiny responses count as well.
pub(super) const LEAST_CHARGE: u64 = 4 << 10;

/// Largest response that leaves by three calls: the head, most of the file, the end of it.
const LARGE_BYTES: u64 = 256 << 10;
