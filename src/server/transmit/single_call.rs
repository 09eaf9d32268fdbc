//! What is left of a response, sent in one call after the file was found unchanged.

use crate::http::Segment;
use crate::server::config::SendChoice;
use crate::server::transmit::sink::{More, SendError, Sink, blocked_or_network, send_loaded};
use crate::server::transmit::small::{self, Gathered};
use crate::server::transmit::transfer::{Progress, RunContext, Transfer, TransmitError};
use crate::sys::file::Blocking;

/// The outcome of an attempt to send all that is left in one call.
pub(super) enum Small {
    /// Look at what is left now: some of it was sent, or has come into memory.
    Again,
    /// Nothing, and this is why.
    Left(Progress),
    /// The rest is too much, or may not be read here.
    Unfit,
}

impl Transfer {
    /// Sends what is left in one call if the file's content is kept, or if it fits one small buffer
    /// and draws from the file. Bytes read of the file leave only if the file is found unchanged
    /// afterwards, and are read anew if the peer does not take them.
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
}

/// Responses up to this size, head included, are gathered and sent in one call where the bytes are
/// copied in any case.
const SMALL_COPY_BYTES: usize = 128 << 10;

/// More is not sent from the pipe in one piece: the peer may well not take it.
const AT_ONCE_BYTES: u64 = 128 << 10;

/// Bytes of a file's response that are held back until the file was found unchanged. They are
/// copied, so they are few.
pub(super) const HELD_BYTES: u64 = 1 << 10;
