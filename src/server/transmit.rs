//! The loop that sends a plan into a sink under a budget.
//!
//! The loop sends bytes that are in memory. The last bytes of a file's response are held back until
//! the file was found unchanged. A run ends with a reason where it would have to wait: for the
//! peer, for a disk, or for other connections' turns. HTTP is unknown here.

pub(crate) mod read_ahead;
mod seal_buffers;
mod single_call;
pub(crate) mod sink;
mod small;
pub(crate) mod tls;
mod transfer;

use crate::http::Segment;
pub(crate) use crate::server::files::extent::EXTENT_BYTES;
pub(crate) use crate::server::files::extent::Extent;
use crate::server::transmit::single_call::{HELD_BYTES, Small};
use crate::server::transmit::sink::{More, SendError, Sink, blocked_or_network};
pub(crate) use crate::server::transmit::transfer::{Prefill, TransmitError};
pub use crate::server::transmit::transfer::{Progress, RunContext, Transfer};

impl Transfer {
    /// Sends until something stops it. Returns the bytes sent, and why it stopped.
    pub fn run(&mut self, sink: &mut impl Sink, context: &mut RunContext<'_>) -> (u64, Progress) {
        let before = self.remaining;
        let progress = match self.run_inner(sink, context, before) {
            Ok(progress) => progress,
            Err(SendError::Blocked) => {
                // A partial segment would wait for bytes that do not come soon.
                let _ = sink.push();
                Progress::Blocked
            }
            Err(SendError::Network(error)) => Progress::Failed(TransmitError::Network(error)),
            Err(SendError::File(error)) => Progress::Failed(TransmitError::File(error)),
        };
        (before - self.remaining, progress)
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
                Small::Stopped(progress) => return Ok(progress),
                Small::Unfit => {}
            }
            // The last bytes of a file's response leave by `send_small` or not at all.
            let held = if self.file.is_some() { HELD_BYTES } else { 0 };
            // The budget bounds calls as a whole: one that ended within an extent would leave pages
            // and segments incomplete.
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
                    // The residency of the held bytes is looked up with the rest.
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
}
