//! The counters of one server.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::server::telemetry::close_reason::CloseReason;
use crate::server::telemetry::handshake_failure::HandshakeFailure;

/// A counter with a part for each thread, so that no processor waits for another one's cache line.
/// Two threads share a part only beyond [`PARTS`].
#[derive(Debug, Default)]
pub struct Counter([CachePadded<AtomicU64>; PARTS]);

impl Counter {
    /// Adds to the calling thread's part.
    #[inline]
    pub fn add(&self, count: u64) {
        let part = PART.with(|part| *part);
        self.0[part].fetch_add(count, Ordering::Relaxed);
    }

    /// All parts together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let parts = self.0.iter();
        parts.map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

const PARTS: usize = 32;

thread_local! {
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

/// Writes the counters once, as atomics, as a snapshot and as the way from one to the other.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one server; shared by its threads.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            closed: [Counter; CloseReason::ALL.len()],
            handshakes_failed: [Counter; HandshakeFailure::ALL.len()],
        }

        /// The counters at one moment.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            closed: [u64; CloseReason::ALL.len()],
            handshakes_failed: [u64; HandshakeFailure::ALL.len()],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: Counter::default(),)*
                    closed: std::array::from_fn(|_| Counter::default()),
                    handshakes_failed: std::array::from_fn(|_| Counter::default()),
                }
            }
        }

        impl Counters {
            /// Reads all counters. Each is exact; together they are of nearly the same moment.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.sum(),)*
                    closed: std::array::from_fn(|at| self.closed[at].sum()),
                    handshakes_failed: std::array::from_fn(|at| self.handshakes_failed[at].sum()),
                }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections open now.
    open,
    /// Errors of accept(2) that concerned one connection.
    accept_errors,
    /// Times that accepting found the system out of something, or down to the descriptors that
    /// are kept for files.
    accept_exhausted,
    /// Handshakes of TLS 1.2 that ended well.
    handshakes_tls12,
    /// Handshakes of TLS 1.3 that ended well.
    handshakes_tls13,
    /// Handshakes that resumed an earlier session.
    handshakes_resumed,
    /// TLS connections whose records the kernel seals and opens, from a large response on.
    kernel_tls,
    /// Requests received whole.
    requests,
    /// Bytes given to the kernel, heads included.
    bytes_sent,
    /// Bytes that peers have acknowledged, while there are observers.
    bytes_acknowledged,
    /// Times a connection was parked until its socket is ready.
    parks,
    /// Times a connection gave way to others with its quantum spent.
    yields,
    /// Connections that went from a busy worker to an idle one.
    handovers,
    /// Disk jobs of connections.
    disk_visits,
    /// Extents read into the page cache by disk workers.
    extents_warmed,
    /// Connections that joined the reading of an extent under way.
    extents_shared,
    /// Extents sent by disk workers, since they did not stay in the page cache.
    extents_sent_cold,
    /// Directories read from their beginning for a listing.
    listing_scans,
    /// Pages of a directory that joined the scan of another request.
    listings_shared,
    /// Turns of a hot worker that waited for longer than 2 ms: for a disk, another host, or memory.
    hot_waits,
    /// Bodies sent by read and write since sendfile(2) refuses the file.
    copied_bodies,
    /// Passwords that were looked at, rather than remembered.
    passwords_checked,
    /// Passwords that were wrong.
    passwords_wrong,
    /// Passwords that were not looked at, since too many of the client's were wrong.
    guesses_slowed,
    /// Files that wait to be closed now: many where a file system hangs.
    closes_waiting,
    /// Connections dropped while they waited for a file system, since their peers had left.
    swept,
    /// Jobs that panicked.
    panics,
    /// Lines the access log lost because it could not be written fast enough.
    log_lines_lost,
}

impl Counters {
    /// Adds one to a counter.
    #[inline]
    pub fn add_one(counter: &Counter) {
        counter.add(1);
    }

    /// Counts the end of a connection.
    pub fn count_close(&self, reason: CloseReason) {
        Self::add_one(&self.closed[reason as usize]);
    }

    /// Counts a TLS handshake that failed.
    pub fn count_failed_handshake(&self, failure: HandshakeFailure) {
        Self::add_one(&self.handshakes_failed[failure as usize]);
    }
}

impl Snapshot {
    /// How many connections ended for this reason.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// How many connections ended, for any reason.
    #[must_use]
    pub fn closed_in_all(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// How many TLS handshakes ended well, of all versions.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes_tls12 + self.handshakes_tls13
    }

    /// How many TLS handshakes failed like this.
    #[must_use]
    pub fn handshakes_failed(&self, failure: HandshakeFailure) -> u64 {
        self.handshakes_failed[failure as usize]
    }

    /// How many TLS handshakes failed, for any reason.
    #[must_use]
    pub fn handshakes_failed_in_all(&self) -> u64 {
        self.handshakes_failed.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_counter() {
        let counters = Counters::default();
        let mut words = std::collections::HashSet::new();
        for reason in CloseReason::ALL {
            counters.count_close(*reason);
            assert!(words.insert(reason.word()));
        }
        let snapshot = counters.snapshot();
        assert!(
            CloseReason::ALL
                .iter()
                .all(|reason| snapshot.closed(*reason) == 1)
        );
        assert_eq!(snapshot.closed_in_all(), CloseReason::ALL.len() as u64);
    }
}
