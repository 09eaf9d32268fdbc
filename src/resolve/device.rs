//! File systems, and what was learned of each: whether it may wait for a network, and whether it
//! answers from memory although it cannot say so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A file system, by its device number (`st_dev`).
#[derive(Debug)]
pub struct Device {
    id: u64,
    kind: DeviceKind,
    /// Extents in a row that were read at the speed of memory although their residency was
    /// unknown.
    quick_extents: AtomicU32,
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

impl Device {
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
pub struct Devices {
    known: Mutex<HashMap<u64, Arc<Device>>>,
}

impl Devices {
    /// The file system, if it was met before.
    #[must_use]
    pub fn known(&self, id: u64) -> Option<Arc<Device>> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// Notes a file system by its type (`f_type`, statfs(2)).
    pub fn learn(&self, id: u64, file_system: i64) -> Arc<Device> {
        let kind = match file_system {
            TMPFS | RAMFS => DeviceKind::Memory,
            _ if REMOTE.contains(&file_system) => DeviceKind::Remote,
            _ => DeviceKind::Local,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let device = || {
            Arc::new(Device {
                id,
                kind,
                quick_extents: AtomicU32::new(0),
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
}
