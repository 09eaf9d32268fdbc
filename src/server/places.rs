//! Places in the disk lane: how many connections wait for each file system, so that one that hangs
//! never holds all there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// The connections in the disk lane, by the file system they wait for (`st_dev`).
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<u64, usize>>,
}

/// A connection's place. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    device: u64,
}

impl Places {
    /// Takes a place, however many are taken.
    pub(crate) fn take(self: &Arc<Self>, device: u64) -> Place {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken.entry(device).or_default() += 1;
        Place {
            places: Arc::clone(self),
            device,
        }
    }

    /// How many wait for this file system.
    #[must_use]
    pub(crate) fn taken(&self, device: u64) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&device).copied().unwrap_or(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = (self.places.taken.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut of_device) = taken.entry(self.device) {
            *of_device.get_mut() -= 1;
            if *of_device.get() == 0 {
                of_device.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let places = Arc::new(Places::default());
        let held = [places.take(1), places.take(1), places.take(2)];
        assert_eq!(
            (places.taken(1), places.taken(2), places.taken(3)),
            (2, 1, 0)
        );
        drop(held);
        assert_eq!((places.taken(1), places.taken(2)), (0, 0));
        assert!(places.taken.lock().expect("no panic").is_empty());
    }
}
