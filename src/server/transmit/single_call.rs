//! The rest of a response, sent in one call after the file was found unchanged.

use crate::http::Segment;
use crate::server::config::SendChoice;
use crate::server::transmit::sink::{More, SendError, Sink, blocked_or_network, send_loaded};
use crate::server::transmit::small::{self, Gathered};
use crate::server::transmit::transfer::{Progress, RunContext, Transfer, TransmitError};
use crate::sys::file::Blocking;

/// The outcome of an attempt to send all that is left in one call.
pub(super) enum Small {
    /// The rest has become smaller, or has come into memory: the loop goes on.
    Again,
    /// The run ends with this reason.
    Stopped(Progress),
    /// The rest is too large, or may not be read here.
    Unfit,
}

impl Transfer {
    /// Sends the rest in one call if the file's content is kept, or the rest fits a small buffer.
    /// Bytes that were read leave after the file was found unchanged. Those that the peer does not
    /// take are read again.
    pub(super) fn send_small(
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
                None => Ok(Small::Stopped(Progress::Failed(TransmitError::Changed))),
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
            Gathered::Short => return Ok(Small::Stopped(Progress::Failed(TransmitError::Changed))),
            Gathered::Cold if self.has_shrunk(context)? => {
                return Ok(Small::Stopped(Progress::Failed(TransmitError::Changed)));
            }
            Gathered::Cold if self.remaining <= HELD_BYTES => return Ok(self.fetch_last(context)),
            Gathered::Cold => return Ok(Small::Unfit),
        }
        if file.file_system.is_remote() && context.blocking == Blocking::Forbidden {
            return Ok(Small::Stopped(Progress::Reserved));
        }
        if !file.keeps_content().map_err(SendError::File)? {
            return Ok(Small::Stopped(Progress::Failed(TransmitError::Changed)));
        }
        let sent = sink
            .send(&context.tools.scratch[..total], More::No)
            .map_err(blocked_or_network)?;
        Ok(self.after(sent))
    }

    /// Sends a head and one piece of the file from the worker's pipe, if the peer most likely takes
    /// all at once. The file is checked when the piece is in the pipe.
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
        // The loop finds the missing bytes again, after it has sent the head.
        if !matches!(self.residency(offset, len, context), Ok(found) if found == len) {
            return Ok(Small::Unfit);
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(loaded) = context.tools.load(file.file(), offset, len) else {
            return Ok(if self.has_shrunk(context)? {
                Small::Stopped(Progress::Failed(TransmitError::Changed))
            } else {
                Small::Unfit
            });
        };
        if !file.keeps_content().map_err(SendError::File)? {
            return Ok(Small::Stopped(Progress::Failed(TransmitError::Changed)));
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
            0 => Ok(Small::Stopped(Progress::Failed(TransmitError::Changed))),
            sent => Ok(self.after(sent)),
        }
    }

    /// Whether the file has changed, which explains a short read. `false` where the check may wait.
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

    /// The file's piece in the rest, if the rest is one piece with or without a head.
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

    /// The step to the last bytes, which are not in memory.
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
            return Small::Stopped(Progress::Reserved);
        };
        match self.residency(offset, len, context) {
            // The bytes have come into memory since.
            Ok(found) if found == len => Small::Again,
            Ok(_) => Small::Stopped(Progress::Reserved),
            Err(progress) => Small::Stopped(progress),
        }
    }
}

/// Largest response, head included, that is gathered for one call where its bytes are copied
/// anyway.
const SMALL_COPY_BYTES: usize = 128 << 10;

/// Largest piece sent from the pipe at once: a peer may well not take more.
const AT_ONCE_BYTES: u64 = 128 << 10;

/// Bytes of a file's response that are held back until the file was found unchanged: few, since
/// they are copied.
pub(super) const HELD_BYTES: u64 = 1 << 10;
