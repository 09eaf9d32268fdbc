//! Room for a new connection when there is none: the oldest silent ones of a client are closed.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sys::poller::Poller;

/// The acceptor's request to the workers, each of which looks among the connections it holds.
#[derive(Debug)]
pub(super) struct Eviction {
    /// The acceptor's poller, which is woken by answers.
    acceptor: Arc<Poller>,
    /// Grows with each request.
    round: AtomicU64,
    /// The client's number.
    client: AtomicU64,
    /// Connections that are still to be closed.
    wanted: AtomicUsize,
    /// Workers that have looked.
    answers: AtomicUsize,
}

impl Eviction {
    /// For the acceptor that waits at this poller.
    pub(super) fn new(acceptor: Arc<Poller>) -> Self {
        Self {
            acceptor,
            round: AtomicU64::new(0),
            client: AtomicU64::new(0),
            wanted: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
        }
    }

    /// Asks for so many connections of a client; the workers have to be woken.
    pub(super) fn ask(&self, client: u64, connections: usize) {
        self.client.store(client, Ordering::Relaxed);
        self.wanted.store(connections, Ordering::Relaxed);
        self.answers.store(0, Ordering::Relaxed);
        self.round.fetch_add(1, Ordering::Release);
    }

    /// The client of a request that is newer than round `seen`.
    pub(super) fn asked_since(&self, seen: &mut u64) -> Option<u64> {
        let round = self.round.load(Ordering::Acquire);
        let is_new = std::mem::replace(seen, round) != round;
        is_new.then(|| self.client.load(Ordering::Relaxed))
    }

    /// Whether one more connection is to be closed; counts it if so.
    pub(super) fn take_one(&self) -> bool {
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let less = |wanted: usize| wanted.checked_sub(1);
        self.wanted.fetch_update(set, fetch, less).is_ok()
    }

    /// Counts a worker that has looked.
    pub(super) fn answer(&self) {
        self.answers.fetch_add(1, Ordering::Release);
        self.acceptor.wake();
    }

    /// Whether so many workers have looked.
    pub(super) fn is_answered_by(&self, workers: usize) -> bool {
        self.answers.load(Ordering::Acquire) >= workers
    }
}
