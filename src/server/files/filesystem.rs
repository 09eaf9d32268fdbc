//! File systems: what a call on their files may wait for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::file::FileSystemKey;

/// A file system.
#[derive(Debug)]
pub struct FileSystem {
    device: u64,
    kind: FileSystemKind,
    /// Extents still to be requested whole, since reading one in pieces took long.
    whole_extents: AtomicU32,
    /// Files that wait to be closed.
    closing: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileSystemKind {
    /// A file system in memory.
    Memory,
    /// Disks of this host.
    Local,
    /// Layers, of which the one that holds the file is on disks of this host or in its memory.
    Overlay,
    /// Any call may wait for another host or process, fstat(2) and close(2) included.
    Remote,
    /// Files are generated when they are read (proc, sysfs).
    Generated,
}

impl FileSystem {
    /// `st_dev`, for all that may hang together.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether any call on its files may wait for another host or process.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(
            self.kind,
            FileSystemKind::Remote | FileSystemKind::Generated
        )
    }

    /// Whether its files are made when they are read: their length is not known before.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.kind == FileSystemKind::Generated
    }

    /// Whether all of it is memory.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        self.kind == FileSystemKind::Memory
    }

    /// Whether it has layers: an open file does not show that its name leads to another file now,
    /// and an open may wait for any layer.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        self.kind == FileSystemKind::Overlay
    }

    /// Whether a whole extent should be requested before it is read: where each read may take long,
    /// or fetches one page for lack of read-ahead. Elsewhere the kernel's read-ahead is better: it
    /// knows the disk, and takes large folios.
    #[must_use]
    pub fn wants_whole_extents(&self) -> bool {
        self.is_remote() || self.whole_extents.load(Ordering::Relaxed) > 0
    }

    /// Whether so many files wait to be closed that no more should be opened: each holds a
    /// descriptor, and the file system seems to hang.
    #[must_use]
    pub(crate) fn is_clogged(&self) -> bool {
        self.is_remote() && self.closing.load(Ordering::Relaxed) > MAX_CLOSING
    }

    /// Notes that a file begins to wait for its close.
    pub(crate) fn begin_close(&self) {
        self.closing.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it is closed.
    pub(crate) fn end_close(&self) {
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts an extent that was requested whole: after enough of them reading in pieces is tried
    /// again.
    pub(crate) fn note_whole(&self) {
        let less = |left: u32| left.checked_sub(1);
        let _ = (self.whole_extents).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Learns from the time that the reading of an extent in pieces took. Where the kernel does
    /// not read ahead (`read_ahead_kb` is 0) that is page by page.
    pub(crate) fn note_pieces(&self, bytes: u64, took: Duration) {
        if bytes >= SLOW_BYTES
            && took > SLOW_CALL + Duration::from_nanos(bytes * SLOW_NANOSECONDS_PER_BYTE)
        {
            self.whole_extents.store(WHOLE_EXTENTS, Ordering::Relaxed);
        }
    }
}

/// Files of a file system that may wait for their close at the same time.
const MAX_CLOSING: usize = 128;

/// The file systems met so far.
#[derive(Debug, Default)]
pub(crate) struct FileSystems {
    known: Mutex<HashMap<FileSystemKey, Known>>,
}

#[derive(Debug)]
struct Known {
    file_system: Arc<FileSystem>,
    kind: u32,
    asked: Instant,
}

impl FileSystems {
    /// The file system, if it was met before. Without a unique number another one may have taken
    /// its place, so its type is queried again.
    #[must_use]
    pub(crate) fn known(&self, key: FileSystemKey) -> Option<Arc<FileSystem>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&key)?;
        let is_certain = key.mount.is_some() || known.asked.elapsed() < VALID_FOR;
        is_certain.then(|| Arc::clone(&known.file_system))
    }

    /// Notes a file system by its type (`f_type`, statfs(2)).
    pub(crate) fn learn(&self, key: FileSystemKey, f_type: u32) -> Arc<FileSystem> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = Instant::now();
        if let Some(known) = known.get_mut(&key)
            && known.kind == f_type
        {
            known.asked = asked;
            return Arc::clone(&known.file_system);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let kind = match f_type {
            TMPFS | RAMFS => FileSystemKind::Memory,
            OVERLAY if key.has_inode_flags => FileSystemKind::Overlay,
            _ if LOCAL.contains(&f_type) => FileSystemKind::Local,
            _ if GENERATED.contains(&f_type) => FileSystemKind::Generated,
            _ => FileSystemKind::Remote,
        };
        let file_system = Arc::new(FileSystem {
            device: key.device,
            kind,
            whole_extents: AtomicU32::new(0),
            closing: AtomicUsize::new(0),
        });
        let entry = Known {
            file_system: Arc::clone(&file_system),
            kind: f_type,
            asked,
        };
        known.insert(key, entry);
        file_system
    }
}

// Types from statfs(2) and linux/magic.h.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
const OVERLAY: u32 = 0x794c_7630;
const GENERATED: [u32; 8] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup 2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
];
/// File systems on disks of this host. All others may wait for another host or process.
const LOCAL: [u32; 21] = [
    0,           // not asked for: the portable build
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0xe0f5_e1e2, // EROFS
    0x7371_7368, // SquashFS
    0x28cd_3d45, // cramfs
    0x9660,      // ISO 9660
    0x1501_3346, // UDF
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS
    0x482b,      // HFS+
    0x2405_1905, // UBIFS
    0x72b6,      // JFFS2
];

/// How long the type of a file system without a unique number is valid.
const VALID_FOR: Duration = Duration::from_secs(1);
/// More than a host mounts; each time something is mounted it has another number.
const MAX_KNOWN: usize = 1024;

/// Smaller reads may be all seeking, and are not measured.
const SLOW_BYTES: u64 = 1 << 20;
/// Reading in pieces is slow if it takes longer than this, which a single read may take, ...
const SLOW_CALL: Duration = Duration::from_millis(5);
/// ... and 8 nanoseconds a byte.
const SLOW_NANOSECONDS_PER_BYTE: u64 = 8;
/// Extents that are requested whole before pieces are tried again: 2 GiB.
const WHOLE_EXTENTS: u32 = 1024;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const EXTENT: u64 = 2 << 20;
    const EXT4: u32 = 0xef53;
    const FUSE: u32 = 0x6573_5546;
    const BTRFS: u32 = 0x9123_683e;

    pub(crate) const NFS: u32 = 0x6969;

    pub(crate) fn key(mount: Option<u64>) -> FileSystemKey {
        FileSystemKey {
            device: 39,
            mount,
            has_inode_flags: true,
        }
    }

    fn learn(f_type: u32) -> Arc<FileSystem> {
        FileSystems::default().learn(key(Some(1)), f_type)
    }

    #[test]
    fn what_is_not_known_to_be_local_may_wait() {
        assert!(learn(TMPFS).is_memory() && !learn(EXT4).is_remote());
        for f_type in [FUSE, NFS, 0xf15f, 0x7461_636f, 0x4750_4653, 0xdead_beef] {
            assert!(learn(f_type).is_remote(), "{f_type:x}");
        }
    }

    #[test]
    fn a_file_of_an_overlay_is_as_remote_as_its_layer() {
        assert!(learn(OVERLAY).is_overlay());
        let far = FileSystemKey {
            has_inode_flags: false,
            ..key(Some(1))
        };
        assert!(FileSystems::default().learn(far, OVERLAY).is_remote());
    }

    #[test]
    fn a_number_that_was_given_again_is_another_file_system() {
        let known = FileSystems::default();
        known.learn(key(Some(1)), TMPFS);
        assert!(known.known(key(Some(1))).is_some_and(|it| it.is_memory()));
        assert!(known.known(key(Some(2))).is_none());
        // Without a unique number the type decides.
        let before = known.learn(key(None), EXT4);
        assert!(Arc::ptr_eq(&before, &known.learn(key(None), EXT4)));
        assert!(!Arc::ptr_eq(&before, &known.learn(key(None), BTRFS)));
        assert!(known.learn(key(None), FUSE).is_remote());
        assert!(known.known(key(None)).is_some_and(|it| it.is_remote()));
    }

    #[test]
    fn a_disk_that_reads_pieces_slowly_is_asked_for_whole_extents_for_a_while() {
        let file_system = learn(EXT4);
        file_system.note_pieces(EXTENT, Duration::from_millis(10));
        assert!(!file_system.wants_whole_extents());
        file_system.note_pieces(EXTENT, Duration::from_millis(30));
        for _ in 0..WHOLE_EXTENTS {
            assert!(file_system.wants_whole_extents());
            file_system.note_whole();
        }
        assert!(!file_system.wants_whole_extents());
        file_system.note_whole();
        assert!(!file_system.wants_whole_extents());
        assert!(learn(NFS).wants_whole_extents());
    }
}
