//! Which extents of a file were found in memory a moment ago, so that of many readers of one file
//! one asks for all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last extents of one file that were found in memory, and when.
#[derive(Debug)]
pub struct ResidencyCache {
    since: Instant,
    /// Each an extent's number and a time: see [`ResidencyCache::pack`]. Zero is none.
    slots: [AtomicU64; SLOTS],
}

impl Default for ResidencyCache {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            slots: Default::default(),
        }
    }
}

impl ResidencyCache {
    /// Notes that all of an extent was found in memory.
    pub fn note(&self, extent: u64, now: Instant) {
        if let Some(slot) = self.slot(extent) {
            slot.store(self.pack(extent, now), Ordering::Relaxed);
        }
    }

    /// Whether the extent was found in memory so lately that it is there still.
    #[must_use]
    pub fn is_fresh(&self, extent: u64, now: Instant) -> bool {
        let Some(slot) = self.slot(extent) else {
            return false;
        };
        let (seen, now) = (slot.load(Ordering::Relaxed), self.pack(extent, now));
        seen != 0 && seen >> TIME_BITS == now >> TIME_BITS && {
            let age = (now & TIME_MASK).saturating_sub(seen & TIME_MASK);
            age <= FRESH.as_millis() as u64
        }
    }

    /// Forgets all: what was found is being taken out of memory.
    pub fn forget(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }

    fn slot(&self, extent: u64) -> Option<&AtomicU64> {
        // Beyond 2^24 extents, which is 32 TiB, nothing is noted.
        (extent < 1 << (u64::BITS - TIME_BITS)).then(|| &self.slots[extent as usize % SLOTS])
    }

    /// The extent's number above, the milliseconds since `since` below; never zero.
    fn pack(&self, extent: u64, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.since).as_millis() as u64;
        extent << TIME_BITS | (millis + 1).min(TIME_MASK)
    }
}

/// How long what was seen is taken to be true. Pages that were just used are the last to go.
const FRESH: Duration = Duration::from_millis(100);
/// A file has many readers at few places, or is small.
const SLOTS: usize = 8;
/// Milliseconds for 34 years.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_is_of_one_extent_and_grows_old() {
        let sightings = ResidencyCache::default();
        let now = Instant::now();
        assert!(!sightings.is_fresh(0, now));
        for extent in [0, 5, 1 << 20] {
            sightings.note(extent, now);
            assert!(sightings.is_fresh(extent, now + FRESH));
            assert!(!sightings.is_fresh(extent, now + 2 * FRESH));
            assert!(!sightings.is_fresh(extent + SLOTS as u64, now));
        }
        sightings.note(1, now + 2 * FRESH);
        assert!(
            sightings.is_fresh(1, now),
            "clocks of two threads may differ"
        );
        sightings.forget();
        assert!(!sightings.is_fresh(1, now + 2 * FRESH));
    }

    #[test]
    fn what_lies_beyond_the_numbers_is_never_fresh() {
        let sightings = ResidencyCache::default();
        let now = Instant::now();
        sightings.note(u64::MAX, now);
        assert!(!sightings.is_fresh(u64::MAX, now));
        sightings.note((1 << 24) - 1, now);
        assert!(sightings.is_fresh((1 << 24) - 1, now));
    }
}
