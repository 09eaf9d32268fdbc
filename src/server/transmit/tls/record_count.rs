//! The number of records that a key has sealed, so that it never seals more than it may.

use crate::server::files::extent::EXTENT_BYTES;
use crate::tls::session::RECORD_BYTES;

/// Upper bound of the records sealed with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordCount {
    limit: u64,
    most: u64,
}

impl RecordCount {
    /// A key that has sealed `sealed` records, and may seal `limit`.
    pub(super) fn new(limit: u64, sealed: u64) -> Self {
        Self {
            limit: limit.saturating_sub(RESERVE),
            most: sealed,
        }
    }

    /// Replaces the bound by the kernel's number.
    pub(super) fn correct(&mut self, sealed: u64) {
        self.most = sealed;
    }

    /// Counts the records that `len` bytes may become. `false` means that the key may not seal so
    /// many, and none were counted.
    pub(super) fn admit(&mut self, len: u64) -> bool {
        let most = self.most.saturating_add(most_records(len));
        let is_within = most <= self.limit;
        if is_within {
            self.most = most;
        }
        is_within
    }
}

/// Whether a key that has sealed `sealed` records of `limit` most likely suffices for a body of
/// `len` bytes. A quarter more than full records allows for calls that end within one.
pub(super) fn fits(len: u64, sealed: u64, limit: u64) -> bool {
    let full = len.div_ceil(RECORD_BYTES as u64);
    let spare = most_records(len.min(MOST_AT_ONCE)) + 2 * RESERVE;
    let likely = full.saturating_add(full / 4).saturating_add(spare);
    sealed.saturating_add(likely) <= limit
}

/// The most records that one call makes of `len` bytes: each page of a file may be one.
fn most_records(len: u64) -> u64 {
    len.div_ceil(LEAST_PAGE) + 1
}

/// The smallest page of any processor.
const LEAST_PAGE: u64 = 4 << 10;

/// Most bytes of one call.
const MOST_AT_ONCE: u64 = EXTENT_BYTES;

/// Records kept for alerts and key updates.
const RESERVE: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const AES_GCM: u64 = 1 << 24;

    #[test]
    fn a_key_is_never_used_beyond_its_limit() {
        let mut count = RecordCount::new(RESERVE + 100, 10);
        let mut admitted = 0;
        while count.admit(LEAST_PAGE) {
            admitted += 2;
        }
        assert_eq!(admitted, 90);
        assert!(!count.admit(1), "not even one more");
        // The records were fuller than the bound.
        count.correct(40);
        assert!(count.admit(59 * LEAST_PAGE));
        assert!(!count.admit(0));
    }

    #[test]
    fn a_refused_piece_is_not_counted() {
        let mut count = RecordCount::new(RESERVE + 10, 0);
        assert!(!count.admit(1 << 30));
        assert!(count.admit(9 * LEAST_PAGE));
    }

    #[test]
    fn a_body_that_fits_is_admitted_to_its_last_piece() {
        let len = 300 << 10;
        let limit = 4096;
        let sealed = (0..limit).rev().find(|&sealed| fits(len, sealed, limit));
        let mut count = RecordCount::new(limit, sealed.expect("it fits somewhere"));
        assert!(count.admit(len));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut count = RecordCount::new(u64::MAX, u64::MAX - RESERVE - 2);
        assert!(count.admit(1));
        assert!(!count.admit(1), "but the count does not overflow");
        assert!(fits(300 << 30, 0, u64::MAX));
    }

    #[test]
    fn a_body_that_needs_more_than_one_key_does_not_fit() {
        assert!(fits(200 << 30, 0, AES_GCM));
        assert!(!fits(210 << 30, 0, AES_GCM));
        assert!(!fits(300 << 30, 0, AES_GCM));
        assert!(!fits(200 << 30, AES_GCM / 2, AES_GCM));
        assert!(!fits(0, AES_GCM, AES_GCM));
        assert!(!fits(u64::MAX, u64::MAX, u64::MAX - 1));
    }
}
