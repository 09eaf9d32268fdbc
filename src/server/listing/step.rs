//! One step of a listing: bounded work, bounded output.

use crate::sys::directory::EntryFacts;

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Call again. A step may find nothing to write yet.
    More,
    /// The listing is whole.
    Done,
}

/// Looks at what a link in the directory leads to, following it; `None` when that is outside the
/// root, absent, or neither a file nor a directory.
pub(crate) type Follow<'a> = &'a dyn Fn(&[u8]) -> Option<EntryFacts>;

/// How much a step appends before it ends: all that is kept of it for a peer that reads nothing.
/// A step may exceed it by one entry.
pub(crate) const STEP_BYTES: usize = 6 << 10;

/// How many entries a step looks at when it writes nothing.
pub(super) const STEP_ENTRIES: usize = 2_000;
