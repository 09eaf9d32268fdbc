//! File systems, and what was learned of each: whether it may wait for a network, and whether it
//! answers from memory although it cannot say so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A file system, by its device number (`st_dev`).
#[derive(Debug)]
pub struct FileSystem {
    id: u64,
    kind: DeviceKind,
    /// Extents in a row that were read at the speed of memory although their residency was
    /// unknown.
    quick_extents: AtomicU32,
    /// So many extents are still to be asked for at once: reading one in pieces took long.
    whole_extents: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceKind {
    /// All of it is memory.
    Memory,
    /// Disks of this host.
    Local,
    /// Any call may wait for another host or process, fstat(2) and close(2) included.
    Remote,
}

impl FileSystem {
    /// `st_dev`.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether any call on its files may wait for another host or process.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.kind == DeviceKind::Remote
    }

    /// Whether an extent of unknown residency may be sent by a hot worker. True where everything
    /// is memory, and where the last extents of unknown residency were all quick.
    #[must_use]
    pub fn answers_from_memory(&self) -> bool {
        match self.kind {
            DeviceKind::Memory => true,
            DeviceKind::Local => self.quick_extents.load(Ordering::Relaxed) >= QUICK_ENOUGH,
            DeviceKind::Remote => false,
        }
    }

    /// Whether extents are to be asked for whole, and several at once: each read may take long, or
    /// has taken long lately, so they had better go on side by side. Elsewhere the kernel's own
    /// reading ahead does better: it knows the disk, and takes large folios.
    #[must_use]
    pub fn wants_whole_extents(&self) -> bool {
        self.may_wait() || self.whole_extents.load(Ordering::Relaxed) > 0
    }

    /// Notes that an extent was asked for whole: in the end the other way is tried again.
    pub fn note_whole(&self) {
        let less = |left: u32| left.checked_sub(1);
        let _ = (self.whole_extents).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Learns from the time that the reading of an extent in pieces took. Where the kernel does
    /// not read ahead (`read_ahead_kb` is 0) that is page by page.
    pub fn note_pieces(&self, bytes: u64, took: Duration) {
        if bytes >= SLOW_BYTES
            && took > SLOW_CALL + Duration::from_nanos(bytes * SLOW_NANOSECONDS_PER_BYTE)
        {
            self.whole_extents.store(WHOLE_EXTENTS, Ordering::Relaxed);
        }
    }

    /// Learns from the time that an extent of unknown residency took to read.
    pub fn learn(&self, bytes: u64, took: Duration) {
        let limit = QUICK_CALL + Duration::from_nanos(bytes / QUICK_BYTES_PER_NANOSECOND);
        if took <= limit {
            // Saturates long before it could wrap: it only matters up to QUICK_ENOUGH.
            if self.quick_extents.load(Ordering::Relaxed) < QUICK_ENOUGH {
                self.quick_extents.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.quick_extents.store(0, Ordering::Relaxed);
        }
    }
}

/// The file systems met so far.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    known: Mutex<HashMap<u64, Arc<FileSystem>>>,
}

impl Devices {
    /// The file system, if it was met before.
    #[must_use]
    pub(crate) fn known(&self, id: u64) -> Option<Arc<FileSystem>> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// Notes a file system by its type (`f_type`, statfs(2)).
    pub(crate) fn learn(&self, id: u64, file_system: i64) -> Arc<FileSystem> {
        let kind = match file_system {
            TMPFS | RAMFS => DeviceKind::Memory,
            _ if REMOTE.contains(&file_system) => DeviceKind::Remote,
            _ => DeviceKind::Local,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let device = || {
            Arc::new(FileSystem {
                id,
                kind,
                quick_extents: AtomicU32::new(0),
                whole_extents: AtomicU32::new(0),
            })
        };
        Arc::clone(known.entry(id).or_insert_with(device))
    }
}

// Types from statfs(2) and linux/magic.h.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
const REMOTE: [i64; 11] = [
    0x6573_5546, // FUSE
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x0102_1997, // 9P
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS (OpenAFS)
    0x6b41_4653, // AFS (kAFS)
    0x7375_7245, // Coda
    0x0bd0_0bd0, // Lustre
];

/// So many quick extents in a row make a file system that answers from memory.
const QUICK_ENOUGH: u32 = 8;
/// A read is quick if it takes no longer than this and the time that a slow memory takes ...
const QUICK_CALL: Duration = Duration::from_micros(500);
/// ... at 2 bytes a nanosecond.
const QUICK_BYTES_PER_NANOSECOND: u64 = 2;

/// Less than this may be all seeking, and tells nothing.
const SLOW_BYTES: u64 = 1 << 20;
/// Reading in pieces is slow if it takes longer than this, which one read may take on its own, ...
const SLOW_CALL: Duration = Duration::from_millis(5);
/// ... and 8 nanoseconds a byte.
const SLOW_NANOSECONDS_PER_BYTE: u64 = 8;
/// Extents that are asked for whole before pieces are tried again: 2 GiB.
const WHOLE_EXTENTS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: u64 = 2 << 20;
    const QUICK: Duration = Duration::from_micros(400);
    const SLOW: Duration = Duration::from_millis(8);
    const EXT4: i64 = 0xef53;

    #[test]
    fn a_file_system_that_cannot_say_earns_trust_and_loses_it() {
        let device = Devices::default().learn(1, EXT4);
        for _ in 0..QUICK_ENOUGH {
            assert!(!device.answers_from_memory());
            device.learn(EXTENT, QUICK);
        }
        assert!(device.answers_from_memory());
        device.learn(EXTENT, SLOW);
        assert!(!device.answers_from_memory());
    }

    #[test]
    fn memory_is_trusted_and_a_network_never_is() {
        let devices = Devices::default();
        assert!(devices.learn(1, TMPFS).answers_from_memory());
        let remote = devices.learn(2, REMOTE[0]);
        for _ in 0..2 * QUICK_ENOUGH {
            remote.learn(EXTENT, QUICK);
        }
        assert!(remote.may_wait() && !remote.answers_from_memory());
        assert!(devices.known(3).is_none());
    }

    #[test]
    fn a_disk_that_reads_pieces_slowly_is_asked_for_whole_extents_for_a_while() {
        let device = Devices::default().learn(1, EXT4);
        device.note_pieces(EXTENT, Duration::from_millis(10));
        assert!(!device.wants_whole_extents());
        device.note_pieces(EXTENT, Duration::from_millis(30));
        for _ in 0..WHOLE_EXTENTS {
            assert!(device.wants_whole_extents());
            device.note_whole();
        }
        assert!(!device.wants_whole_extents());
        device.note_whole();
        assert!(!device.wants_whole_extents());
        let remote = Devices::default().learn(2, REMOTE[0]);
        assert!(remote.wants_whole_extents());
    }
}
