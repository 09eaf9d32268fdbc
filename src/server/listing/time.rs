//! Times of entries in words, for all forms of a listing.

use crate::http::Timestamp;

/// `2026-11-25T15:00:19.123456789Z`.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    jiff::Timestamp::new(time.seconds, nanoseconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

/// `2026-11-25 15:00`, of a time by [`rfc3339`].
pub(super) fn minute(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}
