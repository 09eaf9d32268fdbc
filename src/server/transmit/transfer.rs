//! A transfer: the unsent rest of a plan, the residency of its file, and the pace of its peer.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::http::{Plan, Segment};
use crate::server::config::SendChoice;
use crate::server::files::OpenFile;
use crate::server::files::extent::{EXTENT_BYTES, Extent};
use crate::server::transmit::read_ahead::{ReadAhead, ReadAheadCursor};
use crate::server::transmit::sink::{FilePart, IoBuffers, More, SendError, Sink};
use crate::sys::file::Blocking;
use crate::sys::send_file::PipeLease;

/// A plan that is being sent, and the file it draws from.
#[derive(Debug)]
pub struct Transfer {
    pub(super) plan: Plan,
    pub(super) file: Option<Arc<OpenFile>>,
    pub(super) choice: SendChoice,
    /// Bytes of the plan not yet sent.
    pub(super) remaining: u64,
    /// Bytes of the file that were found in the page cache a moment ago.
    pub(super) resident: Range<u64>,
    read_ahead: ReadAheadCursor,
    prefill: Prefill,
    /// Bytes in the pipe that the peer did not take.
    lease: Option<PipeLease>,
    /// Whether the file was sent a moment ago, so that small content is worth keeping.
    pub(super) worth_keeping: bool,
}

/// Bytes that go into the pipe before the peer takes them, by what it took so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefill(usize);

impl Default for Prefill {
    fn default() -> Self {
        Self(FIRST_PREFILL_BYTES)
    }
}

/// The reason why a run ended.
#[derive(Debug)]
pub enum Progress {
    /// All was sent.
    Done,
    /// The send queue is full.
    Blocked,
    /// The budget is spent.
    Spent,
    /// The next bytes of the file are not in memory.
    Cold(Extent),
    /// A disk worker must send the next bytes. They are in memory on a file system that may wait
    /// for a network all the same, or they are the last ones, and reading them may wait.
    Reserved,
    /// The transfer cannot go on.
    Failed(TransmitError),
}

/// The reason why a transfer cannot go on.
#[derive(Debug)]
pub enum TransmitError {
    /// The peer or the network.
    Network(io::Error),
    /// The file cannot be read.
    File(io::Error),
    /// The file has changed since its response began.
    Changed,
}

/// The context of a run.
#[derive(Debug)]
pub struct RunContext<'a> {
    /// Bytes to send at the most.
    pub budget: u64,
    /// Whether the caller may wait for a disk.
    pub blocking: Blocking,
    /// When the caller's turn began.
    pub now: Instant,
    /// The caller's buffers and pipe.
    pub tools: &'a mut IoBuffers,
}

impl Transfer {
    /// Prepares a plan; `file` is what its file segments draw from.
    #[must_use]
    pub fn new(plan: Plan, file: Option<Arc<OpenFile>>, choice: SendChoice) -> Self {
        let remaining = plan.segments.iter().map(Segment::len).sum();
        let draws = plan
            .segments
            .iter()
            .any(|segment| matches!(segment, Segment::File { .. }));
        let file = file.filter(|_| draws);
        let worth_keeping = file.as_ref().is_some_and(|file| file.begin_reading());
        Self {
            plan,
            file,
            choice,
            remaining,
            resident: 0..0,
            read_ahead: ReadAheadCursor::default(),
            prefill: Prefill::default(),
            lease: None,
            worth_keeping,
        }
    }

    /// The prefill that the peer's pace gave, for the next transfer to it.
    pub(crate) fn prefill(&self) -> Prefill {
        self.prefill
    }

    /// Begins with the prefill of the last transfer to the peer.
    pub(crate) fn set_prefill(&mut self, prefill: Prefill) {
        self.prefill = prefill;
    }

    /// Bytes not yet sent.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The way in which the file's bytes are sent.
    #[must_use]
    pub fn choice(&self) -> SendChoice {
        self.choice
    }

    /// The file drawn from, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<OpenFile>> {
        self.file.as_ref()
    }

    /// Adds to the end of the plan.
    pub fn append(&mut self, segment: Segment) {
        self.remaining += segment.len();
        self.plan.segments.push_back(segment);
    }

    /// Gives back memory beyond what the bytes not yet sent need.
    pub(crate) fn shrink(&mut self) {
        for segment in &mut self.plan.segments {
            if let Segment::Memory(bytes) = segment
                && bytes.capacity() > bytes.len()
            {
                *bytes = bytes.as_slice().to_vec();
            }
        }
        self.plan.segments.shrink_to_fit();
    }

    /// The next extent to be read ahead; each is returned once.
    pub(crate) fn next_read_ahead(&mut self) -> Option<ReadAhead> {
        let Some(&Segment::File { offset, len }) = self.plan.segments.front() else {
            return None;
        };
        self.read_ahead
            .next(self.file.as_ref()?, offset..offset + len)
    }

    /// Notes that a disk worker has read these bytes into the page cache.
    pub fn note_resident(&mut self, extent: Extent) {
        self.resident = extent.offset..extent.offset + extent.len;
    }

    /// Forgets the residency, which a long wait has made doubtful.
    pub fn forget_residency(&mut self) {
        self.resident = 0..0;
    }

    /// The bytes from `offset` on that may be sent here, or the reason why none may.
    pub(super) fn residency(
        &mut self,
        offset: u64,
        len: u64,
        context: &RunContext<'_>,
    ) -> Result<u64, Progress> {
        let Some(file) = &self.file else {
            return Ok(len);
        };
        if context.blocking == Blocking::Allowed {
            return Ok(len);
        }
        let resident = self.resident.contains(&offset);
        if resident && file.file_system.is_remote() {
            return Err(Progress::Reserved);
        }
        if resident {
            return Ok(len.min(self.resident.end - offset));
        }
        // The extent ends where those of the file's other readers do, so that they share its read.
        let len = len.min(EXTENT_BYTES - offset % EXTENT_BYTES);
        let extent = Extent { offset, len };
        if file.may_wait(extent, context.now) {
            return Err(Progress::Cold(extent));
        }
        self.resident = offset..extent.end();
        Ok(len)
    }

    pub(super) fn send_extent(
        &mut self,
        sink: &mut impl Sink,
        tools: &mut IoBuffers,
        offset: u64,
        len: u64,
        more: More,
    ) -> Result<u64, SendError> {
        self.lease.take_if(|kept| !tools.holds(kept));
        let Some(file) = &self.file else { return Ok(0) };
        let (lease, choice) = (&mut self.lease, &mut self.choice);
        let part = FilePart {
            file: file.file(),
            offset,
            len,
            more,
            prefill_bytes: self.prefill.0,
            lease,
            choice,
        };
        let sent = sink.send_file(part, tools)?;
        // The pipe is filled in vain for bytes that the peer takes neither now nor in its next
        // turn.
        self.prefill.0 = match sent as u64 == len {
            true => usize::MAX,
            false => FIRST_PREFILL_BYTES.max(2 * sent),
        };
        Ok(sent as u64)
    }

    /// Takes sent bytes off the front of the plan.
    pub(super) fn consume(&mut self, mut sent: u64) {
        self.remaining -= sent;
        while sent > 0 {
            let Some(segment) = self.plan.segments.front_mut() else {
                return;
            };
            let len = segment.len();
            if sent >= len {
                self.plan.segments.pop_front();
                sent -= len;
                continue;
            }
            match segment {
                Segment::Memory(bytes) => {
                    bytes.drain(..usize::try_from(sent).unwrap_or(usize::MAX));
                }
                Segment::File { offset, len } => {
                    *offset += sent;
                    *len -= sent;
                }
            }
            return;
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.end_reading();
        }
    }
}

/// The prefill for a new peer, and the least. A peer that took all bytes has all put into the pipe
/// next time, any other twice as many as it took. A full pipe for all peers costs paced readers a
/// third more processor time, 128 KiB for all a lone fast reader an eighth.
const FIRST_PREFILL_BYTES: usize = 128 << 10;
