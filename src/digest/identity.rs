//! Under what a digest is kept: which file, and which content of it.

use crate::meta::Meta;

/// A file and its content, by device, inode and time stamps. Names do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    file: FileKey,
    content: ContentKey,
}

/// Device and inode. A file has one entry in the store: a new content takes the old one's place.
pub(super) type FileKey = [u8; 16];

/// Length, mtime and ctime.
pub(super) type ContentKey = [u8; 32];

impl Identity {
    pub(super) fn file(&self) -> &FileKey {
        &self.file
    }

    pub(super) fn content(&self) -> &ContentKey {
        &self.content
    }
}

impl From<&Meta> for Identity {
    fn from(meta: &Meta) -> Self {
        let mut file = [0; 16];
        file[..8].copy_from_slice(&meta.device.to_be_bytes());
        file[8..].copy_from_slice(&meta.inode.to_be_bytes());
        let mut content = [0; 32];
        content[..8].copy_from_slice(&meta.len.to_be_bytes());
        for (at, stamp) in [(8, meta.modified), (20, meta.changed)] {
            content[at..at + 8].copy_from_slice(&stamp.seconds.to_be_bytes());
            content[at + 8..at + 12].copy_from_slice(&stamp.nanoseconds.to_be_bytes());
        }
        Self { file, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_meta_but_its_names_makes_another_identity() {
        let meta = Meta::default();
        let identity = Identity::from(&meta);
        let change = |change: fn(&mut Meta)| {
            let mut other = meta;
            change(&mut other);
            Identity::from(&other)
        };
        for other in [
            change(|meta| meta.device = 1),
            change(|meta| meta.inode = 1),
            change(|meta| meta.len = 1),
            change(|meta| meta.modified.seconds = -1),
            change(|meta| meta.modified.nanoseconds = 1),
            change(|meta| meta.changed.seconds = 1),
            change(|meta| meta.changed.nanoseconds = 1),
        ] {
            assert_ne!(identity, other);
        }
        assert_eq!(identity, change(|meta| meta.links = 7));
    }
}
