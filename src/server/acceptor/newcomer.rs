//! New connections beyond the limit, and the eviction of silent ones in their favour.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::client_share::ShareHandle;
use crate::server::connection::step::Admission;
use crate::server::semaphore::Permit;
use crate::server::telemetry::Peer;

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    /// The index of its listener.
    pub(super) listener: usize,
    pub(super) peer: Peer,
    pub(super) share: ShareHandle,
    pub(super) permit: Permit,
    pub(super) admission: Admission,
}

impl Newcomer {
    /// In the place of one that was closed.
    pub(super) fn admitted(self, permit: Permit) -> Self {
        let admission = Admission::Admitted;
        Self {
            permit,
            admission,
            ..self
        }
    }
}

/// The clients whose silent connections may go, one after another.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Clients, and how many connections each has; the busiest is last.
    left: Vec<(u64, usize)>,
    /// The workers have until then to look for those of a client.
    until: Option<Instant>,
}

impl Search {
    /// A search among these, the busiest first. A client with few connections does not pay for one
    /// with many new ones.
    pub(super) fn among(mut busiest: Vec<(u64, usize)>) -> Self {
        let most = busiest.first().map_or(0, |&(_, connections)| connections);
        busiest.retain(|&(_, connections)| connections >= most / 2);
        busiest.reverse();
        Self {
            left: busiest,
            until: None,
        }
    }

    /// The next client, and how many connections it has.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, usize)> {
        let next = self.left.pop();
        self.until = next.map(|_| now + EVICTION_WAIT);
        next
    }

    /// Whether workers may still be looking.
    pub(super) fn is_under_way(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// The end of the wait.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// A worker in the middle of a turn answers sooner.
const EVICTION_WAIT: Duration = Duration::from_millis(10);
