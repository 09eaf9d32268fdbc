//! Rates and limits as they are now: an operator may change them while the server runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::server::config::{ConnectionLimits, MinRate, Rates};

/// Rates, and the limits of one client. Each is read by itself; 0 is no rate.
#[derive(Debug, Default)]
pub(crate) struct LiveLimits {
    connection: AtomicU64,
    client: AtomicU64,
    total: AtomicU64,
    least: AtomicU64,
    /// In nanoseconds.
    least_grace: AtomicU64,
    connections_per_client: AtomicUsize,
    connections_per_remote_client: AtomicUsize,
}

impl LiveLimits {
    pub(crate) fn new(rates: &Rates, limits: &ConnectionLimits) -> Self {
        let live = Self::default();
        live.set(rates, limits);
        live
    }

    /// Sets them all.
    pub(crate) fn set(&self, rates: &Rates, limits: &ConnectionLimits) {
        let set =
            |to: &AtomicU64, rate: Option<u64>| to.store(rate.unwrap_or(0), Ordering::Relaxed);
        set(&self.connection, rates.connection);
        set(&self.client, rates.client);
        set(&self.total, rates.total);
        set(&self.least, rates.least.map(|least| least.bytes_per_second));
        let grace = rates.least.map(|least| least.grace.as_nanos());
        let grace = grace.map(|grace| u64::try_from(grace).unwrap_or(u64::MAX));
        set(&self.least_grace, grace);
        let (own, remote) = (
            limits.connections_per_client,
            limits.connections_per_remote_client,
        );
        self.connections_per_client.store(own, Ordering::Relaxed);
        self.connections_per_remote_client
            .store(remote, Ordering::Relaxed);
    }

    /// The rates.
    #[inline]
    pub(crate) fn rates(&self) -> Rates {
        let rate = |of: &AtomicU64| Some(of.load(Ordering::Relaxed)).filter(|rate| *rate > 0);
        Rates {
            connection: rate(&self.connection),
            client: rate(&self.client),
            total: rate(&self.total),
            least: rate(&self.least).map(|bytes_per_second| MinRate {
                bytes_per_second,
                grace: Duration::from_nanos(self.least_grace.load(Ordering::Relaxed)),
            }),
        }
    }

    /// The connections of one client.
    pub(crate) fn connections_per_client(&self, is_on_this_host: bool) -> usize {
        let most = self.connections_per_client.load(Ordering::Relaxed);
        match is_on_this_host {
            true => most,
            false => most.min(self.connections_per_remote_client.load(Ordering::Relaxed)),
        }
    }
}
