//! What a file system says of a file, as plain data.

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

/// What `fstat` says of a regular file. Two equal values are taken for the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The device that holds the file (`st_dev`).
    pub device: u64,
    /// The file's inode number (`st_ino`).
    pub inode: u64,
    /// Names that lead to the file (`st_nlink`).
    pub links: u64,
    /// Length in bytes (`st_size`).
    pub len: u64,
    /// Last change of the content (`st_mtim`).
    pub modified: Timestamp,
    /// Last change of content or inode (`st_ctim`).
    pub changed: Timestamp,
}
