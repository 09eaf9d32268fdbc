//! What all connections of one server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::server::access::Access;
use crate::server::config::{AccessConfig, ServeConfig};
use crate::server::digests::DigestService;
use crate::server::files::{Closing, LinkChoice, Root};
use crate::server::rate_limit::RateLimit;
use crate::server::semaphore::Semaphore;
use crate::server::telemetry::Counters;
use crate::server::telemetry::access_log::AccessLog;
use crate::sys::resources;

/// What all connections of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The settings.
    pub config: ServeConfig,
    /// The served directory.
    pub root: Root,
    /// Who may have what; `None` where everybody may have everything.
    pub access: Option<Arc<Access>>,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// Where access records go.
    pub journal: AccessLog,
    /// Transfers of large files.
    pub bulk: Arc<Semaphore>,
    /// Connections whose send queue may be long.
    pub long_queues: Arc<Semaphore>,
    /// What all connections together may send.
    rate: Option<RateLimit>,
    /// Digests of files.
    pub digests: Arc<DigestService>,
    phase: Phase,
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
        let AccessConfig {
            protect, link_keys, ..
        } = &config.access;
        let links = match protect.is_empty() && link_keys.is_none() {
            true => LinkChoice::Follow,
            false => LinkChoice::Trace,
        };
        let root = Root::open(&config.root, &config.links_into, config.dot_names, closer)?
            .with_siblings(config.precompressed)
            .with_links(links);
        let bulk = Semaphore::new(config.limits.bulk_transfers);
        let long_queues = Semaphore::new(long_queues());
        let rate = config.rates.total;
        let rate = rate.map(|rate| RateLimit::new(rate, Instant::now()));
        let digests = DigestService::new(config.digests, config.state.as_deref());
        let digests = Arc::new(digests);
        Ok(Self {
            config,
            root,
            access: None,
            counters,
            journal,
            bulk,
            long_queues,
            rate,
            digests,
            phase: Phase::default(),
        })
    }

    /// With rules about who may have what.
    #[must_use]
    pub(crate) fn with_access(self, access: Option<Access>) -> Self {
        let access = access.map(Arc::new);
        Self { access, ..self }
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

    /// The rate of all connections together, if there is one.
    pub(crate) fn rate(&self) -> Option<&RateLimit> {
        self.rate.as_ref()
    }
}

/// How many connections' send queues may be long: in all half of the memory at which the kernel
/// begins to save (`tcp_mem`, tcp(7)).
fn long_queues() -> usize {
    let bytes = resources::tcp_memory_under_pressure();
    bytes.map_or(FEW_LONG_QUEUES, |bytes| {
        usize::try_from(bytes / 2 / u64::from(LONG_BYTES)).map_or(usize::MAX, |many| many.max(1))
    })
}

/// What may wait unsent for a peer that reads.
pub(crate) const LONG_BYTES: u32 = 4 << 20;

/// Where the system does not say how much memory TCP may have: half a gibibyte.
const FEW_LONG_QUEUES: usize = 128;
