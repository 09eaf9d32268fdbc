//! How many connections wait in the disk queue for each file system, so that a hung one never holds
//! all connections.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// The connections in the disk queue by the file system they wait for (`st_dev`). Lock-free, since
/// hot workers read it; file systems that share a counter count as one.
#[derive(Debug)]
pub(crate) struct DiskWaits {
    waiting: [AtomicUsize; COUNTERS],
}

/// A connection's wait, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct DiskWait {
    waits: Arc<DiskWaits>,
    device: u64,
}

impl Default for DiskWaits {
    fn default() -> Self {
        Self {
            waiting: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }
}

impl DiskWaits {
    /// Counts a wait, beyond the limit too.
    pub(crate) fn begin(self: &Arc<Self>, device: u64) -> DiskWait {
        self.counter(device).fetch_add(1, Ordering::Relaxed);
        DiskWait {
            waits: Arc::clone(self),
            device,
        }
    }

    /// How many wait for this file system.
    #[must_use]
    pub(crate) fn count(&self, device: u64) -> usize {
        self.counter(device).load(Ordering::Relaxed)
    }

    fn counter(&self, device: u64) -> &AtomicUsize {
        // Numbers follow each other; those of disks differ in the upper bits (makedev(3)).
        let mixed = device.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        &self.waiting[mixed as usize % COUNTERS]
    }
}

impl Drop for DiskWait {
    fn drop(&mut self) {
        let counter = self.waits.counter(self.device);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

const COUNTERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_until_it_is_dropped() {
        let waits = Arc::new(DiskWaits::default());
        let held = [waits.begin(1), waits.begin(1), waits.begin(2)];
        assert_eq!((waits.count(1), waits.count(2), waits.count(3)), (2, 1, 0));
        drop(held);
        assert_eq!((waits.count(1), waits.count(2)), (0, 0));
    }
}
