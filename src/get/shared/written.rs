//! The files that a run has written, by device and inode: two names of a server may lead to one
//! file, on a case-insensitive file system or through a link.

use std::collections::HashMap;
use std::fs::Metadata;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crate::get::source::Source;

/// The files that were written, or found to be the server's.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Hashes of identities and sources: a million files have to fit into memory.
    files: Mutex<HashMap<u64, u64>>,
    hashes: RandomState,
}

/// The source that a file was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// No file of this run.
    Nobody,
    /// The same source's.
    Same,
    /// Another source's.
    Other,
}

impl Written {
    /// The file is `source`'s.
    pub(crate) fn add(&self, file: &Metadata, source: &Source) {
        let (file, source) = (self.identity(file), self.source(source));
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(file, source);
    }

    /// The source that `file` was written for, compared with `source`.
    pub(crate) fn owner(&self, file: &Metadata, source: &Source) -> Owner {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(&self.identity(file)) {
            None => Owner::Nobody,
            Some(&owner) if owner == self.source(source) => Owner::Same,
            Some(_) => Owner::Other,
        }
    }

    fn identity(&self, file: &Metadata) -> u64 {
        self.hashes.hash_one((file.dev(), file.ino()))
    }

    fn source(&self, source: &Source) -> u64 {
        self.hashes.hash_one(source.to_string())
    }
}
