//! The names of a page that were released for a peer that does not read: their hashes stay, by
//! which they are found in the directory again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The remains of names that were given back.
#[derive(Debug)]
pub(super) struct Hashes {
    /// In the page's order.
    hashes: Vec<u64>,
    key: RandomState,
}

/// Names that are being found again.
#[derive(Debug)]
pub(super) struct Missing {
    places: HashMap<u64, usize>,
    found: Vec<Vec<u8>>,
    key: RandomState,
}

impl Hashes {
    /// Room for so many, made before the names are read: allocated among them it would keep their
    /// memory in pieces.
    pub(super) fn with_room(entries: usize) -> Self {
        Self {
            hashes: Vec::with_capacity(entries),
            key: RandomState::new(),
        }
    }

    pub(super) fn keep<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        self.hashes.clear();
        self.hashes
            .extend(names.map(|name| self.key.hash_one(name)));
    }

    pub(super) fn find(&self) -> Missing {
        let places = self.hashes.iter().copied().zip(0..);
        Missing {
            places: places.collect(),
            found: vec![Vec::new(); self.hashes.len()],
            key: self.key.clone(),
        }
    }
}

impl Missing {
    /// Takes a name of the directory if it is one of these.
    pub(super) fn offer(&mut self, name: Vec<u8>) {
        if let Some(place) = self.places.remove(&self.key.hash_one(name.as_slice())) {
            self.found[place] = name;
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.places.is_empty()
    }

    /// The found names; the others were removed since.
    pub(super) fn into_names(mut self) -> Vec<Vec<u8>> {
        self.found.retain(|name| !name.is_empty());
        self.found
    }
}
