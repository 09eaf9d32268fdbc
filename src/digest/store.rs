//! The store of digests: kept on disk where it can be, else in a bounded piece of memory.
//!
//! A lost store costs time, never truth: each entry is keyed by the identity of the file. So no
//! fault of it is an error for its users: a damaged file, or one of another version, is made anew;
//! one that cannot be opened leaves the store in memory. A [`Notice`] reports it.

mod disk;
mod entry;
mod memory;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::blocks::BlockList;
use crate::digest::hasher::Digests;
use crate::digest::identity::Identity;
use crate::digest::store::disk::{Disk, OpenError};
use crate::digest::store::memory::Memory;

/// Digests by file, shared by threads. Every method may wait for the disk.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    disk: Option<Disk>,
    /// Digests that the disk does not take.
    memory: Memory,
}

/// A problem of the store, for the operator.
#[derive(Debug)]
pub(crate) enum Notice {
    /// No state directory is given.
    NoDirectory,
    /// Another process has it.
    InUse(PathBuf),
    /// The store cannot be opened, or is not safe to use.
    Unusable(PathBuf, io::Error),
    /// The store was damaged or of another version, and was replaced by an empty one.
    MadeAnew(PathBuf, String),
    /// The store takes nothing more.
    Failed(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = "digests are kept in memory only";
        match self {
            Self::NoDirectory => write!(f, "there is no state directory (--state): {kept}"),
            Self::InUse(path) => {
                write!(f, "{} is in use by another process: {kept}", path.display())
            }
            Self::Unusable(path, error) => {
                write!(f, "cannot use {}: {error}; {kept}", path.display())
            }
            Self::MadeAnew(path, why) => {
                write!(f, "{} was made anew: {why}", path.display())
            }
            Self::Failed(why) => write!(f, "the store of digests failed: {why}; {kept}"),
        }
    }
}

impl Store {
    /// Opens the store in a state directory, which is made if it is not there.
    pub(crate) fn open(directory: Option<&Path>) -> (Self, Option<Notice>) {
        let (disk, notice) = match directory {
            None => (None, Some(Notice::NoDirectory)),
            Some(directory) => open_in(directory),
        };
        let memory = Memory::default();
        let state = Mutex::new(State { disk, memory });
        (Self { state }, notice)
    }

    /// The known digests of this content.
    pub(crate) fn get(&self, identity: &Identity) -> Digests {
        let mut state = self.state();
        let kept = state.memory.get(identity);
        let found = state.on_disk(|disk| disk.get(identity)).0;
        kept.and(found.flatten().unwrap_or_default())
    }

    /// The block list of this content.
    pub(crate) fn blocks(&self, identity: &Identity) -> Option<BlockList> {
        let mut state = self.state();
        if let Some(list) = state.memory.blocks(identity) {
            return Some(list);
        }
        state.on_disk(|disk| disk.blocks(identity)).0.flatten()
    }

    /// Stores digests, beside known ones of the same content. A crash may lose the last seconds.
    /// The first time that they stay in memory only, a notice is returned.
    pub(crate) fn put(
        &self,
        identity: &Identity,
        digests: Digests,
        list: Option<BlockList>,
    ) -> Option<Notice> {
        let mut state = self.state();
        let (put, notice) = state.on_disk(|disk| disk.put(identity, digests, list.as_ref()));
        if put.is_none() {
            state.memory.put(identity, digests, list);
        }
        notice
    }

    /// Puts everything on disk, and lets another process have the file.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        // A digest that could not be written is computed again.
        let _ = state.on_disk(Disk::flush);
        state.disk = None;
    }

    /// Writes digests to disk whose time it is; returns the time until that of others, if any.
    pub(crate) fn flush_due(&self) -> (Option<Duration>, Option<Notice>) {
        let (rest, notice) = self.state().on_disk(Disk::flush_due);
        (rest.flatten(), notice)
    }

    /// Writes all digests to disk.
    pub(crate) fn flush(&self) -> Option<Notice> {
        self.state().on_disk(Disk::flush).1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Runs an operation on disk; one that fails is the last one.
    fn on_disk<T>(
        &mut self,
        operation: impl FnOnce(&mut Disk) -> Result<T, String>,
    ) -> (Option<T>, Option<Notice>) {
        let Some(disk) = &mut self.disk else {
            return (None, None);
        };
        match disk::guarded(|| operation(disk)) {
            Ok(done) => (Some(done), None),
            Err(why) => {
                self.disk = None;
                (None, Some(Notice::Failed(why)))
            }
        }
    }
}

fn open_in(directory: &Path) -> (Option<Disk>, Option<Notice>) {
    let path = directory.join(FILE_NAME);
    match Disk::open(directory, &path) {
        Ok(disk) => (Some(disk), None),
        Err(OpenError::InUse) => (None, Some(Notice::InUse(path))),
        Err(OpenError::Io(error)) => (None, Some(Notice::Unusable(path, error))),
        Err(OpenError::Damaged(why)) => match Disk::make_anew(directory, &path) {
            Ok(disk) => (Some(disk), Some(Notice::MadeAnew(path, why))),
            Err(OpenError::InUse) => (None, Some(Notice::InUse(path))),
            Err(OpenError::Io(error)) => (None, Some(Notice::Unusable(path, error))),
            Err(OpenError::Damaged(why)) => {
                let error = io::Error::other(why);
                (None, Some(Notice::Unusable(path, error)))
            }
        },
    }
}

/// The store's file in the state directory.
const FILE_NAME: &str = "digests.redb";

#[cfg(test)]
mod tests;
