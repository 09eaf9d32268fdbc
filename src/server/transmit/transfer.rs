//! A transfer: what is left of a plan, and what is known of its file and its peer.

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

/// A plan on its way, and the file it draws from.
#[derive(Debug)]
pub struct Transfer {
    pub(super) plan: Plan,
    pub(super) file: Option<Arc<OpenFile>>,
    pub(super) choice: SendChoice,
    /// Bytes of the plan not yet sent.
    pub(super) remaining: u64,
    /// These bytes of the file were found in the page cache a moment ago.
    pub(super) resident: Range<u64>,
    read_ahead: ReadAheadCursor,
    prefill: Prefill,
    /// Bytes in the pipe that the peer did not take.
    lease: Option<PipeLease>,
    /// The file was sent a moment ago: its content, if it is small, is worth keeping.
    pub(super) worth_keeping: bool,
}

/// How much goes into the pipe before the peer takes it, by what it took so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefill(usize);

impl Default for Prefill {
    fn default() -> Self {
        Self(FIRST_PREFILL_BYTES)
    }
}

/// Where a run left off.
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
    /// The disk lane must send the next bytes. The bytes are in memory, but the file system may
    /// wait for a network even so; or they are the last ones, and reading them or the file's
    /// metadata may wait.
    Reserved,
    /// The transfer cannot go on.
    Failed(TransmitError),
}

/// Why a transfer cannot go on.
#[derive(Debug)]
pub enum TransmitError {
    /// The peer or the network.
    Network(io::Error),
    /// The file cannot be read.
    File(io::Error),
    /// The file is not what it was when its response began.
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

    /// What the peer took of this transfer, for the next one to it.
    pub(crate) fn prefill(&self) -> Prefill {
        self.prefill
    }

    /// Begins with what the last transfer found of the peer.
    pub(crate) fn set_prefill(&mut self, prefill: Prefill) {
        self.prefill = prefill;
    }

    /// Bytes not yet sent.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How the file's bytes go out.
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

    /// The next extent to be read ahead of what is being sent; each is named once.
    pub(crate) fn next_read_ahead(&mut self) -> Option<ReadAhead> {
        let Some(&Segment::File { offset, len }) = self.plan.segments.front() else {
            return None;
        };
        self.read_ahead
            .next(self.file.as_ref()?, offset..offset + len)
    }

    /// Notes that the disk lane has read these bytes of the file in.
    pub fn note_resident(&mut self, extent: Extent) {
        self.resident = extent.offset..extent.offset + extent.len;
    }

    /// Forgets what was known of residency: a long wait lies behind.
    pub fn forget_residency(&mut self) {
        self.resident = 0..0;
    }

    /// How many bytes from `offset` on may be sent here, or why none.
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
        // To the end of the extent, so that all readers of a file ask for the same ones.
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
        // Bytes that the peer does not take are prepared in vain, unless its next turn finds them.
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

/// Bytes that go into the pipe for a new peer, and at least; later all of them where the peer took
/// all that there were, else twice as many as it took. A full pipe for all costs paced readers a
/// third more processor time, 128 KiB for all costs a lone fast reader an eighth.
const FIRST_PREFILL_BYTES: usize = 128 << 10;
