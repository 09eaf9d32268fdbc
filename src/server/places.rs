//! Places in the disk queue: how many connections wait for each file system, so that a hung one
//! never holds all connections.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// The connections in the disk queue by the file system they wait for (`st_dev`). Lock-free, since
/// hot workers read it; file systems that share a counter count as one.
#[derive(Debug)]
pub(crate) struct DiskPlaces {
    taken: [AtomicUsize; COUNTERS],
}

/// A connection's place. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct DiskPlace {
    places: Arc<DiskPlaces>,
    device: u64,
}

impl Default for DiskPlaces {
    fn default() -> Self {
        Self {
            taken: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }
}

impl DiskPlaces {
    /// Takes a place, beyond the limit too.
    pub(crate) fn take(self: &Arc<Self>, device: u64) -> DiskPlace {
        self.counter(device).fetch_add(1, Ordering::Relaxed);
        DiskPlace {
            places: Arc::clone(self),
            device,
        }
    }

    /// How many wait for this file system.
    #[must_use]
    pub(crate) fn taken(&self, device: u64) -> usize {
        self.counter(device).load(Ordering::Relaxed)
    }

    fn counter(&self, device: u64) -> &AtomicUsize {
        // Numbers follow each other; those of disks differ in the upper bits (makedev(3)).
        let mixed = device.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        &self.taken[mixed as usize % COUNTERS]
    }
}

impl Drop for DiskPlace {
    fn drop(&mut self) {
        let counter = self.places.counter(self.device);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

const COUNTERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let places = Arc::new(DiskPlaces::default());
        let held = [places.take(1), places.take(1), places.take(2)];
        assert_eq!(
            (places.taken(1), places.taken(2), places.taken(3)),
            (2, 1, 0)
        );
        drop(held);
        assert_eq!((places.taken(1), places.taken(2)), (0, 0));
    }
}
