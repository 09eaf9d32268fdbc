//! Dispatch: the channel through which connections come to the hot workers, from the acceptor,
//! from the disk lane and from workers that have more than they can do, and the knowledge of who
//! is idle.
//!
//! The channel holds as many connections as may be open, so sending never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::CachePadded;

use crate::server::connection::Connection;
use crate::sys::poller::Poller;

/// The channel and the workers behind it.
#[derive(Debug)]
pub(super) struct Dispatch {
    sender: Sender<Box<Connection>>,
    receiver: Receiver<Box<Connection>>,
    desks: Vec<CachePadded<WorkerSlot>>,
}

/// What others may know of a hot worker.
#[derive(Debug)]
struct WorkerSlot {
    poller: Arc<Poller>,
    /// The worker waits for readiness, or is about to.
    idle: AtomicBool,
    /// Connections that the worker holds.
    held: AtomicUsize,
}

impl Dispatch {
    /// A channel for `capacity` connections, and one worker behind each poller.
    #[must_use]
    pub(super) fn new(capacity: usize, pollers: impl IntoIterator<Item = Arc<Poller>>) -> Self {
        let (sender, receiver) = bounded(capacity);
        let desk = |poller| {
            let idle = AtomicBool::new(false);
            CachePadded::new(WorkerSlot {
                poller,
                idle,
                held: AtomicUsize::new(0),
            })
        };
        Self {
            sender,
            receiver,
            desks: pollers.into_iter().map(desk).collect(),
        }
    }

    /// Puts a connection in line, and wakes an idle worker if there is one. A busy worker looks
    /// into the channel at each of its turns.
    pub(super) fn send(&self, connection: Box<Connection>) {
        // Every connection owns a permit and the channel has room for all of them; and the
        // receiver is a field of ours.
        if self.sender.try_send(connection).is_ok() {
            self.wake_one();
        }
    }

    /// Takes the next connection in line.
    #[must_use]
    pub(super) fn receive(&self) -> Option<Box<Connection>> {
        self.receiver.try_recv().ok()
    }

    /// Whether connections are in line.
    #[must_use]
    pub(super) fn has_waiting(&self) -> bool {
        !self.receiver.is_empty()
    }

    /// Says that this worker goes to sleep. It must look into the channel once more afterwards.
    pub(super) fn set_idle(&self, worker: usize) {
        self.desks[worker].idle.store(true, Ordering::SeqCst);
    }

    /// Says that this worker is at work.
    pub(super) fn set_busy(&self, worker: usize) {
        self.desks[worker].idle.store(false, Ordering::SeqCst);
    }

    /// Says how many connections this worker holds.
    pub(super) fn note_held(&self, worker: usize, held: usize) {
        self.desks[worker].held.store(held, Ordering::Relaxed);
    }

    /// The fewest connections that an idle worker holds; `None` if none is idle.
    #[must_use]
    pub(super) fn idle_with(&self) -> Option<usize> {
        let idle = self
            .desks
            .iter()
            .filter(|desk| desk.idle.load(Ordering::Relaxed));
        idle.map(|desk| desk.held.load(Ordering::Relaxed)).min()
    }

    /// Wakes every worker.
    pub(super) fn wake_all(&self) {
        for desk in &self.desks {
            desk.poller.wake();
        }
    }

    fn wake_one(&self) {
        let idle = self
            .desks
            .iter()
            .filter(|desk| desk.idle.load(Ordering::SeqCst));
        let idle = idle.min_by_key(|desk| desk.held.load(Ordering::Relaxed));
        if let Some(desk) = idle
            && desk.idle.swap(false, Ordering::SeqCst)
        {
            desk.poller.wake();
        }
    }
}
