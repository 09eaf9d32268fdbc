//! Digests in memory, the oldest of which make room for the newest.

use std::collections::{HashMap, VecDeque};

use crate::digest::blocks::BlockList;
use crate::digest::hasher::Digests;
use crate::digest::identity::Identity;

/// A bounded map of the digests that have nowhere else to be.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<Identity, (Digests, Option<BlockList>)>,
    /// In the order of their arrival.
    order: VecDeque<Identity>,
    bytes: u64,
}

impl Memory {
    pub(super) fn get(&self, identity: &Identity) -> Digests {
        let entry = self.entries.get(identity);
        entry.map(|(digests, _)| *digests).unwrap_or_default()
    }

    pub(super) fn blocks(&self, identity: &Identity) -> Option<BlockList> {
        self.entries.get(identity)?.1.clone()
    }

    pub(super) fn put(&mut self, identity: &Identity, digests: Digests, list: Option<BlockList>) {
        let (known, known_list) = self.take(identity).unwrap_or_default();
        let entry = (digests.and(known), list.or(known_list));
        self.bytes += cost(&entry);
        self.entries.insert(*identity, entry);
        self.order.push_back(*identity);
        while self.bytes > MAX_BYTES
            && self.order.len() > 1
            && let Some(oldest) = self.order.front().copied()
        {
            self.take(&oldest);
        }
    }

    fn take(&mut self, identity: &Identity) -> Option<(Digests, Option<BlockList>)> {
        let entry = self.entries.remove(identity)?;
        self.bytes -= cost(&entry);
        match self.order.front() == Some(identity) {
            true => drop(self.order.pop_front()),
            false => self.order.retain(|kept| kept != identity),
        }
        Some(entry)
    }
}

/// Bytes that an entry takes, maps included; not exactly.
fn cost((_, list): &(Digests, Option<BlockList>)) -> u64 {
    ENTRY_BYTES
        + list
            .as_ref()
            .map_or(0, |it| BlockList::encoded_len(it.len()))
}

/// Sixty thousand files, or the lists of two terabytes.
const MAX_BYTES: u64 = 24 << 20;
const ENTRY_BYTES: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Meta;

    #[test]
    fn the_oldest_make_room() {
        let mut memory = Memory::default();
        let identity = |inode| {
            Identity::from(&Meta {
                inode,
                ..Meta::default()
            })
        };
        let digests = Digests {
            sha256: Some([1; 32]),
            ..Digests::default()
        };
        for inode in 0..100_000 {
            memory.put(&identity(inode), digests, None);
        }
        assert!(memory.entries.len() < 70_000);
        assert_eq!(memory.entries.len(), memory.order.len());
        assert_eq!(memory.get(&identity(99_999)), digests);
        assert_eq!(memory.get(&identity(0)), Digests::default());
        // The same file again takes the place that it has.
        let blake3 = Digests {
            blake3: Some([2; 32]),
            ..Digests::default()
        };
        memory.put(&identity(99_999), blake3, None);
        assert_eq!(memory.get(&identity(99_999)), digests.and(blake3));
        assert_eq!(memory.entries.len(), memory.order.len());
    }
}
