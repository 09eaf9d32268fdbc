//! Facts about each open file, by inode, shared by all holders of the file.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use crate::http::Validators;
use crate::meta::Meta;
use crate::server::files::digest_slot::DigestSlot;
use crate::server::files::residency_cache::ResidencyCache;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize};

/// The inodes that are open. While one is, its file system is mounted and its numbers are not
/// given to others (`st_dev`, `st_ino`).
#[derive(Debug, Default)]
pub(super) struct Registry {
    inodes: Mutex<HashMap<(u64, u64), Weak<Inode>>>,
}

/// The identity of an inode, independent of its content.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// Transfers under way that draw from it.
    pub(super) readers: AtomicUsize,
    /// The version that was opened last.
    latest: Mutex<Weak<FileVersion>>,
}

/// A state of an inode, from one change to the next.
#[derive(Debug)]
pub(super) struct FileVersion {
    pub(super) inode: Arc<Inode>,
    pub(super) meta: Meta,
    /// A transfer has drawn from it.
    pub(super) was_read: AtomicBool,
    /// The parts of the file that are in memory.
    pub(super) residency: ResidencyCache,
    /// The content of a small file that is requested again and again.
    pub(super) content: OnceLock<Box<[u8]>>,
    /// The known digests.
    pub(super) digests: DigestSlot,
    /// The validators, once they are strong.
    pub(super) validators: OnceLock<Validators>,
}

impl Registry {
    /// The facts about a file with this metadata.
    pub(super) fn version(&self, meta: Meta) -> Arc<FileVersion> {
        let inode = self.inode((meta.device, meta.inode));
        let mut latest = inode.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = latest.upgrade()
            && known.meta == meta
        {
            return known;
        }
        let version = Arc::new(FileVersion {
            inode: Arc::clone(&inode),
            meta,
            was_read: AtomicBool::new(false),
            residency: ResidencyCache::default(),
            content: OnceLock::new(),
            digests: DigestSlot::default(),
            validators: OnceLock::new(),
        });
        *latest = Arc::downgrade(&version);
        version
    }

    fn inode(&self, key: (u64, u64)) -> Arc<Inode> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = inodes.get(&key).and_then(Weak::upgrade) {
            return inode;
        }
        // Each time that the map would grow; afterwards at most half of it is of use.
        if inodes.len() == inodes.capacity() {
            inodes.retain(|_, inode| inode.strong_count() > 0);
            let room = inodes.len().max(64);
            inodes.reserve(room);
        }
        let inode = Arc::new(Inode::default());
        inodes.insert(key, Arc::downgrade(&inode));
        inode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(inode: u64, len: u64) -> Meta {
        Meta {
            inode,
            len,
            ..Meta::default()
        }
    }

    #[test]
    fn a_version_is_shared_while_it_is_in_use_and_an_inode_across_versions() {
        let registry = Registry::default();
        let first = registry.version(meta(1, 10));
        assert!(Arc::ptr_eq(&first, &registry.version(meta(1, 10))));
        let second = registry.version(meta(1, 20));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.inode, &second.inode));
        assert!(!Arc::ptr_eq(
            &first.inode,
            &registry.version(meta(2, 10)).inode
        ));
    }

    #[test]
    fn a_closed_file_is_forgotten() {
        let registry = Registry::default();
        let kept = registry.version(meta(0, 1));
        for inode in 1..10_000 {
            drop(registry.version(meta(inode, 1)));
        }
        assert!(registry.inodes.lock().expect("no panic").len() < 500);
        assert!(Arc::ptr_eq(&kept, &registry.version(meta(0, 1))));
    }
}
