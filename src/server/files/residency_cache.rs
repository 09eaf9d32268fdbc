//! Extents of a file that were in memory as a whole a moment ago: read by a disk worker, found
//! there by a probe of random pages, or sent since then without a wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::files::extent::{EXTENT_BYTES, Extent};

/// The extents of one version of a file that are taken to be in memory.
#[derive(Debug, Default)]
pub(super) struct ResidencyCache {
    /// The part that was there, and when, by the extent's number.
    seen: Mutex<HashMap<u64, (Extent, Instant)>>,
}

impl ResidencyCache {
    /// Notes that all these bytes of one extent were there.
    pub(super) fn note(&self, mut part: Extent, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = part.offset / EXTENT_BYTES;
        if let Some((known, at)) = seen.get(&number)
            && is_fresh(*at, now)
            && known.offset <= part.end()
            && part.offset <= known.end()
        {
            let offset = known.offset.min(part.offset);
            let len = known.end().max(part.end()) - offset;
            part = Extent { offset, len };
        }
        if seen.len() >= MAX_EXTENTS {
            seen.clear();
        }
        seen.insert(number, (part, now));
    }

    /// How long ago all these bytes of one extent were there, if that was lately.
    pub(super) fn age(&self, part: Extent, now: Instant) -> Option<Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, at) = seen.get(&(part.offset / EXTENT_BYTES))?;
        let is_known =
            is_fresh(*at, now) && known.offset <= part.offset && part.end() <= known.end();
        is_known.then(|| now.saturating_duration_since(*at))
    }

    /// Forgets an extent.
    pub(super) fn forget(&self, part: Extent) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&(part.offset / EXTENT_BYTES));
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clear();
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    // The clock readings of two threads may be in either order.
    now.saturating_duration_since(at) < VALID_FOR
}

/// Pages that were resident so lately are not probed again: five reads of a byte each cost a
/// request for 64 KiB a sixth of its processor time.
pub(super) const UNASKED_FOR: Duration = Duration::from_millis(100);

/// Pages that were used are the last to leave memory.
const VALID_FOR: Duration = Duration::from_secs(5);

/// Of 128 GiB, in some MiB of memory.
const MAX_EXTENTS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, len: u64) -> Extent {
        Extent { offset, len }
    }

    #[test]
    fn what_was_seen_is_known_for_a_while_and_its_parts_add_up() {
        let cache = ResidencyCache::default();
        let now = Instant::now();
        cache.note(part(0, 100), now);
        assert!(cache.age(part(10, 90), now + VALID_FOR / 2).is_some());
        assert!(cache.age(part(10, 90), now + VALID_FOR).is_none());
        assert!(cache.age(part(10, 91), now).is_none());
        cache.note(part(100, 50), now);
        assert!(cache.age(part(0, 150), now).is_some());
        cache.note(part(1000, 50), now);
        assert!(cache.age(part(0, 150), now).is_none(), "what lies apart");
        assert!(cache.age(part(1000, 50), now).is_some());
        assert!(cache.age(part(EXTENT_BYTES + 1000, 50), now).is_none());
        cache.forget(part(0, 1));
        assert!(cache.age(part(1000, 50), now).is_none());
    }

    #[test]
    fn what_was_seen_too_long_ago_adds_nothing() {
        let cache = ResidencyCache::default();
        let now = Instant::now();
        cache.note(part(0, 100), now);
        cache.note(part(100, 50), now + VALID_FOR);
        assert!(cache.age(part(0, 150), now + VALID_FOR).is_none());
        cache.clear();
        assert!(cache.age(part(100, 50), now + VALID_FOR).is_none());
    }
}
