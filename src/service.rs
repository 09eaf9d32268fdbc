//! What all connections of one server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Sender;

use crate::client::Client;
use crate::config::ServeConfig;
use crate::permits::Permits;
use crate::resolve::{Closing, Root, Shown};
use crate::telemetry::Counters;
use crate::telemetry::journal::Journal;

/// What all connections of one server share.
#[derive(Debug)]
pub struct Service {
    /// The settings.
    pub config: ServeConfig,
    /// The served directory.
    pub root: Root,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// Where access records go.
    pub journal: Journal,
    /// Transfers of large files.
    pub bulk: Arc<Permits>,
    /// Connections whose send queue may be long.
    pub long_queues: Arc<Permits>,
    /// Clients with a transfer under way.
    active_clients: AtomicUsize,
    phase: Phase,
}

/// How far the server is on its way to the end.
#[derive(Debug, Default)]
struct Phase {
    draining: AtomicBool,
    aborting: AtomicBool,
}

impl Service {
    /// Opens the root. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub fn new(
        config: ServeConfig,
        counters: Arc<Counters>,
        journal: Journal,
        closer: Sender<Closing>,
    ) -> io::Result<Self> {
        let shown = if config.hidden {
            Shown::All
        } else {
            Shown::Visible
        };
        let root = Root::open(&config.root, shown, closer)?;
        let bulk = Permits::new(config.limits.bulk_transfers);
        let long_queues = Permits::new(LONG_QUEUES);
        let (active_clients, phase) = (AtomicUsize::new(0), Phase::default());
        Ok(Self {
            config,
            root,
            counters,
            journal,
            bulk,
            long_queues,
            active_clients,
            phase,
        })
    }

    /// Has connections close once nothing is owed on them.
    pub fn drain(&self) {
        self.phase.draining.store(true, Ordering::SeqCst);
    }

    /// Whether connections are to close once nothing is owed on them.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase.draining.load(Ordering::Relaxed)
    }

    /// Has all connections close now.
    pub fn abort(&self) {
        self.drain();
        self.phase.aborting.store(true, Ordering::SeqCst);
    }

    /// Whether all connections are to close now.
    #[inline]
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        self.phase.aborting.load(Ordering::Relaxed)
    }

    /// A transfer to this client begins.
    pub fn begin_transfer(&self, client: &Client) {
        if client.begin_transfer() == 0 {
            self.active_clients.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A transfer to this client ends.
    pub fn end_transfer(&self, client: &Client) {
        if client.end_transfer() == 1 {
            self.active_clients.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The rate in bytes a second that one transfer of this client may have now, if any limit is
    /// set: clients share the total, and transfers share their client's part.
    #[must_use]
    pub fn rate_for(&self, client: &Client) -> Option<u64> {
        let rates = &self.config.rates;
        let transfers = client.transfers().max(1) as u64;
        let clients = self.active_clients.load(Ordering::Relaxed).max(1) as u64;
        let of_client = rates.client.map(|rate| rate / transfers);
        let of_total = rates.total.map(|rate| rate / clients / transfers);
        [rates.connection, of_client, of_total]
            .into_iter()
            .flatten()
            .min()
            .map(|rate| rate.max(1))
    }
}

/// Connections whose send queue may be long: in all no more kernel memory than a small host has
/// for TCP (`tcp_mem`), and more fast readers than a host has cores for.
const LONG_QUEUES: usize = 128;
