//! The names of a run's files, kept apart from those of part files: a tree may hold NAME and
//! NAME.part, and files come at once and in any order.
//!
//! The second to come gives way. A NAME.part waits while NAME has its part file there; the part file
//! of a NAME that comes later has its other name, which no file from a server has.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::get::client::cancellation::{Cancellation, TICK};
use crate::get::error::GetError;
use crate::get::part_file;

/// The names that a run's files have, or will have.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// Names of files and directories that part files could have, too.
    finals: HashSet<OsString>,
    /// The part files of downloads that run.
    parts: Vec<OsString>,
}

/// A file's place, while it is fetched.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    part: Option<OsString>,
}

impl Places {
    /// Takes the place of `target`, once no other download has its part file there. What an earlier
    /// run left there is moved.
    ///
    /// # Errors
    /// LocalFile: what is there cannot be moved. The wait was cancelled.
    pub(crate) fn take(
        &self,
        target: &Path,
        cancellation: &Cancellation,
    ) -> Result<Place<'_>, GetError> {
        loop {
            // A holder waits for nobody, so that no circle of waits is possible.
            if let Some(place) = self.try_take(target)? {
                return Ok(place);
            }
            cancellation.sleep(TICK)?;
        }
    }

    /// Whether the usual name of `target`'s part file is that of another file.
    pub(crate) fn has_part_of(&self, target: &Path) -> bool {
        let part = key(&part_file::part_path(target));
        self.taken().finals.contains(&part)
    }

    /// Takes the names of `target` and its directories, unless a part file has one of them.
    fn try_take(&self, target: &Path) -> Result<Option<Place<'_>>, GetError> {
        let mut taken = self.taken();
        for path in target.ancestors().filter(|it| part_file::is_part_name(it)) {
            let name = key(path);
            if taken.parts.contains(&name) {
                return Ok(None);
            }
            if !taken.finals.contains(&name) {
                part_file::make_way(path)?;
                taken.finals.insert(name);
            }
        }
        let part = key(&part_file::part_path(target));
        let part = (!taken.finals.contains(&part)).then_some(part);
        taken.parts.extend(part.clone());
        Ok(Some(Place { places: self, part }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let own = |part: &OsString| Some(part) == self.part.as_ref();
        if let Some(at) = taken.parts.iter().position(own) {
            taken.parts.swap_remove(at);
        }
    }
}

/// Some file systems know no case.
fn key(path: &Path) -> OsString {
    path.as_os_str().to_ascii_lowercase()
}
