//! The names on a page until their rows are written. For a peer that does not read they are given
//! back: their hashes stay, by which they are found in the directory again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::server::listing::order::Ranked;

/// Names in the page's order.
#[derive(Debug)]
pub(super) struct Names(std::vec::IntoIter<Vec<u8>>);

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

impl Names {
    pub(super) fn of(rows: Vec<Ranked>) -> Self {
        let names = rows.into_iter().map(|row| row.item.name);
        // Collected in place they would take the room of the rows.
        let mut own = Vec::with_capacity(names.len());
        own.extend(names);
        Self(own.into_iter())
    }

    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next()
    }

    /// Whether it saves something to give them back.
    pub(super) fn are_large(&self) -> bool {
        let bytes: usize = self
            .0
            .as_slice()
            .iter()
            .map(|name| name.len() + NAME_BYTES)
            .sum();
        bytes > FEW_BYTES
    }
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

    pub(super) fn keep(&mut self, names: &Names) {
        let names = names.0.as_slice().iter();
        self.hashes.clear();
        self.hashes
            .extend(names.map(|name| self.key.hash_one(name.as_slice())));
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

    /// The names that were found; the others have gone since.
    pub(super) fn into_names(mut self) -> Names {
        self.found.retain(|name| !name.is_empty());
        Names(self.found.into_iter())
    }
}

/// So much of names stays for a peer that does not read.
const FEW_BYTES: usize = 8 << 10;

/// Bytes that a name takes besides its own.
const NAME_BYTES: usize = size_of::<Vec<u8>>() + 16;
