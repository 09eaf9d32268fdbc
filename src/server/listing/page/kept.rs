//! Results of scans that are kept for a moment: most often the next request is for the same page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::result::ScanResult;
use crate::http::{SortKey, SortOrder};
use crate::server::access::Grant;

/// All that decides which entries a page shows, but for what the directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ScanKey {
    /// `st_dev` and `st_ino`.
    pub(super) directory: (u64, u64),
    /// From the root: path and grant decide which names are shown and where links may lead.
    pub(super) path: Box<[u8]>,
    pub(super) grant: Grant,
    pub(super) sort: SortKey,
    pub(super) order: SortOrder,
    pub(super) after: Option<Box<[u8]>>,
    pub(super) filter: Option<Box<[u8]>>,
}

/// The results that are kept, the oldest first.
#[derive(Debug, Default)]
pub(super) struct KeptResults(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    key: Arc<ScanKey>,
    result: Arc<ScanResult>,
    bytes: usize,
    since: Instant,
}

impl KeptResults {
    /// Keeps a result, unless it is large, and drops older ones.
    pub(super) fn keep(&self, key: &Arc<ScanKey>, result: &Arc<ScanResult>) {
        let bytes = result.bytes();
        if bytes > MAX_BYTES / 4 {
            return;
        }
        self.with(|kept| {
            kept.retain(|it| it.key != *key);
            kept.push_back(Kept {
                key: Arc::clone(key),
                result: Arc::clone(result),
                bytes,
                since: Instant::now(),
            });
            let mut in_all: usize = kept.iter().map(|it| it.bytes).sum();
            while kept.len() > MAX_RESULTS || in_all > MAX_BYTES {
                in_all -= kept.pop_front().map_or(in_all, |it| it.bytes);
            }
        });
    }

    pub(super) fn find(&self, key: &ScanKey) -> Option<Arc<ScanResult>> {
        self.with(|kept| {
            let found = kept.iter().find(|it| *it.key == *key);
            found.map(|it| Arc::clone(&it.result))
        })
    }

    pub(super) fn forget_old(&self) {
        self.with(|kept| kept.retain(|it| it.since.elapsed() < KEPT_FOR));
    }

    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Kept>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes of all kept results together: a dozen pages of 1,000 long names.
const MAX_BYTES: usize = 4 << 20;

/// Looking through so many keys takes next to nothing.
const MAX_RESULTS: usize = 64;

/// Nothing becomes untrue by age: a result is compared with the directory each time.
const KEPT_FOR: Duration = Duration::from_secs(1);
