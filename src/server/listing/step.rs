//! A step of a listing: bounded work, bounded output.

use crate::sys::directory::EntryFacts;

/// Whether there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Call again. A step may find nothing to write yet.
    More,
    /// The listing is whole.
    Done,
}

/// The memory of a listing that could be produced again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Little work.
    Little,
    /// Memory whose content takes time to produce again.
    Some,
    /// Memory that others lack, or whose content is soon produced again.
    Dear,
}

/// The number of a scan that connections share: one of them at a time takes it further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScanNumber(pub(crate) u64);

/// The target of a link in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// A file or a directory beneath the root.
    Inside(EntryFacts),
    /// To an outside target.
    Outside,
    /// The target is absent, or neither a file nor a directory.
    Nothing,
}

/// The target of a link in the directory.
pub(crate) type Follow<'a> = &'a dyn Fn(&[u8]) -> Followed;

/// How much a step appends before it ends: all that is kept of it for a peer that reads nothing.
/// A step may exceed it by one entry.
pub(crate) const STEP_BYTES: usize = 6 << 10;

/// How many entries a step looks at when it writes nothing.
pub(super) const STEP_ENTRIES: usize = 2_000;
