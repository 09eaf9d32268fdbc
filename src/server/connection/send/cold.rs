//! The disk job for bytes of a response's file that are not in memory.

use crate::server::connection::step::{DiskAction, ExtentKey};
use crate::server::files::OpenFile;
use crate::server::transmit::Extent;

/// The presence of the file in memory, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cold {
    /// The bytes sent were in memory.
    Never,
    /// Some bytes were missing, and were sent by a disk worker.
    Before,
    /// The bytes at `offset` were missing `times` times in a row.
    At { offset: u64, times: u8 },
}

impl Cold {
    /// Notes that an extent is missing. The extent is read, or sent by a disk worker if it would
    /// not stay in memory.
    pub(super) fn action(&mut self, extent: Extent, file: &OpenFile) -> DiskAction {
        let times = match *self {
            Self::At { offset, times } if offset == extent.offset => times.saturating_add(1),
            _ => 1,
        };
        let offset = extent.offset;
        *self = Self::At { offset, times };
        match times > MAX_READS {
            true => DiskAction::Send,
            false => DiskAction::Read(extent, ExtentKey::new(file, extent)),
        }
    }
}

/// Reads of an extent after which a disk worker sends it, since it does not stay in memory.
const MAX_READS: u8 = 2;
