//! The state that all connections of one server share.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::server::access::Access;
use crate::server::client_share::{ClientShares, ShareHandle};
use crate::server::config::{AccessConfig, ConnectionLimits, Rates, ServeConfig};
use crate::server::digests::DigestService;
use crate::server::disk_waits::DiskWaits;
use crate::server::files::{Closing, FileFault, LinkChoice, Root};
use crate::server::listing::ScanRegistry;
use crate::server::live_limits::LiveLimits;
use crate::server::rate_limit::RateLimit;
use crate::server::semaphore::Semaphore;
use crate::server::telemetry::access_log::AccessLog;
use crate::server::telemetry::responses::Responses;
use crate::server::telemetry::transfers::Transfers;
use crate::server::telemetry::{Counters, Peer};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::resources;
use crate::tls::server::ServerTls;

/// The state that all connections of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The settings.
    pub config: ServeConfig,
    /// The served directory.
    pub root: Root,
    /// The rules of access; `None` where all is open.
    pub access: Option<Arc<Access>>,
    /// The counters of events.
    pub counters: Arc<Counters>,
    /// The certificates and keys, if the server has TLS listeners.
    pub tls: Option<ServerTls>,
    /// Where access records go.
    pub journal: AccessLog,
    /// Connections within the limit.
    pub connections: Arc<Semaphore>,
    /// Connections in the disk queue.
    pub disk_waits: Arc<DiskWaits>,
    /// Transfers of large files.
    pub bulk: Arc<Semaphore>,
    /// The clients that are connected.
    pub clients: ClientShares,
    /// The outcomes of responses.
    pub responses: Responses,
    /// Where observers, if there are any, see responses under way.
    pub transfers: Transfers,
    /// When the root could last be read, for observers.
    root_seen: RootSeen,
    /// Connections whose send queue may be long.
    pub long_queues: Arc<Semaphore>,
    /// Requests, and flights of handshakes, of which more has come than most have in all, and which
    /// are not whole.
    pub long_requests: Arc<Semaphore>,
    /// The rate of all connections together.
    rate: RateLimit,
    /// Rates and limits as they are now; those of `config` are of the start.
    limits: LiveLimits,
    /// Digests of files.
    pub digests: Arc<DigestService>,
    /// Pages of listings whose names may be in memory, by file system: one that hangs takes none
    /// of another's.
    pages: Mutex<HashMap<u64, Arc<Semaphore>>>,
    /// Scans of directories that connections share.
    pub scans: Arc<ScanRegistry>,
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
    handed_over: AtomicBool,
    aborting: AtomicBool,
}

#[cfg(test)]
impl Shared {
    /// A service without a log, which closes files where they are dropped.
    pub(crate) fn without_log(config: ServeConfig) -> Self {
        use crate::server::telemetry::access_log::Destination;

        let counters = Arc::new(Counters::default());
        let format = config.log_format;
        let log = AccessLog::open(Destination::Nowhere, format, Arc::clone(&counters));
        let (log, _) = log.expect("nothing to open");
        let (closer, _) = crossbeam_channel::unbounded();
        Self::new(config, counters, log, closer).expect("a root")
    }
}

impl Shared {
    /// Opens the root. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// The root or a file cannot be opened.
    pub(crate) fn new(
        config: ServeConfig,
        counters: Arc<Counters>,
        journal: AccessLog,
        closer: Sender<Closing>,
    ) -> Result<Self, RootError> {
        let AccessConfig {
            protect, link_keys, ..
        } = &config.access;
        let links = match protect.is_empty() && link_keys.is_none() {
            true => LinkChoice::Follow,
            false => LinkChoice::Trace,
        };
        let root = open_root(&config, closer)?
            .with_siblings(config.precompressed)
            .with_links(links);
        let connections = Semaphore::new(config.limits.connections);
        let bulk = Semaphore::new(config.limits.bulk_transfers);
        let long_queues = Semaphore::new(long_queues());
        let clients = ClientShares::new(config.rates.client);
        let transfers = match config.admin {
            Some(_) => Transfers::observed(),
            None => Transfers::unobserved(),
        };
        let rate = RateLimit::new(config.rates.total, Instant::now());
        let limits = LiveLimits::new(&config.rates, &config.limits);
        let digests = DigestService::new(config.digests, config.state.as_deref());
        let digests = Arc::new(digests);
        let scans = Arc::new(ScanRegistry::new(Arc::clone(&counters)));
        Ok(Self {
            config,
            root,
            access: None,
            counters,
            tls: None,
            journal,
            connections,
            disk_waits: Arc::default(),
            bulk,
            clients,
            responses: Responses::default(),
            transfers,
            root_seen: RootSeen::default(),
            long_queues,
            long_requests: Semaphore::new(LONG_REQUESTS),
            rate,
            limits,
            digests,
            pages: Mutex::default(),
            scans,
            phase: Phase::default(),
        })
    }

    /// With rules of access.
    #[must_use]
    pub(crate) fn with_access(self, access: Option<Access>) -> Self {
        let access = access.map(Arc::new);
        Self { access, ..self }
    }

    /// With what TLS sessions are made from.
    pub(crate) fn with_tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// Whether a handshake takes longer than a hot worker has.
    pub(crate) fn has_slow_keys(&self) -> bool {
        self.tls.as_ref().is_some_and(ServerTls::is_slow)
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

    /// Notes that another server has the sockets.
    pub(crate) fn hand_over(&self) {
        self.phase.handed_over.store(true, Ordering::SeqCst);
    }

    /// Whether another server has the sockets.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.phase.handed_over.load(Ordering::SeqCst)
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

    /// Reads the root, if there are observers; waits for as long as its file system does.
    pub(crate) fn look_at_root(&self) {
        if !self.transfers.are_observed() {
            return;
        }
        let read = match self.config.files.first() {
            Some(file) => std::fs::metadata(file).map(drop),
            None => std::fs::read_dir(&self.config.root)
                .and_then(|mut entries| entries.next().transpose().map(drop)),
        };
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
        let most = self.limits.connections_per_client(peer.is_on_this_host());
        share.address().connections() > most
            || share.client().connections() > most.saturating_mul(2)
    }

    /// The permits for pages of listings on a file system. For the disk queue.
    pub(crate) fn pages(&self, device: u64) -> Arc<Semaphore> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = pages.entry(device);
        Arc::clone(of_device.or_insert_with(|| Semaphore::new(PAGES_IN_MEMORY)))
    }

    /// Whether another connection may wait for this file system: at most as many as there are
    /// connections left, so that a hung file system shuts no other client out.
    pub(crate) fn may_wait_for(&self, device: u64) -> bool {
        self.disk_waits.count(device) <= self.connections.left()
    }

    /// The rate of all connections together.
    pub(crate) fn rate(&self) -> &RateLimit {
        &self.rate
    }

    /// The rates as they are now.
    #[inline]
    pub(crate) fn rates(&self) -> Rates {
        self.limits.rates()
    }

    /// Changes rates and limits, for transfers under way too.
    pub(crate) fn set_limits(&self, rates: &Rates, limits: &ConnectionLimits) {
        self.limits.set(rates, limits);
        self.rate.set(rates.total);
        self.clients.set_rate(rates.client);
        self.connections.set_most(limits.connections);
        self.bulk.set_most(limits.bulk_transfers);
    }
}

/// A fault of the files to serve.
#[derive(Debug)]
pub(crate) enum RootError {
    /// The directory.
    Directory(PathBuf, io::Error),
    /// A file that was named.
    File(PathBuf, FileFault),
}

/// Opens the root or the served files.
///
/// # Errors
/// The root or a file cannot be opened.
pub(crate) fn open_root(config: &ServeConfig, closer: Sender<Closing>) -> Result<Root, RootError> {
    if config.files.is_empty() {
        return Root::open(&config.root, &config.links_into, config.dot_names, closer)
            .map_err(|error| RootError::Directory(config.root.clone(), error));
    }
    Root::of_files(&config.files, &config.links_into, closer)
        .map_err(|(path, fault)| RootError::File(path, fault))
}

/// The limit of long send queues: together half of the memory at which the kernel begins to save
/// (`tcp_mem`, tcp(7)).
fn long_queues() -> usize {
    let bytes = resources::tcp_memory_under_pressure();
    bytes.map_or(FEW_LONG_QUEUES, |bytes| {
        usize::try_from(bytes / 2 / u64::from(LONG_BYTES)).map_or(usize::MAX, |many| many.max(1))
    })
}

/// The default number of concurrent listings of one file system; 1,000 of the longest names each
/// are one and a half MiB.
const PAGES_IN_MEMORY: usize = 4;

/// At the largest head of 32 KiB, 8 MiB.
const LONG_REQUESTS: usize = 256;

/// The unsent bytes that a send queue may hold at first: enough for a fast reader at a short
/// round-trip time; ten thousand stalled readers still leave TCP memory for the others.
pub(crate) const UNSENT_BYTES: u32 = 16 << 10;

/// Bytes that may wait unsent for a peer that reads.
pub(crate) const LONG_BYTES: u32 = 4 << 20;

/// The default without a known limit of TCP memory: half a gibibyte.
const FEW_LONG_QUEUES: usize = 128;
