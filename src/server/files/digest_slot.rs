//! The known digests of an open file.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::digest::{Digests, Wanted};

/// The digests of one version of a file, shared by all its open files.
#[derive(Debug, Default)]
pub(crate) struct DigestSlot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: Digests,
    /// The store was queried.
    was_looked_up: bool,
    /// The digests that are being computed.
    pending: Wanted,
    /// When it failed: as it is, the file would fail again.
    failed: Option<Instant>,
}

impl DigestSlot {
    /// The known digests.
    pub(crate) fn known(&self) -> Digests {
        self.state().known
    }

    /// Whether the store was queried.
    pub(crate) fn was_looked_up(&self) -> bool {
        self.state().was_looked_up
    }

    /// Notes the store's digests.
    pub(crate) fn note_looked_up(&self, found: Digests) {
        let mut state = self.state();
        state.was_looked_up = true;
        state.known = state.known.and(found);
    }

    /// The part of `wanted` to be computed now; `None` if it is known or under way.
    pub(crate) fn begin(&self, wanted: Wanted) -> Option<Wanted> {
        let mut state = self.state();
        let missing = state.known.missing(wanted);
        let is_futile = state.failed.is_some_and(|at| at.elapsed() < AFTER_FAILURE);
        if missing.is_empty() || !state.pending.is_empty() || is_futile {
            return None;
        }
        state.pending = missing;
        Some(missing)
    }

    /// Ends the computation, with the digests or without.
    pub(crate) fn end(&self, found: Option<Digests>) {
        let mut state = self.state();
        state.pending = Wanted::default();
        if let Some(found) = found {
            state.known = state.known.and(found);
        }
    }

    /// Ends the computation: the file cannot be hashed.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        state.pending = Wanted::default();
        state.failed = Some(Instant::now());
    }

    /// The file has changed, or was closed: it may be hashed now.
    pub(crate) fn forget_failure(&self) {
        self.state().failed = None;
    }

    /// Forgets the BLAKE3 digest, whose block list was lost.
    pub(crate) fn forget_blake3(&self) {
        self.state().known.blake3 = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is written all the time is not read all the time.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
