//! The scans under way, by their keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::kept::{KeptResults, ScanKey};
use super::shared_scan::SharedScan;
use crate::server::telemetry::Counters;

/// The scans of directories that connections share.
///
/// Only pages share a scan. A listing for programs is sent while the directory is read, and keeps
/// no names: shared, it would run at the pace of its slowest reader, or keep a million names in
/// memory for it.
#[derive(Debug)]
pub(crate) struct ScanRegistry {
    scans: Mutex<HashMap<Arc<ScanKey>, Weak<SharedScan>>>,
    kept: Arc<KeptResults>,
    counters: Arc<Counters>,
}

impl ScanRegistry {
    /// No scans yet.
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            scans: Mutex::default(),
            kept: Arc::default(),
            counters,
        }
    }

    /// The scan under this key, shared by its current users; a separate one for a page without a
    /// key.
    pub(super) fn join(&self, key: Option<&Arc<ScanKey>>) -> Arc<SharedScan> {
        let Some(key) = key else {
            return Arc::new(SharedScan::new(None, Arc::clone(&self.counters)));
        };
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = scans.get(key).and_then(Weak::upgrade) {
            Counters::add_one(&self.counters.listings_shared);
            return scan;
        }
        let kept = (Arc::clone(&self.kept), Arc::clone(key));
        let scan = Arc::new(SharedScan::new(Some(kept), Arc::clone(&self.counters)));
        scans.insert(Arc::clone(key), Arc::downgrade(&scan));
        scan
    }

    /// Counts a scan that is not shared.
    pub(crate) fn count_own(&self) {
        Counters::add_one(&self.counters.listing_scans);
    }

    /// Drops results that no request has used lately.
    pub(crate) fn forget_old(&self) {
        self.kept.forget_old();
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        scans.retain(|_, scan| scan.strong_count() > 0);
        if scans.capacity() > 4 * scans.len() + FEW_SCANS {
            scans.shrink_to_fit();
        }
    }
}

/// Below this size the map is left as it is.
const FEW_SCANS: usize = 64;
