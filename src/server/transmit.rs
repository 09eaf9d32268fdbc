//! Runs a plan into a sink under a budget: the loop that haul is about.
//!
//! The loop sends bytes that are in memory, and holds the last bytes of a file's response back
//! until the file was found unchanged. It leaves off with a reason whenever it would have to wait:
//! for the peer, for a disk, or for others to have their turn. HTTP is unknown here.

pub(crate) mod read_ahead;
mod seal_buffers;
pub(crate) mod sink;
mod small;
pub(crate) mod tls;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::http::{Plan, Segment};
use crate::server::config::SendChoice;
use crate::server::files::OpenFile;
pub(crate) use crate::server::files::extent::EXTENT_BYTES;
pub(crate) use crate::server::files::extent::Extent;
use crate::server::transmit::read_ahead::{ReadAhead, ReadAheadCursor};
use crate::server::transmit::sink::{
    FilePart, IoBuffers, More, SendError, Sink, blocked_or_network, send_loaded,
};
use crate::server::transmit::small::Gathered;
use crate::sys::file::Blocking;
use crate::sys::send_file::PipeLease;

/// A plan on its way, and the file it draws from.
#[derive(Debug)]
pub struct Transfer {
    plan: Plan,
    file: Option<Arc<OpenFile>>,
    choice: SendChoice,
    /// Bytes of the plan not yet sent.
    remaining: u64,
    /// These bytes of the file were found in the page cache a moment ago.
    resident: Range<u64>,
    read_ahead: ReadAheadCursor,
    prefill: Prefill,
    /// Bytes in the pipe that the peer did not take.
    lease: Option<PipeLease>,
    /// The file was sent a moment ago: its content, if it is small, is worth keeping.
    worth_keeping: bool,
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

    /// Sends until something stops it. Returns the bytes sent, and why it stopped.
    pub fn run(&mut self, sink: &mut impl Sink, context: &mut RunContext<'_>) -> (u64, Progress) {
        let before = self.remaining;
        let progress = match self.run_inner(sink, context, before) {
            Ok(progress) => progress,
            Err(SendError::Blocked) => {
                // Part of a segment may wait for a successor that is not to come soon.
                let _ = sink.push();
                Progress::Blocked
            }
            Err(SendError::Network(error)) => Progress::Failed(TransmitError::Network(error)),
            Err(SendError::File(error)) => Progress::Failed(TransmitError::File(error)),
        };
        (before - self.remaining, progress)
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

    fn run_inner(
        &mut self,
        sink: &mut impl Sink,
        context: &mut RunContext<'_>,
        before: u64,
    ) -> Result<Progress, SendError> {
        loop {
            if self.plan.segments.is_empty() {
                sink.flush().map_err(blocked_or_network)?;
                return Ok(Progress::Done);
            }
            let spent = before - self.remaining;
            if spent >= context.budget {
                return Ok(Progress::Spent);
            }
            match self.send_small(sink, context)? {
                Small::Again => continue,
                Small::Left(progress) => return Ok(progress),
                Small::Unfit => {}
            }
            // The last bytes of a file's response leave by `send_small` or not at all.
            let held = if self.file.is_some() { HELD_BYTES } else { 0 };
            // The budget is looked at between calls, not within one: cutting an extent in two to
            // the byte would leave pages and segments incomplete.
            let allowed = (self.remaining - held).min(context.budget);
            let more = if self.remaining > allowed {
                More::Yes
            } else {
                More::No
            };
            let sent = match self.plan.segments.front() {
                None => return Ok(Progress::Done),
                Some(Segment::Memory(bytes)) => {
                    let len = usize::try_from(allowed)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    let more = if self.remaining > len as u64 {
                        More::Yes
                    } else {
                        more
                    };
                    sink.send(&bytes[..len], more).map_err(blocked_or_network)? as u64
                }
                Some(&Segment::File { offset, len }) => {
                    // The bytes held back are looked for with the rest.
                    let len = match self.residency(offset, len, context) {
                        Ok(len) => len.min(allowed),
                        Err(progress) => return Ok(progress),
                    };
                    match self.send_extent(sink, context.tools, offset, len, more)? {
                        0 => return Ok(Progress::Failed(TransmitError::Changed)),
                        sent => sent,
                    }
                }
            };
            self.consume(sent);
        }
    }

    /// Sends what is left in one call if the file's content is kept, or if it fits one small buffer
    /// and draws from the file. Bytes read of the file leave only if the file is found unchanged
    /// afterwards, and are read anew if the peer does not take them.
    fn send_small(
        &mut self,
        sink: &mut impl Sink,
        context: &mut RunContext<'_>,
    ) -> Result<Small, SendError> {
        let total = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let Some(file) = &self.file else {
            return Ok(Small::Unfit);
        };
        if std::mem::take(&mut self.worth_keeping) && file.kept().is_none() {
            small::keep(
                file,
                &mut context.tools.scratch,
                (context.blocking, context.now),
            );
        }
        if let Some(content) = file.kept() {
            return match small::send_kept(&self.plan, content, &mut context.tools.scratch, sink)? {
                Some(sent) => Ok(self.after(sent)),
                None => Ok(Small::Left(Progress::Failed(TransmitError::Changed))),
            };
        }
        let small = match self.choice {
            SendChoice::Copy if sink.socket().is_some() => SMALL_COPY_BYTES,
            SendChoice::Auto | SendChoice::Copy => sink.at_once().min(SMALL_COPY_BYTES),
        };
        if total > small.min(context.tools.scratch.len()) {
            return self.send_at_once(sink, context);
        }
        let bytes = &mut context.tools.scratch[..total];
        match small::gather(
            &self.plan,
            file,
            bytes,
            (context.blocking, context.now, &self.resident),
        )? {
            Gathered::Whole => {}
            Gathered::Short => return Ok(Small::Left(Progress::Failed(TransmitError::Changed))),
            Gathered::Cold if self.has_shrunk(context)? => {
                return Ok(Small::Left(Progress::Failed(TransmitError::Changed)));
            }
            Gathered::Cold if self.remaining <= HELD_BYTES => return Ok(self.fetch_last(context)),
            Gathered::Cold => return Ok(Small::Unfit),
        }
        if file.file_system.is_remote() && context.blocking == Blocking::Forbidden {
            return Ok(Small::Left(Progress::Reserved));
        }
        if !file.keeps_content().map_err(SendError::File)? {
            return Ok(Small::Left(Progress::Failed(TransmitError::Changed)));
        }
        let sent = sink
            .send(&context.tools.scratch[..total], More::No)
            .map_err(blocked_or_network)?;
        Ok(self.after(sent))
    }

    /// Sends what is left from the worker's pipe, if it is a head and a piece of the file that the
    /// peer most likely takes at once: the file is looked at when all of it is in the pipe.
    fn send_at_once(
        &mut self,
        sink: &mut impl Sink,
        context: &mut RunContext<'_>,
    ) -> Result<Small, SendError> {
        let Some((offset, len)) = self.single_piece() else {
            return Ok(Small::Unfit);
        };
        let Some(file) = self.file.clone() else {
            return Ok(Small::Unfit);
        };
        if len > AT_ONCE_BYTES
            || len > context.budget
            || self.choice != SendChoice::Auto
            || sink.socket().is_none()
            || file.file_system.is_remote()
        {
            return Ok(Small::Unfit);
        }
        // Missing bytes are found out again, after the head was sent.
        if !matches!(self.residency(offset, len, context), Ok(found) if found == len) {
            return Ok(Small::Unfit);
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(loaded) = context.tools.load(file.file(), offset, len) else {
            return Ok(if self.has_shrunk(context)? {
                Small::Left(Progress::Failed(TransmitError::Changed))
            } else {
                Small::Unfit
            });
        };
        if !file.keeps_content().map_err(SendError::File)? {
            return Ok(Small::Left(Progress::Failed(TransmitError::Changed)));
        }
        if let Some(Segment::Memory(head)) = self.plan.segments.front() {
            let (sent, all) = (sink.send(head, More::Yes), head.len());
            let sent = sent.map_err(blocked_or_network)?;
            self.consume(sent as u64);
            if sent < all {
                return Ok(Small::Again);
            }
        }
        let Some(socket) = sink.socket() else {
            return Ok(Small::Unfit);
        };
        match send_loaded(socket, loaded)? {
            0 => Ok(Small::Left(Progress::Failed(TransmitError::Changed))),
            sent => Ok(self.after(sent)),
        }
    }

    /// Whether a read that came back short did so because the file is not what it was, as far as
    /// that can be told without waiting.
    fn has_shrunk(&self, context: &RunContext<'_>) -> Result<bool, SendError> {
        match &self.file {
            Some(file)
                if context.blocking == Blocking::Allowed || !file.file_system.is_remote() =>
            {
                file.keeps_content()
                    .map(|keeps| !keeps)
                    .map_err(SendError::File)
            }
            _ => Ok(false),
        }
    }

    /// The piece of the file that is left, if nothing but a head is left besides.
    fn single_piece(&self) -> Option<(u64, u64)> {
        let mut segments = self.plan.segments.iter();
        let piece = match segments.next()? {
            Segment::Memory(_) => segments.next()?,
            piece @ Segment::File { .. } => piece,
        };
        match (piece, segments.next()) {
            (&Segment::File { offset, len }, None) => Some((offset, len)),
            _ => None,
        }
    }

    fn after(&mut self, sent: usize) -> Small {
        self.consume(sent as u64);
        Small::Again
    }

    /// The last bytes have to be read, and that may wait: says where.
    fn fetch_last(&mut self, context: &RunContext<'_>) -> Small {
        let mut pieces = self
            .plan
            .segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::File { offset, len } => Some((*offset, *len)),
                Segment::Memory(_) => None,
            });
        let (Some((offset, len)), None) = (pieces.next(), pieces.next()) else {
            return Small::Left(Progress::Reserved);
        };
        match self.residency(offset, len, context) {
            // The bytes have just come: now they can be read.
            Ok(found) if found == len => Small::Again,
            Ok(_) => Small::Left(Progress::Reserved),
            Err(progress) => Small::Left(progress),
        }
    }

    /// How many bytes from `offset` on may be sent here, or why none.
    fn residency(
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

    fn send_extent(
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
    fn consume(&mut self, mut sent: u64) {
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

/// The outcome of an attempt to send all that is left in one call.
enum Small {
    /// Look at what is left now: some of it was sent, or has come into memory.
    Again,
    /// Nothing, and this is why.
    Left(Progress),
    /// The rest is too much, or may not be read here.
    Unfit,
}

/// Responses up to this size, head included, are gathered and sent in one call where the bytes are
/// copied in any case.
const SMALL_COPY_BYTES: usize = 128 << 10;

/// Bytes that go into the pipe for a new peer, and at least; later all of them where the peer took
/// all that there were, else twice as many as it took. A full pipe for all costs paced readers a
/// third more processor time, 128 KiB for all costs a lone fast reader an eighth.
const FIRST_PREFILL_BYTES: usize = 128 << 10;

/// More is not sent from the pipe in one piece: the peer may well not take it.
const AT_ONCE_BYTES: u64 = 128 << 10;

/// Bytes of a file's response that are held back until the file was found unchanged. They are
/// copied, so they are few.
const HELD_BYTES: u64 = 1 << 10;
