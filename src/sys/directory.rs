//! The entries of a directory, one after another: `getdents64(2)` and `fstatat(2)`.

use std::io;
use std::os::fd::OwnedFd;

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
use rustix::fs::Dir;
use rustix::fs::{AtFlags, FileType, Stat, statat};

use crate::meta::Timestamp;

/// An open directory. The buffer holds few entries, whatever the directory's size: a slow peer may
/// keep it open for long.
#[derive(Debug)]
pub(crate) struct Directory(Dir);

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name; neither `.` nor `..`, and not necessarily UTF-8.
    pub name: Vec<u8>,
    /// The kind of file, where the file system stores that beside the name.
    pub kind: EntryKind,
}

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device, a FIFO, a socket.
    Other,
    /// The file system reports it only to [`Directory::stat`].
    Unknown,
}

/// The file system's facts about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryFacts {
    /// The kind of file; never [`EntryKind::Unknown`].
    pub kind: EntryKind,
    /// Length in bytes.
    pub len: u64,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Device and number, which no other inode has at the same time.
    pub inode: (u64, u64),
}

impl Directory {
    /// Reads from a descriptor opened for reading (`O_DIRECTORY`, not `O_PATH`), from its offset.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self(Dir::new(descriptor)?))
    }

    /// The next entry, in the file system's order.
    ///
    /// # Errors
    /// Of `getdents64(2)`; there are no entries after an error.
    pub(crate) fn next_entry(&mut self) -> Option<io::Result<Entry>> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                return Some(Ok(Entry {
                    name: name.to_vec(),
                    kind: kind(entry.file_type()),
                }));
            }
        }
    }

    /// Goes back to the first entry.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        #[cfg(all(target_os = "linux", not(feature = "portable")))]
        self.0.rewind()?;
        #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
        self.0.rewind();
        Ok(())
    }

    /// The same directory from its first entry, on the same open file description (dup(2)): both
    /// share one offset.
    ///
    /// # Errors
    /// Of `fcntl(2)` and `lseek(2)`.
    pub(crate) fn again(&self) -> io::Result<Self> {
        let mut again = Self::new(self.0.fd()?.try_clone_to_owned()?)?;
        again.rewind()?;
        Ok(again)
    }

    /// Looks at an entry, without following it if it is a link.
    ///
    /// # Errors
    /// Of `fstatat(2)`; `ENOENT` if it was removed meanwhile.
    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<EntryFacts> {
        let stat = statat(self.0.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(EntryFacts {
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Timestamp {
                seconds: stat.st_mtime as i64,
                nanoseconds: stat.st_mtime_nsec as u32,
            },
            inode: inode_of(&stat),
        })
    }
}

/// As `rustix::fs::Dir`, whose buffer grows to 48 KiB.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod dir {
    use std::collections::VecDeque;
    use std::ffi::{CStr, CString};
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::fs::{FileType, RawDir, SeekFrom};
    use rustix::io::Result;

    #[derive(Debug)]
    pub(super) struct Dir {
        descriptor: OwnedFd,
        ahead: VecDeque<DirEntry>,
    }

    #[derive(Debug)]
    pub(super) struct DirEntry {
        name: CString,
        file_type: FileType,
    }

    impl Dir {
        pub(super) fn new(descriptor: OwnedFd) -> Result<Self> {
            Ok(Self {
                descriptor,
                ahead: VecDeque::new(),
            })
        }

        pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
            Ok(self.descriptor.as_fd())
        }

        pub(super) fn rewind(&mut self) -> Result<()> {
            self.ahead.clear();
            rustix::fs::seek(&self.descriptor, SeekFrom::Start(0)).map(drop)
        }

        pub(super) fn read(&mut self) -> Option<Result<DirEntry>> {
            if self.ahead.is_empty() {
                let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
                let mut entries = RawDir::new(&self.descriptor, &mut buffer);
                while let Some(entry) = entries.next() {
                    match entry {
                        Ok(entry) => self.ahead.push_back(DirEntry {
                            name: entry.file_name().into(),
                            file_type: entry.file_type(),
                        }),
                        Err(error) => return Some(Err(error)),
                    }
                    if entries.is_buffer_empty() {
                        break;
                    }
                }
            }
            self.ahead.pop_front().map(Ok)
        }
    }

    impl DirEntry {
        pub(super) fn file_name(&self) -> &CStr {
            &self.name
        }

        pub(super) fn file_type(&self) -> FileType {
            self.file_type
        }
    }

    /// Room for the longest names of any file system, several times.
    const BUFFER_BYTES: usize = 4 << 10;
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use dir::Dir;

// Their types differ between systems.
#[allow(clippy::unnecessary_cast)]
fn inode_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Link,
        FileType::Unknown => EntryKind::Unknown,
        _ => EntryKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn entries_are_told_apart_and_links_not_followed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("file"), b"12345").expect("a file");
        fs::create_dir(root.path().join("dir")).expect("a directory");
        symlink("file", root.path().join("link")).expect("a link");
        let descriptor = File::open(root.path()).expect("just made").into();
        let mut directory = Directory::new(descriptor).expect("a directory");
        let mut facts = BTreeMap::new();
        while let Some(entry) = directory.next_entry() {
            let entry = entry.expect("readable");
            let stat = directory.stat(&entry.name).expect("still there");
            facts.insert(entry.name, (stat.kind, stat.len));
        }
        assert_eq!(facts.len(), 3);
        assert_eq!(facts[b"file".as_slice()], (EntryKind::File, 5));
        assert_eq!(facts[b"dir".as_slice()].0, EntryKind::Directory);
        assert_eq!(facts[b"link".as_slice()].0, EntryKind::Link);
    }
}
