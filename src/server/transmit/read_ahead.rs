//! Read-ahead for readers whose file comes from a disk.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::server::files::OpenFile;
use crate::server::files::extent::{EXTENT_BYTES, Extent};
use crate::server::transmit::sink::IoBuffers;
use crate::sys::page_cache;

/// An extent to be read ahead of a transfer.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) extent: Extent,
    /// Lives as long as the transfer.
    pub(crate) transfer: Weak<()>,
}

impl ReadAhead {
    /// Whether the transfer is still under way.
    pub(crate) fn is_wanted(&self) -> bool {
        self.transfer.strong_count() > 0
    }
}

/// The progress of a transfer's read-ahead.
#[derive(Debug, Default)]
pub(super) struct ReadAheadCursor {
    /// Every extent before this offset was asked for.
    until: u64,
    /// Lives as long as the transfer, once something is read ahead of it.
    is_under_way: Option<Arc<()>>,
}

impl ReadAheadCursor {
    /// The next extent of `rest`, the unsent bytes, to be read ahead; each is returned once.
    pub(super) fn next(&mut self, file: &Arc<OpenFile>, rest: Range<u64>) -> Option<ReadAhead> {
        let next = (rest.start / EXTENT_BYTES + 1) * EXTENT_BYTES;
        let from = self.until.max(next);
        let until = rest.end.min(next + READ_AHEAD_EXTENTS * EXTENT_BYTES);
        let now = Instant::now();
        let starts = (from..until).step_by(EXTENT_BYTES as usize);
        let mut extents = starts.map(|from| Extent {
            offset: from,
            len: EXTENT_BYTES.min(rest.end - from),
        });
        let Some(extent) = extents.find(|extent| !file.was_resident(*extent, now)) else {
            self.until = from.max(until);
            return None;
        };
        self.until = extent.end();
        Some(ReadAhead {
            file: Arc::clone(file),
            extent,
            transfer: Arc::downgrade(self.is_under_way.get_or_insert_default()),
        })
    }
}

/// Reads an extent into the page cache, and notes the time for later choices.
pub(crate) fn read_into_cache(
    file: &OpenFile,
    extent: Extent,
    tools: &mut IoBuffers,
) -> io::Result<()> {
    let whole = file.file_system.wants_whole_extents();
    if whole {
        page_cache::will_need(file.file(), extent.offset, extent.len);
    }
    let begun = Instant::now();
    let mut at = extent.offset;
    while at < extent.end() {
        match tools.populate(file.file(), at, extent.end() - at)? {
            // The file has shrunk, which sending finds again.
            0 => break,
            count => at += count as u64,
        }
    }
    let (bytes, took) = (at - extent.offset, begun.elapsed());
    match whole {
        true => file.file_system.note_whole(),
        false => file.file_system.note_pieces(bytes, took),
    }
    file.note_resident(extent);
    Ok(())
}

/// Extents that are read ahead for one reader.
pub(crate) const READ_AHEAD_EXTENTS: u64 = 8;
