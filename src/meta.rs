//! Metadata of files, as plain data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time as a file system gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let nanoseconds = Duration::from_nanos(u64::from(timestamp.nanoseconds));
        let whole = Duration::from_secs(timestamp.seconds.unsigned_abs());
        let at = if timestamp.seconds < 0 {
            UNIX_EPOCH.checked_sub(whole)
        } else {
            UNIX_EPOCH.checked_add(whole)
        };
        at.and_then(|at| at.checked_add(nanoseconds))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// Metadata of a regular file, from `fstat`. Two equal values are taken for the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The device that holds the file (`st_dev`).
    pub device: u64,
    /// The file's inode number (`st_ino`).
    pub inode: u64,
    /// The number of names of the file (`st_nlink`).
    pub links: u64,
    /// Length in bytes (`st_size`).
    pub len: u64,
    /// Last change of the content (`st_mtim`).
    pub modified: Timestamp,
    /// Last change of content or inode (`st_ctim`).
    pub changed: Timestamp,
}

impl Meta {
    /// Whether a change from `now` on would show in the time stamps, as read from the clock that
    /// stamps files. An mtime in the future proves nothing: a program has set it.
    pub(crate) fn has_settled(&self, now: Timestamp) -> bool {
        let last = self.last_change(now);
        match self.changed.nanoseconds {
            0 => last.seconds + WHOLE_SECONDS <= now.seconds,
            _ => last < now,
        }
    }

    /// Whether it has not settled and will within the next tick of the clock.
    pub(crate) fn is_young(&self, now: Timestamp) -> bool {
        let is_near = self.last_change(now).seconds <= now.seconds + 1;
        self.changed.nanoseconds > 0 && is_near && !self.has_settled(now)
    }

    fn last_change(&self, now: Timestamp) -> Timestamp {
        match self.modified <= now {
            true => self.changed.max(self.modified),
            false => self.changed,
        }
    }
}

/// File systems without fractions of a second keep whole ones (ext3, HFS+) or even ones (FAT).
const WHOLE_SECONDS: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp {
            seconds,
            nanoseconds,
        }
    }

    #[test]
    fn a_file_has_settled_once_its_clock_has_gone_on() {
        let meta = |modified, changed| Meta {
            modified,
            changed,
            ..Meta::default()
        };
        for (modified, changed, has_settled) in [
            (at(99, 5), at(99, 5), true),
            (at(100, 7), at(100, 7), true),
            (at(100, 8), at(100, 8), false),
            (at(50, 0), at(100, 8), false),
            (at(100, 8), at(50, 1), false),
            // In the future: a program has set the mtime at any rate.
            (at(900, 0), at(50, 1), true),
            (at(900, 0), at(900, 1), false),
            // No fractions.
            (at(98, 0), at(98, 0), true),
            (at(99, 0), at(99, 0), false),
        ] {
            let meta = meta(modified, changed);
            assert_eq!(meta.has_settled(at(100, 8)), has_settled, "{meta:?}");
        }
        let stamp = at(100, 8);
        assert!(meta(stamp, stamp).is_young(stamp));
        assert!(!meta(stamp, at(900, 1)).is_young(stamp));
        assert!(!meta(at(99, 0), at(99, 0)).is_young(stamp));
    }
}
