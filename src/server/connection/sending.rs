//! Transmitting and recording: a response on its way.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::{BodyLength, Persistence, Plan, Protocol, Request, Segment};
use crate::server::client_share::ClientShare;
use crate::server::config::{CacheChoice, ServeConfig};
use crate::server::connection::pacer::{Allowance, Pacer};
use crate::server::connection::prepare::{PendingRequest, PreparedResponse};
use crate::server::connection::stall::StallDetector;
use crate::server::connection::streamed_body::StreamedBody;
use crate::server::connection::{DiskJob, TurnContext, wall_clock};
use crate::server::files::OpenFile;
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason, Counters};
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::{
    Extent, Lane, Progress, RunContext, Transfer, TransmitError, drop_behind, residency_of, warm,
};
use crate::sys::file::Residency;

/// A response on its way.
#[derive(Debug)]
pub(super) struct Sending {
    transfer: Transfer,
    /// Content that the disk lane has yet to produce.
    rest: Option<StreamedBody>,
    end_mark: EndMark,
    /// Why the disk lane did not get on, for the hot lane to act upon.
    left_off: Option<Progress>,
    asked: PendingRequest,
    status: u16,
    persistence: Persistence,
    outcome: CloseReason,
    detail: &'static str,
    /// Bytes of content promised; `None` where nobody knows beforehand.
    content_length: Option<u64>,
    head_bytes: u64,
    /// Bytes given to the kernel, the head included.
    sent: u64,
    since: Instant,
    pulse: StallDetector,
    cold: Cold,
    _bulk: Option<Permit>,
}

/// How the peer knows that it has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndMark {
    /// By a length or by chunks.
    Framing,
    /// By the end of the stream alone.
    Close,
}

/// What is known of the file's presence in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cold {
    /// All that was sent was there.
    Never,
    /// The bytes at `offset` were missing `times` times in a row.
    At { offset: u64, times: u8 },
}

/// Where a response stands after a turn.
pub(super) enum Flowing {
    Done,
    Blocked(Instant),
    Resting(Instant),
    Spent,
    Warm(DiskJob),
    Broken(CloseReason),
}

impl Sending {
    pub(super) fn new(asked: PendingRequest, answer: PreparedResponse, service: &Shared) -> Self {
        let PreparedResponse {
            response,
            file,
            rest,
            outcome,
            detail,
            bulk,
        } = answer;
        let head_bytes = response.head.len() as u64;
        let content_length = rest.is_none().then_some(response.content_length);
        let by_name = asked.protocol() == Some(Protocol::Name) && response.content_length > 0;
        let end_mark = match by_name || rest.as_ref().is_some_and(StreamedBody::ends_by_close) {
            true => EndMark::Close,
            false => EndMark::Framing,
        };
        let mut segments = response.body.segments;
        if !response.head.is_empty() {
            segments.push_front(Segment::Memory(response.head));
        }
        let choice = service.config.transmit;
        let transfer = Transfer::new(Plan { segments }, file, choice);
        let now = Instant::now();
        Self {
            transfer,
            rest,
            end_mark,
            left_off: None,
            asked,
            status: response.status,
            persistence: response.persistence,
            outcome,
            detail,
            content_length,
            head_bytes,
            sent: 0,
            since: now,
            pulse: StallDetector::new(now),
            cold: Cold::Never,
            _bulk: bulk,
        }
    }

    /// Whether the end of the stream alone tells the peer that it has all.
    pub(super) fn ends_like_a_file(&self) -> bool {
        self.end_mark == EndMark::Close
    }

    /// Whether it takes many calls to send a file's bytes.
    pub(super) fn is_large(&self) -> bool {
        self.transfer.file().is_some() && self.transfer.remaining() > LARGE_BYTES
    }

    /// Whether the peer seems to take nothing any more.
    pub(super) fn seems_stalled(&self) -> bool {
        self.pulse.seems_stalled()
    }

    /// Bytes given to the kernel so far, the head included.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Whether the peer has said that it sends nothing else: no other request, and no body either.
    pub(super) fn answers_the_last(&self) -> bool {
        let is_last = |request: &Request| request.is_last && request.body == BodyLength::Empty;
        matches!(&self.asked, PendingRequest::Http(request) if is_last(request))
    }

    /// How it came out, now that all is sent.
    pub(super) fn outcome(&self) -> CloseReason {
        self.outcome
    }

    pub(super) fn file(&self) -> Option<&Arc<OpenFile>> {
        self.transfer.file()
    }

    /// The file system that the response comes from, if any.
    pub(super) fn device(&self) -> Option<u64> {
        let file = self.transfer.file().map(|file| file.device.id());
        file.or_else(|| self.rest.as_ref().map(StreamedBody::device))
    }

    /// Sends for a quantum at the most.
    pub(super) fn advance(
        &mut self,
        stream: &TcpStream,
        turn: &mut TurnContext<'_>,
        client: &ClientShare,
        pace: &mut Pacer,
    ) -> Flowing {
        if let Some(progress) = self.left_off.take() {
            return self.flow_on(progress, stream, turn);
        }
        // Who never blocks has no deadline to meet.
        if let Err(reason) = self.pulse.check_length(&turn.service.config, turn.now) {
            return Flowing::Broken(reason);
        }
        if self.pulse.waited_since(turn.now) > STALE_AFTER {
            self.transfer.forget_residency();
        }
        let quantum = turn.service.config.quantum_bytes;
        // However small a quantum is, a turn gets on.
        if turn.served > 0 && turn.served + LEAST_CHARGE > quantum {
            return Flowing::Spent;
        }
        let budget = match pace.allowance(turn.now) {
            Allowance::Bytes(bytes) => bytes.min(quantum.saturating_sub(turn.served)),
            Allowance::NotBefore(due) => {
                self.pulse.pause();
                return Flowing::Resting(due);
            }
        };
        let progress = self.run(
            stream,
            (Lane::Hot, turn.now),
            budget,
            turn.service,
            turn.tools,
        );
        let charge = progress.0.max(LEAST_CHARGE);
        client.charge(charge);
        turn.served += charge;
        pace.spend(progress.0);
        self.pulse.note_sent(progress.0, turn.now);
        self.flow_on(progress.1, stream, turn)
    }

    fn flow_on(
        &mut self,
        progress: Progress,
        stream: &TcpStream,
        turn: &TurnContext<'_>,
    ) -> Flowing {
        match progress {
            Progress::Done if self.rest.is_some() => Flowing::Warm(DiskJob::Fill),
            Progress::Done => Flowing::Done,
            Progress::Spent => Flowing::Spent,
            Progress::Reserved => {
                self.pulse.pause();
                Flowing::Warm(DiskJob::SendCold)
            }
            Progress::Cold(extent) => {
                self.pulse.pause();
                Flowing::Warm(self.errand_for(extent))
            }
            Progress::Blocked => {
                match self
                    .pulse
                    .block(stream, self.sent, &turn.service.config, turn.now)
                {
                    Ok(deadline) => Flowing::Blocked(deadline),
                    Err(reason) => Flowing::Broken(reason),
                }
            }
            Progress::Failed(error) => Flowing::Broken(reason_of(&error)),
        }
    }

    /// The deadline of a blocked response has passed: goes on to the next one if bytes arrive at
    /// the peer after all.
    pub(super) fn expire(
        &mut self,
        stream: &TcpStream,
        config: &ServeConfig,
        now: Instant,
    ) -> Result<Instant, CloseReason> {
        self.pulse.expire(stream, self.sent, config, now)
    }

    /// Does in the disk lane what a hot worker must not. Returns the bytes sent.
    pub(super) fn run_disk_job(
        &mut self,
        errand: DiskJob,
        stream: &TcpStream,
        service: &Shared,
        tools: &mut IoBuffers,
    ) -> u64 {
        let done = match errand {
            DiskJob::LookUp => Ok(0),
            DiskJob::Read(extent) => self.read_in(extent, service, tools).map(|()| 0),
            DiskJob::SendCold => return self.send_cold(stream, service, tools),
            DiskJob::Fill => self.fill(service).map(|()| 0),
        };
        match done {
            Ok(sent) => sent,
            Err(error) => {
                self.left_off = Some(Progress::Failed(error));
                0
            }
        }
    }

    /// The next extent to read ahead of this reader, if its file comes from a disk.
    pub(super) fn next_read_ahead(&mut self) -> Option<(Arc<OpenFile>, Extent)> {
        if self.cold == Cold::Never {
            return None;
        }
        let extent = self.transfer.next_read_ahead(READ_AHEAD_EXTENTS)?;
        self.transfer.file().map(|file| (Arc::clone(file), extent))
    }

    /// What it would have been the answer to.
    pub(super) fn into_asked(self: Box<Self>) -> PendingRequest {
        self.asked
    }

    /// Ends the response. Returns its access record, if anybody wants one.
    pub(super) fn into_record(
        self: Box<Self>,
        outcome: CloseReason,
        peer: SocketAddr,
        service: &Shared,
    ) -> Option<AccessRecord> {
        if self.transfer.choice() != service.config.transmit {
            Counters::add_one(&service.counters.copied_bodies);
        }
        if !service.journal.is_on() {
            return None;
        }
        let duration = self.since.elapsed();
        Some(AccessRecord {
            at: wall_clock() - duration,
            peer,
            protocol: self.asked.protocol(),
            status: self.status,
            sent: self.sent.saturating_sub(self.head_bytes),
            intended: self.content_length,
            duration,
            outcome,
            detail: self.detail,
            request: self.asked.into_line().into_vec(),
        })
    }

    fn run(
        &mut self,
        stream: &TcpStream,
        (lane, now): (Lane, Instant),
        budget: u64,
        service: &Shared,
        tools: &mut IoBuffers,
    ) -> (u64, Progress) {
        let mut unprobed = 0;
        let mut means = RunContext {
            budget,
            lane,
            now,
            tools,
            unprobed: &mut unprobed,
        };
        // Only a run that asks nobody for residency is timed.
        let file = self.transfer.file();
        let timed = file.is_some_and(|file| file.device.answers_from_memory());
        let begun = timed.then(Instant::now);
        let (sent, progress) = self.transfer.run(stream, &mut means);
        self.sent += sent;
        let counters = &service.counters;
        counters
            .bytes_sent
            .fetch_add(sent, std::sync::atomic::Ordering::Relaxed);
        if unprobed > 0 {
            // A file system that was trusted to answer from memory did, or it loses the trust.
            if let (Some(file), Some(begun)) = (self.transfer.file(), begun) {
                file.device.learn(sent, begun.elapsed());
            }
            counters
                .quanta_unprobed
                .fetch_add(unprobed, std::sync::atomic::Ordering::Relaxed);
        }
        (sent, progress)
    }

    /// Reads an extent, or sends it from the disk lane if it would not stay in memory.
    fn errand_for(&mut self, extent: Extent) -> DiskJob {
        let times = match self.cold {
            Cold::At { offset, times } if offset == extent.offset => times.saturating_add(1),
            _ => 1,
        };
        self.cold = Cold::At {
            offset: extent.offset,
            times,
        };
        if times > MAX_READS {
            DiskJob::SendCold
        } else {
            DiskJob::Read(extent)
        }
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
            drop_behind(&file, extent.offset);
        }
        warm(&file, extent, tools).map_err(TransmitError::File)?;
        Counters::add_one(&service.counters.extents_warmed);
        if residency_of(&file, extent) != Residency::Absent {
            self.transfer.note_resident(extent);
        }
        Ok(())
    }

    fn send_cold(&mut self, stream: &TcpStream, service: &Shared, tools: &mut IoBuffers) -> u64 {
        Counters::add_one(&service.counters.extents_sent_cold);
        let budget = service.config.quantum_bytes;
        let lane = (Lane::Disk, Instant::now());
        let (sent, progress) = self.run(stream, lane, budget, service, tools);
        self.pulse.note_sent(sent, Instant::now());
        self.cold = Cold::At {
            offset: 0,
            times: 0,
        };
        // Who takes nothing has to be waited for. All but that shows again in the hot lane.
        if let Progress::Failed(_) | Progress::Blocked = progress {
            self.left_off = Some(progress);
        }
        sent
    }

    fn fill(&mut self, service: &Shared) -> Result<(), TransmitError> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let filled = rest.fill(service).map_err(TransmitError::File)?;
        if filled.is_last {
            self.rest = None;
        }
        if !filled.bytes.is_empty() {
            self.transfer.append(Segment::Memory(filled.bytes));
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

/// Pages that were seen in memory may be gone after so long.
const STALE_AFTER: Duration = Duration::from_millis(200);

/// An extent that was read so often and is still not in memory is sent from the disk lane.
const MAX_READS: u8 = 2;

/// Extents that are read ahead of a reader whose file comes from a disk.
pub(crate) const READ_AHEAD_EXTENTS: u64 = 8;

/// The least a turn costs, in bytes of service, so that tiny responses count as well.
const LEAST_CHARGE: u64 = 4 << 10;

/// Responses up to this size leave by three calls: the head, most of the file, the end of it.
const LARGE_BYTES: u64 = 256 << 10;
