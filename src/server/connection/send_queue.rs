//! A connection's send queue in the kernel: its limit, and the incomplete segments held back in it.
//!
//! A long queue saves wake-ups for fast readers. A stalled reader's queue is kernel memory that
//! other connections lack. Every queue begins short, and becomes long for a limited number of peers
//! that acknowledged enough.

use std::net::TcpStream;
use std::sync::Arc;

use crate::server::semaphore::{Permit, Semaphore};
use crate::server::shared::{LONG_BYTES, UNSENT_BYTES};
use crate::sys::socket;

/// The options that are set on a connection's socket.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// The right to a long queue.
    long: Option<Permit>,
    /// Incomplete segments are held back.
    corked: bool,
}

impl SendQueue {
    /// Begins a response from a file: sendfile(2) would send each piece's last segment incomplete.
    pub(super) fn begin_large(&mut self, stream: &TcpStream) {
        self.corked = socket::cork(stream, true).is_ok();
    }

    /// Handles a queue that is full after `sent` bytes of a response at `rate`. Lengthens it if the
    /// peer has taken more than fits a short queue and a window.
    pub(super) fn note_full(
        &mut self,
        stream: &TcpStream,
        (sent, rate): (u64, Option<u64>),
        long_queues: &Arc<Semaphore>,
    ) {
        if self.long.is_some() || sent < PROOF_BYTES {
            return;
        }
        if let Some(permit) = long_queues.try_acquire()
            && socket::limit_unsent(stream, long_bytes(rate)).is_ok()
        {
            self.long = Some(permit);
        }
    }

    /// Gives the long queue back: the peer has stopped taking bytes.
    pub(super) fn shorten(&mut self, stream: &TcpStream) {
        if self.long.take().is_some() {
            // Bytes in the queue stay there; no more go in.
            let _ = socket::limit_unsent(stream, UNSENT_BYTES);
        }
    }

    /// Ends a response: its last segment leaves, and the next response's queue begins short.
    pub(super) fn end(&mut self, stream: &TcpStream) {
        if std::mem::take(&mut self.corked) {
            let _ = socket::cork(stream, false);
        }
        self.shorten(stream);
    }
}

/// Bytes of a long queue: at a `rate`, a tenth of a second's keep it from running dry.
fn long_bytes(rate: Option<u64>) -> u32 {
    let paced = rate.map_or(u64::MAX, |rate| (rate / 10).max(u64::from(UNSENT_BYTES)));
    u32::try_from(paced).unwrap_or(u32::MAX).min(LONG_BYTES)
}

/// Sent bytes that prove a reading peer: a window and a short queue hold less.
const PROOF_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_fast_reader_has_a_long_queue_until_it_stalls() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let _far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (near, _) = listener.accept().expect("accepts");
        let unsent = || SockRef::from(&near).tcp_notsent_lowat().expect("an option");
        let long_queues = Semaphore::new(1);
        let mut queue = SendQueue::default();
        for (sent, rate, expected) in [
            (PROOF_BYTES, None, LONG_BYTES),
            (PROOF_BYTES, Some(10_000_000), 1_000_000),
            (PROOF_BYTES, Some(1_000), UNSENT_BYTES),
        ] {
            queue.note_full(&near, (sent, rate), &long_queues);
            assert_eq!((unsent(), long_queues.taken()), (expected, 1), "{rate:?}");
            queue.shorten(&near);
            assert_eq!((unsent(), long_queues.taken()), (UNSENT_BYTES, 0));
        }
        queue.note_full(&near, (PROOF_BYTES - 1, None), &long_queues);
        assert_eq!(long_queues.taken(), 0);
    }
}
