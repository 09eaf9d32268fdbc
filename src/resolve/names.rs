//! A worker's own cache of looked-up files, so that a file asked for again and again is opened
//! once a second.
//!
//! An entry is checked by fstat(2) at each use: a file that was written, truncated, renamed over
//! or removed (its link count and with it its ctime change) is looked up anew at once. What the
//! check cannot see, a renamed parent directory or a link pointed elsewhere, shows after at most
//! [`TRUST`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::resolve::OpenFile;

/// The cache; one a worker, so it needs no lock.
#[derive(Debug, Default)]
pub struct Names {
    files: HashMap<Vec<u8>, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: Arc<OpenFile>,
    looked_up: Instant,
}

impl Names {
    /// The file of that name, if it was looked up a moment ago and is what it was then.
    #[must_use]
    pub fn find(&mut self, path: &[u8], now: Instant) -> Option<Arc<OpenFile>> {
        let entry = self.files.get(path)?;
        let fresh = now.saturating_duration_since(entry.looked_up) < TRUST;
        if fresh && entry.file.is_unchanged().unwrap_or(false) {
            return Some(Arc::clone(&entry.file));
        }
        self.files.remove(path);
        None
    }

    /// Remembers a file that was just looked up. Those that may wait for a network are not kept:
    /// checking them would wait as well.
    pub fn remember(&mut self, path: &[u8], file: &Arc<OpenFile>, now: Instant) {
        if file.device.may_wait() {
            return;
        }
        if self.files.len() >= CAPACITY {
            self.forget_old(now);
            if self.files.len() >= CAPACITY {
                self.files.clear();
            }
        }
        self.files.insert(
            path.to_vec(),
            Entry {
                file: Arc::clone(file),
                looked_up: now,
            },
        );
    }

    /// Closes what was not looked up lately.
    pub fn forget_old(&mut self, now: Instant) {
        self.files
            .retain(|_, entry| now.saturating_duration_since(entry.looked_up) < TRUST);
    }

    /// Whether there is anything to forget.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// How long a look-up is trusted.
pub const TRUST: Duration = Duration::from_secs(1);

/// Files a worker keeps open at the most, beyond those being sent.
const CAPACITY: usize = 256;
