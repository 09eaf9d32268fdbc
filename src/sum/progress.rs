//! The progress, shared between threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far the work is.
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) hashed: AtomicU64,
    /// Set to end the work before all is done.
    pub cancelled: Arc<AtomicBool>,
}

impl Progress {
    /// Bytes hashed so far.
    #[must_use]
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Counts bytes that were hashed.
    pub(super) fn add(&self, bytes: usize) {
        self.hashed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the work was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
