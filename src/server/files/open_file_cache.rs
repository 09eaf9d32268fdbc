//! A worker's cache of looked-up files: a file that is requested again and again is not opened each
//! time.
//!
//! An entry is checked by fstat(2) before it is used: a file that was written, truncated, replaced
//! or removed (its link count and with it its ctime change) is looked up anew. One check serves all
//! requests that had arrived before it. A renamed parent directory or a changed link escapes the
//! check, for at most [`VALID_FOR`]. On an overlay, where an open file shows less and an open may
//! wait, the check is a look-up.

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
    used: Instant,
    /// The arrival of the last request that the entry was checked for; the check was made after
    /// that.
    checked_for: Option<Instant>,
}

impl OpenFileCache {
    /// The cache of one of so many workers, which together keep at most a quarter of the process'
    /// descriptors.
    #[must_use]
    pub fn of_one_of(workers: NonZeroUsize) -> Self {
        let share = resources::open_files() / 4 / workers.get() as u64;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        Self {
            files: HashMap::new(),
            capacity: share.clamp(1, MAX_FILES),
        }
    }

    /// The file of that name for a request that arrived, at least in part, at `now`: if `check`,
    /// which gets the age of the look-up, finds it unchanged.
    #[must_use]
    pub fn find(
        &mut self,
        path: &[u8],
        now: Instant,
        check: impl FnOnce(&OpenFile, Age) -> bool,
    ) -> Option<Arc<OpenFile>> {
        let entry = self.files.get_mut(path)?;
        let age = match now.saturating_duration_since(entry.looked_up) < VALID_FOR {
            true => Age::Fresh,
            false => Age::Old,
        };
        let is_checked = age == Age::Fresh && entry.checked_for.is_some_and(|at| at >= now);
        if is_checked || check(&entry.file, age) {
            if age == Age::Old {
                entry.looked_up = now;
            }
            entry.used = entry.used.max(now);
            entry.checked_for = entry.checked_for.max(Some(now));
            return Some(Arc::clone(&entry.file));
        }
        self.files.remove(path);
        None
    }

    /// Remembers a file that was just looked up. Files on file systems that may wait for a network
    /// are not kept: checking them would wait as well.
    pub fn remember(&mut self, path: &[u8], file: &Arc<OpenFile>, now: Instant) {
        if file.file_system.is_remote() {
            return;
        }
        if self.files.len() >= self.capacity && !self.files.contains_key(path) {
            let oldest = self.files.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                self.files.remove(&oldest);
            }
        }
        self.files.insert(
            path.to_vec(),
            Entry {
                file: Arc::clone(file),
                looked_up: now,
                used: now,
                checked_for: None,
            },
        );
    }

    /// Closes files without recent use.
    pub fn forget_old(&mut self, now: Instant) {
        self.files
            .retain(|_, entry| now.saturating_duration_since(entry.used) < VALID_FOR);
    }

    /// Closes all that is not being sent.
    pub fn forget_all(&mut self) {
        self.files.clear();
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// How old a look-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Less than [`VALID_FOR`].
    Fresh,
    /// More.
    Old,
}

/// How long a look-up is valid.
pub(crate) const VALID_FOR: Duration = Duration::from_secs(1);

/// More files than a worker serves again and again.
const MAX_FILES: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::http::Target;
    use crate::http::policy::DotNames;
    use crate::server::files::{Found, LookUp, Root};
    use crate::sys::file::Blocking;

    /// A file that was just looked up, and where it is.
    fn looked_up() -> (tempfile::TempDir, PathBuf, Arc<OpenFile>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        fs::write(&path, "content").expect("written");
        let (closer, _) = crossbeam_channel::unbounded();
        let root = Root::open(directory.path(), &[], DotNames::Hidden, closer).expect("a root");
        let target = Target::from_path(b"f").expect("a fine name");
        match root.look_up(&target, Blocking::Allowed) {
            LookUp::Found(Found::File(file)) => (directory, path, file),
            other => panic!("it is there, and not {other:?}"),
        }
    }

    fn is_unchanged(file: &OpenFile, age: Age) -> bool {
        age == Age::Fresh && file.is_unchanged().unwrap_or(false)
    }

    #[test]
    fn the_file_that_was_used_the_longest_time_ago_makes_room() {
        let (_directory, _, file) = looked_up();
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        names.capacity = 3;
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        for (millis, name) in (0..).zip([b"a", b"b", b"c"]) {
            names.remember(name, &file, at(millis));
        }
        assert!(names.find(b"a", at(3), |_, _| true).is_some());
        names.remember(b"d", &file, at(4));
        names.remember(b"d", &file, at(5));
        let kept = |name: &[u8]| names.files.contains_key(name);
        assert_eq!(
            [b"a", b"b", b"c", b"d"].map(|name| kept(name)),
            [true, false, true, true]
        );
    }

    #[test]
    fn an_old_entry_that_is_confirmed_is_as_good_as_new() {
        let (_directory, _, file) = looked_up();
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        let begun = Instant::now();
        names.remember(b"f", &file, begun);
        let mut ages = Vec::new();
        for tenths in [5, 14, 20, 29] {
            let now = begun + VALID_FOR * tenths / 10;
            names.forget_old(now);
            let found = names.find(b"f", now, |_, age| {
                ages.push(age);
                true
            });
            assert!(found.is_some());
        }
        assert_eq!(ages, [Age::Fresh, Age::Old, Age::Fresh, Age::Old]);
    }

    #[test]
    fn one_check_serves_the_requests_that_had_come_before_it_and_no_others() {
        let (_directory, path, file) = looked_up();
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        let early = Instant::now();
        names.remember(b"f", &file, early);
        let late = early + Duration::from_millis(1);
        assert!(names.find(b"f", early, is_unchanged).is_some());
        assert!(names.find(b"f", late, is_unchanged).is_some());
        fs::remove_file(&path).expect("removed");
        assert!(names.find(b"f", early, is_unchanged).is_some());
        assert!(names.find(b"f", late, is_unchanged).is_some());
        assert!(
            names
                .find(b"f", late + Duration::from_nanos(1), is_unchanged)
                .is_none()
        );
    }

    #[test]
    fn what_was_looked_up_before_a_request_came_is_checked_for_it() {
        let (_directory, path, file) = looked_up();
        fs::remove_file(&path).expect("removed");
        let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
        let now = Instant::now();
        names.remember(b"f", &file, now);
        assert!(names.find(b"f", now, is_unchanged).is_none());
    }
}
