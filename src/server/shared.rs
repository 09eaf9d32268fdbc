//! What all connections of one server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::server::access::Access;
use crate::server::client_share::{ClientShares, ShareHandle};
use crate::server::config::{AccessConfig, ServeConfig};
use crate::server::digests::DigestService;
use crate::server::files::{Closing, LinkChoice, Root};
use crate::server::rate_limit::RateLimit;
use crate::server::semaphore::Semaphore;
use crate::server::telemetry::access_log::AccessLog;
use crate::server::telemetry::responses::Responses;
use crate::server::telemetry::transfers::Transfers;
use crate::server::telemetry::{Counters, Peer};
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
    /// Who is here.
    pub clients: ClientShares,
    /// What came of responses.
    pub responses: Responses,
    /// Where observers, if there are any, see responses under way.
    pub transfers: Transfers,
    /// When the root could last be read, for observers.
    root_seen: RootSeen,
    /// Connections whose send queue may be long.
    pub long_queues: Arc<Semaphore>,
    /// What all connections together may send.
    rate: Option<RateLimit>,
    /// Digests of files.
    pub digests: Arc<DigestService>,
    phase: Phase,
}

/// When the root could last be read.
#[derive(Debug)]
struct RootSeen {
    epoch: Instant,
    /// Milliseconds since `epoch`, and one more; 0 if it never could be.
    at: AtomicU64,
}

impl Default for RootSeen {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            at: AtomicU64::new(0),
        }
    }
}

impl RootSeen {
    fn note(&self) {
        let since = self.epoch.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1);
        self.at.store(since + 1, Ordering::Relaxed);
    }

    fn when(&self) -> Option<Instant> {
        let at = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.epoch + Duration::from_millis(at))
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
        let clients = ClientShares::new(config.rates.client);
        let transfers = match config.admin {
            Some(_) => Transfers::observed(),
            None => Transfers::unobserved(),
        };
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
            clients,
            responses: Responses::default(),
            transfers,
            root_seen: RootSeen::default(),
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

    /// Reads the root, if somebody observes; waits for as long as its file system does.
    pub(crate) fn look_at_root(&self) {
        if !self.transfers.are_observed() {
            return;
        }
        let read =
            std::fs::read_dir(&self.config.root).and_then(|mut entries| entries.next().transpose());
        if read.is_ok() {
            self.root_seen.note();
        }
    }

    /// When the root could last be read.
    pub(crate) fn root_seen(&self) -> Option<Instant> {
        self.root_seen.when()
    }

    /// Whether a client has more connections than it may: an address, and for two of them an IPv6
    /// network.
    pub(crate) fn has_too_many(&self, share: &ShareHandle, peer: Peer) -> bool {
        let limits = &self.config.limits;
        let most = match peer.is_on_this_host() {
            true => limits.connections_per_client,
            false => limits
                .connections_per_client
                .min(limits.connections_per_remote_client),
        };
        share.address().connections() > most
            || share.client().connections() > most.saturating_mul(2)
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
