//! Dispatch: the channels to the hot workers, and the record of idle workers.
//!
//! Connections from the disk queue or from a busy worker go before new ones, so that a flood of new
//! connections delays no response under way. The channels need no bound: open connections have one.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::server::connection::Connection;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sys::poller::Poller;

/// The channels and the workers behind them.
#[derive(Debug)]
pub(super) struct Dispatch {
    newcomers: ConnectionChannel,
    returns: ConnectionChannel,
    workers: Vec<CachePadded<WorkerSlot>>,
    /// A bit for each worker that waits for readiness, or is about to.
    idle: Vec<CachePadded<AtomicU64>>,
}

type ConnectionChannel = (Sender<Box<Connection>>, Receiver<Box<Connection>>);

/// The part of a hot worker that is shared with other threads.
#[derive(Debug)]
struct WorkerSlot {
    poller: Arc<Poller>,
    /// Connections that the worker holds.
    held: AtomicUsize,
}

impl Dispatch {
    /// Each poller belongs to one worker.
    pub(super) fn new(pollers: impl IntoIterator<Item = Arc<Poller>>) -> Self {
        let slot = |poller| {
            let held = AtomicUsize::new(0);
            CachePadded::new(WorkerSlot { poller, held })
        };
        let workers: Vec<_> = pollers.into_iter().map(slot).collect();
        let words = workers.len().div_ceil(BITS);
        Self {
            newcomers: unbounded(),
            returns: unbounded(),
            workers,
            idle: (0..words).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Queues a new connection, and wakes an idle worker if there is one. A busy worker checks the
    /// channels in each of its turns.
    pub(super) fn send(&self, connection: Box<Connection>) {
        self.put(&self.newcomers, connection);
    }

    /// Puts a connection in line that was in a worker's hands before.
    pub(super) fn send_back(&self, connection: Box<Connection>) {
        self.put(&self.returns, connection);
    }

    fn put(&self, (sender, _): &ConnectionChannel, connection: Box<Connection>) {
        let sent = sender.send(connection);
        assert!(sent.is_ok(), "the receiver is a field of this very struct");
        self.wake_one();
    }

    /// Takes the next connection in line.
    pub(super) fn receive(&self) -> Option<Box<Connection>> {
        let ((_, returns), (_, newcomers)) = (&self.returns, &self.newcomers);
        returns.try_recv().or_else(|_| newcomers.try_recv()).ok()
    }

    /// Whether connections are in line.
    pub(super) fn has_waiting(&self) -> bool {
        !self.returns.1.is_empty() || !self.newcomers.1.is_empty()
    }

    /// Says that this worker goes to sleep. The worker must look into the channels once more
    /// afterwards.
    pub(super) fn set_idle(&self, worker: usize) {
        self.idle[worker / BITS].fetch_or(1 << (worker % BITS), Ordering::SeqCst);
    }

    /// Says that this worker is at work. Returns whether it was idle before.
    pub(super) fn set_busy(&self, worker: usize) -> bool {
        let bit = 1 << (worker % BITS);
        let before = self.idle[worker / BITS].fetch_and(!bit, Ordering::SeqCst);
        before & bit != 0
    }

    /// Says how many connections this worker holds.
    pub(super) fn note_held(&self, worker: usize, held: usize) {
        self.workers[worker].held.store(held, Ordering::Relaxed);
    }

    /// Whether a worker is idle.
    pub(super) fn has_idle(&self) -> bool {
        let mut words = self.idle.iter();
        words.any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Wakes every worker.
    pub(super) fn wake_all(&self) {
        for worker in &self.workers {
            worker.poller.wake();
        }
    }

    /// Wakes the idle worker that holds the fewest connections.
    fn wake_one(&self) {
        let held = |worker: &usize| self.workers[*worker].held.load(Ordering::Relaxed);
        while let Some(worker) = self.idle_workers().min_by_key(held) {
            // Another sender may have woken it first.
            if self.set_busy(worker) {
                return self.workers[worker].poller.wake();
            }
        }
    }

    fn idle_workers(&self) -> impl Iterator<Item = usize> {
        self.idle.iter().enumerate().flat_map(|(word, idle)| {
            let mut left = idle.load(Ordering::SeqCst);
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < BITS).then_some(word * BITS + bit)
            })
        })
    }
}

/// Workers in a word of the bitmap.
const BITS: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_knows_each_idle_worker_across_words() {
        let pollers = (0..130).map(|_| Arc::new(Poller::new().expect("a poller")));
        let dispatch = Dispatch::new(pollers);
        assert!(!dispatch.has_idle());
        for worker in [129, 64, 0, 63] {
            dispatch.set_idle(worker);
        }
        assert_eq!(
            dispatch.idle_workers().collect::<Vec<_>>(),
            [0, 63, 64, 129]
        );
        // The one that holds the fewest is woken, and only once.
        dispatch.note_held(0, 3);
        dispatch.note_held(63, 2);
        dispatch.note_held(64, 1);
        dispatch.note_held(129, 2);
        dispatch.wake_one();
        assert_eq!(dispatch.idle_workers().collect::<Vec<_>>(), [0, 63, 129]);
        assert!(!dispatch.set_busy(64));
        assert!(dispatch.set_busy(129));
    }
}
