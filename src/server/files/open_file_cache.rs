//! A worker's own cache of looked-up files, so that a file asked for again and again is opened
//! once a second.
//!
//! An entry is checked by fstat(2) before it is used: a file that was written, truncated, renamed
//! over or removed (its link count and with it its ctime change) is looked up anew at once. One
//! check serves all requests that had come before it. What the check cannot see, a renamed parent
//! directory or a link pointed elsewhere, shows after at most [`TRUST`].

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::files::open_file::OpenFile;
use crate::sys::resources;

/// The cache; one a worker, so it needs no lock.
#[derive(Debug)]
pub struct OpenFileCache {
    files: HashMap<Vec<u8>, Entry>,
    /// Files that are kept open at the most, beyond those being sent.
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    file: Arc<OpenFile>,
    looked_up: Instant,
    /// When the last request that it was checked for had come; the check was made after that.
    checked_for: Option<Instant>,
}

impl OpenFileCache {
    /// The names of one of so many workers, which together keep no more than a quarter of the
    /// files open that the process may have open.
    #[must_use]
    pub fn of_one_of(workers: NonZeroUsize) -> Self {
        let share = resources::open_files() / 4 / workers.get() as u64;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        Self {
            files: HashMap::new(),
            capacity: share.clamp(1, MOST_FILES),
        }
    }

    /// The file of that name for a request that had come, at least in part, at `now`: if the file
    /// was looked up a moment ago, and was since then found to be what it was.
    #[must_use]
    pub fn find(&mut self, path: &[u8], now: Instant) -> Option<Arc<OpenFile>> {
        let entry = self.files.get_mut(path)?;
        let fresh = now.saturating_duration_since(entry.looked_up) < TRUST;
        let is_checked = entry.checked_for.is_some_and(|at| at >= now);
        if fresh && (is_checked || entry.file.is_unchanged().unwrap_or(false)) {
            entry.checked_for = entry.checked_for.max(Some(now));
            return Some(Arc::clone(&entry.file));
        }
        self.files.remove(path);
        None
    }

    /// Remembers a file that was just looked up. Those that may wait for a network are not kept:
    /// checking them would wait as well.
    pub fn remember(&mut self, path: &[u8], file: &Arc<OpenFile>, now: Instant) {
        if file.file_system.is_remote() {
            return;
        }
        if self.files.len() >= self.capacity {
            self.forget_old(now);
            if self.files.len() >= self.capacity {
                self.forget_all();
            }
        }
        self.files.insert(
            path.to_vec(),
            Entry {
                file: Arc::clone(file),
                looked_up: now,
                checked_for: None,
            },
        );
    }

    /// Closes what was not looked up lately.
    pub fn forget_old(&mut self, now: Instant) {
        self.files
            .retain(|_, entry| now.saturating_duration_since(entry.looked_up) < TRUST);
    }

    /// Closes all that is not being sent.
    pub fn forget_all(&mut self) {
        self.files.clear();
    }

    /// Whether there is anything to forget.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// How long a look-up is trusted.
pub(crate) const TRUST: Duration = Duration::from_secs(1);

/// More than a worker is asked for again and again.
const MOST_FILES: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::http::Target;
    use crate::server::files::{Found, LookUp, Root, Shown};
    use crate::sys::file::Patience;

    /// A file that was just looked up, and where it is.
    fn looked_up() -> (tempfile::TempDir, PathBuf, Arc<OpenFile>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        fs::write(&path, "content").expect("written");
        let (closer, _) = crossbeam_channel::unbounded();
        let root = Root::open(directory.path(), Shown::Visible, closer).expect("a root");
        let target = Target::from_path(b"f").expect("a fine name");
        match root.look_up(&target, Patience::Wait) {
            LookUp::Found(Found::File(file)) => (directory, path, file),
            other => panic!("it is there, and not {other:?}"),
        }
    }

    #[test]
    fn one_check_serves_the_requests_that_had_come_before_it_and_no_others() {
        let (_directory, path, file) = looked_up();
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        let early = Instant::now();
        names.remember(b"f", &file, early);
        let late = early + Duration::from_millis(1);
        assert!(names.find(b"f", early).is_some());
        assert!(names.find(b"f", late).is_some());
        fs::remove_file(&path).expect("removed");
        assert!(names.find(b"f", early).is_some());
        assert!(names.find(b"f", late).is_some());
        assert!(names.find(b"f", late + Duration::from_nanos(1)).is_none());
    }

    #[test]
    fn what_was_looked_up_before_a_request_came_is_checked_for_it() {
        let (_directory, path, file) = looked_up();
        fs::remove_file(&path).expect("removed");
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        let now = Instant::now();
        names.remember(b"f", &file, now);
        assert!(names.find(b"f", now).is_none());
    }
}
