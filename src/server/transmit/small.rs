//! Small responses are gathered in memory and sent in one call. The content of small files that are
//! requested again is kept in memory.

use std::ops::Range;
use std::time::Instant;

use crate::http::{Plan, Segment};
use crate::server::files::OpenFile;
use crate::server::transmit::sink::{More, SendError, Sink, blocked_or_network};
use crate::sys::file::Blocking;

/// The outcome of gathering a plan's bytes in memory.
pub(super) enum Gathered {
    /// All bytes are there.
    Whole,
    /// The file has fewer.
    Short,
    /// Some bytes may not be read here.
    Cold,
}

/// Gathers all bytes of a plan, for which `bytes` has just the room.
pub(super) fn gather(
    plan: &Plan,
    file: &OpenFile,
    bytes: &mut [u8],
    at_hand: (Blocking, Instant, &Range<u64>),
) -> Result<Gathered, SendError> {
    let mut filled = 0;
    for segment in &plan.segments {
        let end = filled + usize::try_from(segment.len()).unwrap_or(usize::MAX);
        let room = &mut bytes[filled..end];
        match segment {
            Segment::Memory(bytes) => room.copy_from_slice(bytes),
            &Segment::File { offset, .. } => match read(file, room, offset, at_hand)? {
                None => return Ok(Gathered::Cold),
                Some(count) if count < room.len() => return Ok(Gathered::Short),
                Some(_) => {}
            },
        }
        filled = end;
    }
    Ok(Gathered::Whole)
}

/// Keeps the file's content in memory, if it is small and can be read without waiting. Errors are
/// ignored, since sending finds them again.
pub(super) fn keep(file: &OpenFile, scratch: &mut [u8], (blocking, now): (Blocking, Instant)) {
    let len = usize::try_from(file.meta.len).unwrap_or(usize::MAX);
    if len > KEPT_BYTES || !file.has_settled() {
        return;
    }
    let Some(bytes) = scratch.get_mut(..len) else {
        return;
    };
    let is_whole =
        matches!(read(file, bytes, 0, (blocking, now, &(0..0))), Ok(Some(count)) if count == len);
    if is_whole && file.keeps_content().unwrap_or(false) {
        file.keep(bytes);
    }
}

/// Sends a plan that draws from kept content, and returns the bytes taken; `None` if the plan wants
/// bytes beyond the content. They are gathered first: the kernel copies faster from one aligned
/// place than from two unaligned ones.
pub(super) fn send_kept(
    plan: &Plan,
    content: &[u8],
    scratch: &mut [u8],
    sink: &mut impl Sink,
) -> Result<Option<usize>, SendError> {
    let (mut filled, mut more) = (0, More::No);
    for segment in &plan.segments {
        let bytes = match segment {
            Segment::Memory(bytes) => Some(&bytes[..]),
            Segment::File { offset, len } => within(content, *offset, *len),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let len = bytes.len().min(scratch.len() - filled);
        scratch[filled..filled + len].copy_from_slice(&bytes[..len]);
        filled += len;
        if len < bytes.len() {
            more = More::Yes;
            break;
        }
    }
    let sent = sink.send(&scratch[..filled], more);
    sent.map(Some).map_err(blocked_or_network)
}

fn within(content: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let offset = usize::try_from(offset).ok()?;
    content.get(offset..)?.get(..usize::try_from(len).ok()?)
}

/// Reads all of a small piece; `None` if that might wait for a disk.
fn read(
    file: &OpenFile,
    bytes: &mut [u8],
    offset: u64,
    (blocking, now, resident): (Blocking, Instant, &Range<u64>),
) -> Result<Option<usize>, SendError> {
    let is_resident = resident.start <= offset && offset + bytes.len() as u64 <= resident.end;
    let may_read = blocking == Blocking::Allowed || (is_resident && !file.file_system.is_remote());
    let read = match may_read {
        true => file.read(bytes, offset).map(Some),
        false => file.read_resident(bytes, offset, now),
    };
    read.map_err(SendError::File)
}

/// Largest file whose content is kept: to copy 64 KiB takes longer than to send the file's pages.
const KEPT_BYTES: usize = 16 << 10;
