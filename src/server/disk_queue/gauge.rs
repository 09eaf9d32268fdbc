//! The load of the disk queue by file system, for observers: they take no lock of the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::sys::file;

/// The disk queue's load for one file system.
#[derive(Debug)]
pub(crate) struct DiskGauge {
    device: u64,
    waiting: AtomicU64,
    running: AtomicU64,
    done: AtomicU64,
}

impl DiskGauge {
    /// `MAJOR:MINOR`, as in /proc/self/mountinfo.
    pub(crate) fn file_system(&self) -> String {
        file::device_number(self.device)
    }

    /// Jobs that wait for a worker, that are running, and that are done.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.waiting, &self.running, &self.done].map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn note_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A job left the line without being run.
    pub(super) fn note_left(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn note_running(&self) {
        self.note_left();
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_done(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The way of gauges to observers, one for each file system that was ever waited for.
#[derive(Clone, Debug)]
pub(crate) struct DiskGauges {
    sender: Sender<Arc<DiskGauge>>,
    receiver: Receiver<Arc<DiskGauge>>,
}

impl Default for DiskGauges {
    fn default() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

impl DiskGauges {
    /// A gauge for another file system.
    pub(super) fn add(&self, device: u64) -> Arc<DiskGauge> {
        let gauge = Arc::new(DiskGauge {
            device,
            waiting: AtomicU64::new(0),
            running: AtomicU64::new(0),
            done: AtomicU64::new(0),
        });
        // The receiver is a field of this very struct.
        let _ = self.sender.send(Arc::clone(&gauge));
        gauge
    }

    /// The gauges that were added since the last call.
    pub(crate) fn shown(&self) -> Vec<Arc<DiskGauge>> {
        self.receiver.try_iter().collect()
    }
}
