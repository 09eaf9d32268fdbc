//! The bytes that a connection may send, by its own rate, its client's and the server's.
//!
//! Turns are limited to the rates. At low rates the kernel also spreads the bytes of a turn
//! (`SO_MAX_PACING_RATE`), at somewhat more than the rate, so that it smooths and never limits.

use std::net::TcpStream;
use std::time::Instant;

use crate::server::client_share::ClientShare;
use crate::server::rate_limit::{Allowance, KERNEL_PACED_BELOW, RateLimit};
use crate::server::shared::Shared;
use crate::sys::socket;

/// A connection's own rate, over all its responses.
#[derive(Debug)]
pub(super) struct Pacer {
    limit: RateLimit,
    /// The rate that was set on the socket.
    smoothed: Option<u64>,
    is_throttled: bool,
}

impl Pacer {
    pub(super) fn new(service: &Shared, now: Instant) -> Self {
        Self {
            limit: RateLimit::new(service.rates().connection, now),
            smoothed: None,
            is_throttled: false,
        }
    }

    /// Paces later sends (`SO_MAX_PACING_RATE`).
    pub(super) fn smooth(&mut self, stream: &TcpStream, service: &Shared) {
        let rate = service.rates().lowest();
        let rate = rate.filter(|rate| *rate < KERNEL_PACED_BELOW);
        if std::mem::replace(&mut self.smoothed, rate) != rate {
            // Without it the bytes are sent in bursts, at the same rate.
            let _ = socket::pace(stream, rate.map(|rate| rate + rate / 4 + 1));
        }
    }

    /// The bytes that may be sent in a turn that begins now.
    pub(super) fn allowance(
        &mut self,
        service: &Shared,
        client: &ClientShare,
        now: Instant,
    ) -> Allowance {
        self.limit.set(service.rates().connection);
        let limits = [&self.limit, client.rate(), service.rate()];
        let allowance = limits
            .into_iter()
            .map(|limit| limit.allowance(now))
            .fold(Allowance::Bytes(u64::MAX), Allowance::and);
        self.is_throttled = matches!(allowance, Allowance::NotBefore(_));
        allowance
    }

    /// Charges sent bytes.
    pub(super) fn charge(&self, bytes: u64, service: &Shared, client: &ClientShare, now: Instant) {
        for limit in [&self.limit, client.rate(), service.rate()] {
            limit.charge(bytes, now);
        }
    }

    /// Whether the last turn was put off, so that the connection waits for the time alone.
    pub(super) fn is_throttled(&self) -> bool {
        self.is_throttled
    }
}
