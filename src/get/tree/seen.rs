//! The findings of a run's walks, so that each file and directory is found once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::get::error::{ErrorKind, GetError};
use crate::get::source::HttpUrl;

/// Hashes of names and addresses: a million of them have to fit into memory.
#[derive(Default)]
pub(super) struct Seen {
    hashes: RandomState,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The local paths that are taken, each with the address that took it.
    paths: HashMap<u64, u64>,
    /// The identities of directories that were found.
    identities: HashSet<u64>,
    /// The addresses of directories that were listed.
    addresses: HashSet<u64>,
    directories: usize,
}

/// Whether an address was found before.
pub(super) enum Taken {
    First,
    Again,
}

impl Seen {
    /// Counts a directory; returns how many there are.
    pub(super) fn count_directory(&self) -> usize {
        let mut found = self.found();
        found.directories += 1;
        found.directories
    }

    /// The directories that were counted.
    pub(super) fn directories(&self) -> usize {
        self.found().directories
    }

    /// A directory was listed under this address.
    pub(super) fn note_listed(&self, url: &HttpUrl) {
        let address = self.address(url);
        self.found().addresses.insert(address);
    }

    pub(super) fn was_listed(&self, url: &HttpUrl) -> bool {
        let address = self.address(url);
        self.found().addresses.contains(&address)
    }

    /// Whether no directory of this identity was found on the server before.
    pub(super) fn is_first(&self, url: &HttpUrl, identity: &str) -> bool {
        let identity = self.hash(&(url.url().origin(), identity));
        self.found().identities.insert(identity)
    }

    /// Takes a local path for an address.
    ///
    /// # Errors
    /// Another address has it.
    pub(super) fn take(&self, path: &Path, url: &HttpUrl) -> Result<Taken, GetError> {
        let address = self.address(url);
        match self.found().paths.entry(self.hash(path)) {
            Entry::Vacant(free) => {
                free.insert(address);
                Ok(Taken::First)
            }
            Entry::Occupied(taken) if *taken.get() == address => Ok(Taken::Again),
            Entry::Occupied(_) => {
                let path = path.display();
                let text = format!("{url}: another name of the server is {path} here: left out");
                Err(GetError::new(ErrorKind::LocalFile, text))
            }
        }
    }

    pub(super) fn hash<T: Hash + ?Sized>(&self, value: &T) -> u64 {
        self.hashes.hash_one(value)
    }

    fn address(&self, url: &HttpUrl) -> u64 {
        let components: Vec<_> = url.components().collect();
        self.hash(&(url.url().origin(), components))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
