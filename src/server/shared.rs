//! What all connections of one server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Sender;

use crate::server::client_share::ClientShare;
use crate::server::config::ServeConfig;
use crate::server::files::{Closing, Root, Shown};
use crate::server::semaphore::Semaphore;
use crate::server::telemetry::Counters;
use crate::server::telemetry::access_log::AccessLog;

/// What all connections of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The settings.
    pub config: ServeConfig,
    /// The served directory.
    pub root: Root,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// Where access records go.
    pub journal: AccessLog,
    /// Transfers of large files.
    pub bulk: Arc<Semaphore>,
    /// Connections whose send queue may be long.
    pub long_queues: Arc<Semaphore>,
    /// Clients with a transfer under way.
    active_clients: Arc<AtomicUsize>,
    phase: Phase,
}

/// A transfer under way; counted off when dropped.
#[derive(Debug)]
pub(crate) struct TransferHandle {
    client: Arc<ClientShare>,
    active_clients: Arc<AtomicUsize>,
}

impl Drop for TransferHandle {
    fn drop(&mut self) {
        if self.client.end_transfer() == 1 {
            self.active_clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How far the server is on its way to the end.
#[derive(Debug, Default)]
struct Phase {
    draining: AtomicBool,
    aborting: AtomicBool,
}

impl Shared {
    /// Opens the root. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub(crate) fn new(
        config: ServeConfig,
        counters: Arc<Counters>,
        journal: AccessLog,
        closer: Sender<Closing>,
    ) -> io::Result<Self> {
        let shown = if config.hidden {
            Shown::All
        } else {
            Shown::Visible
        };
        let root = Root::open(&config.root, shown, closer)?;
        let bulk = Semaphore::new(config.limits.bulk_transfers);
        let long_queues = Semaphore::new(LONG_QUEUES);
        let (active_clients, phase) = (Arc::default(), Phase::default());
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
    pub(crate) fn drain(&self) {
        self.phase.draining.store(true, Ordering::SeqCst);
    }

    /// Whether connections are to close once nothing is owed on them.
    #[inline]
    #[must_use]
    pub(crate) fn is_draining(&self) -> bool {
        self.phase.draining.load(Ordering::Relaxed)
    }

    /// Has all connections close now.
    pub(crate) fn abort(&self) {
        self.drain();
        self.phase.aborting.store(true, Ordering::SeqCst);
    }

    /// Whether all connections are to close now.
    #[inline]
    #[must_use]
    pub(crate) fn is_aborting(&self) -> bool {
        self.phase.aborting.load(Ordering::Relaxed)
    }

    /// Counts a transfer to this client until the handle is dropped.
    pub(crate) fn begin_transfer(&self, client: &Arc<ClientShare>) -> TransferHandle {
        if client.begin_transfer() == 0 {
            self.active_clients.fetch_add(1, Ordering::Relaxed);
        }
        TransferHandle {
            client: Arc::clone(client),
            active_clients: Arc::clone(&self.active_clients),
        }
    }

    /// The rate in bytes a second that one transfer of this client may have now, if any limit is
    /// set: clients share the total, and transfers share their client's part.
    #[must_use]
    pub(crate) fn rate_for(&self, client: &ClientShare) -> Option<u64> {
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
