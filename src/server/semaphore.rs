//! Permits: how many of something there may be at once. A permit counts itself off when dropped.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A limit, and how much of it is taken.
#[derive(Debug)]
pub(crate) struct Semaphore {
    most: AtomicUsize,
    taken: AtomicUsize,
}

/// A permit for a limited resource.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Semaphore>,
}

impl Semaphore {
    /// A limit of `most`.
    #[must_use]
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(most),
            taken: AtomicUsize::new(0),
        })
    }

    /// Takes a permit, if one is left.
    #[must_use]
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst);
        if taken >= self.most() {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Permit {
            permits: Arc::clone(self),
        })
    }

    /// Whether more than half are taken.
    #[must_use]
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken() > self.most() / 2
    }

    /// How many there may be at once.
    #[must_use]
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Sets the limit; permits beyond it stay until they are dropped.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many are left.
    #[must_use]
    pub(crate) fn left(&self) -> usize {
        self.most().saturating_sub(self.taken())
    }

    /// How many are taken.
    #[must_use]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.taken.fetch_sub(1, Ordering::SeqCst);
    }
}
