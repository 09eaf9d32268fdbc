//! Validated settings, independent of the command line.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::http::forwarded;
pub use crate::http::forwarded::ForwardedField;
pub use crate::http::policy::{
    CacheRule, Cors, DotNames, EtagChoice, Field, HttpLimits, HttpPolicy, ListingPolicy,
};
pub use crate::server::network::Network;
use crate::server::telemetry::Peer;
use crate::server::telemetry::access_log::Destination;
use crate::server::telemetry::log_format::LogFormat;
pub use crate::sys::inherited::InheritedListener;
pub use crate::sys::local_socket::{LocalAccess, LocalAddress};
use crate::sys::sandbox::AllowedPaths;
pub use crate::sys::user::UserAccount;
pub use crate::tls::server::{ClientAuth, IdentityFiles, OwnIdentity, TlsConfig};

/// How file bytes get into a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendChoice {
    /// sendfile(2), and read and write for files that refuse it.
    #[default]
    Auto,
    /// Read and write, always.
    Copy,
}

/// Whether a huge file that is read once may stay in the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheChoice {
    /// Leave the page cache to the kernel.
    #[default]
    Keep,
    /// Drop the sent pages of a file with one reader, if a disk worker had to read them.
    DropBehind,
}

/// Whether a directory is answered with its `index.html`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexChoice {
    /// The index file is the answer for its directory.
    #[default]
    Serve,
    /// The index file is a file like any other.
    Ignore,
}

/// Whether directories are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListingChoice {
    /// Directories are listed.
    #[default]
    Show,
    /// Listings do not exist for clients.
    Refuse,
}

/// Whether the kernel limits a running server to its rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxChoice {
    /// As far as this kernel can.
    #[default]
    Auto,
    /// Wholly, or the server does not start.
    Require,
    /// The process is not confined.
    Off,
}

/// Whether the kernel seals and opens the records of TLS, where it can (kernel TLS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelTlsChoice {
    /// For large responses.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Which files' digests are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestChoice {
    /// None, and none are given.
    Off,
    /// Digests that a request wants.
    #[default]
    Asked,
    /// Digests of all files, from the start on.
    All,
}

/// The limits of computing digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestPolicy {
    /// Which are computed.
    pub choice: DigestChoice,
    /// Bytes a second that each of the threads that hash may read.
    pub rate: u64,
}

impl Default for DigestPolicy {
    fn default() -> Self {
        Self {
            choice: DigestChoice::default(),
            rate: 256 << 20,
        }
    }
}

/// Proxies that are trusted to name their client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Networks whose connections have to begin with a PROXY header.
    pub introduced: Vec<Network>,
    /// Networks whose proxies name their client in a field of each request.
    pub forwarding: Vec<Network>,
    /// The field.
    pub field: ForwardedField,
}

impl Proxies {
    /// Whether a peer begins with a PROXY header.
    #[inline]
    pub(crate) fn has_introduced(&self, peer: Peer) -> bool {
        self.introduced.iter().any(|network| network.holds(peer))
    }

    /// Whether a peer names its client in a field.
    #[inline]
    pub(crate) fn has_forwarding(&self, peer: Peer) -> bool {
        self.forwarding.iter().any(|network| network.holds(peer))
    }

    /// The client named in a request's head, if the peer is a trusted proxy.
    #[inline]
    pub(crate) fn named_by(&self, head: &[u8]) -> Option<IpAddr> {
        if self.forwarding.is_empty() {
            return None;
        }
        let is_proxy = |ip| {
            self.forwarding
                .iter()
                .any(|network| network.holds_address(ip))
        };
        forwarded::client(head, self.field, is_proxy)
    }
}

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// On a TCP port.
    Inet(SocketAddr),
    /// On a Unix socket.
    Local(LocalAddress),
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Local(address) => address.fmt(formatter),
        }
    }
}

/// The clients that the admin interface answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminReach {
    /// Clients on this host, with a `Host` that names it.
    #[default]
    ThisHost,
    /// Every client that can reach it.
    Anywhere,
}

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The directory that is served, if no `files` are.
    pub root: PathBuf,
    /// Files that are served by their names, without the rest of their directories.
    pub files: Vec<PathBuf>,
    /// Directories outside the root that links may lead into.
    pub links_into: Vec<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Unix sockets to listen on.
    pub listen_local: Vec<LocalAddress>,
    /// The owner and mode of local sockets.
    pub local_access: LocalAccess,
    /// Listening sockets that were passed on by the process that started this one.
    pub inherited: Vec<Arc<InheritedListener>>,
    /// Where the admin interface listens; `None` is nowhere.
    pub admin: Option<AdminAddress>,
    /// The clients that the admin interface answers.
    pub admin_reach: AdminReach,
    /// Proxies that are trusted.
    pub proxies: Proxies,
    /// The user to become once all addresses are bound.
    pub user: Option<UserAccount>,
    /// Where to listen for TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificates, for TLS.
    pub tls: TlsConfig,
    /// Whether the kernel seals and opens the records of TLS.
    pub kernel_tls: KernelTlsChoice,
    /// The number of hot workers.
    pub workers: NonZeroUsize,
    /// The number of disk workers.
    pub disk_workers: NonZeroUsize,
    /// How file bytes get into a socket.
    pub transmit: SendChoice,
    /// Bytes a connection may send before others get their turn.
    pub quantum_bytes: u64,
    /// Whether names that begin with a dot are served.
    pub dot_names: DotNames,
    /// Whether precompressed siblings (`x.zst`, `x.br`, `x.gz`) answer for `x`.
    pub precompressed: Precompressed,
    /// Whether a directory is answered with its `index.html`.
    pub index: IndexChoice,
    /// Whether directories are listed.
    pub listing: ListingChoice,
    /// The treatment of pages that were sent once.
    pub cache: CacheChoice,
    /// Limits on connections.
    pub limits: ConnectionLimits,
    /// Deadlines of a connection's states.
    pub deadlines: Deadlines,
    /// Limits on speed.
    pub rates: Rates,
    /// The longest time that transfers may continue after a shutdown was requested.
    pub grace: Duration,
    /// The directory of state that outlives a restart; `None` keeps nothing.
    pub state: Option<PathBuf>,
    /// Which digests of files are given, and at what cost.
    pub digests: DigestPolicy,
    /// Where access records go.
    pub access_log: Destination,
    /// Whether the kernel confines the server.
    pub sandbox: SandboxChoice,
    /// How they are written.
    pub log_format: LogFormat,
    /// The rules of access.
    pub access: AccessConfig,
    /// Files that are read again on SIGHUP.
    pub reread: Vec<PathBuf>,
    /// The limits of HTTP requests.
    pub http_limits: HttpLimits,
    /// The fields of HTTP responses besides the file.
    pub http: HttpPolicy,
}

impl ServeConfig {
    /// Whether there is an address for TLS.
    pub(crate) fn speaks_tls(&self) -> bool {
        !self.listen_tls.is_empty() || self.inherited.iter().any(|it| it.speaks_tls())
    }

    /// The paths that are opened while the server runs.
    pub(crate) fn allowed_paths(&self) -> AllowedPaths {
        let mut allowed = AllowedPaths::default();
        let root = Some(&self.root).filter(|_| self.files.is_empty());
        for base in root.into_iter().chain(&self.links_into) {
            allowed.read_replaceable(base);
        }
        for file in &self.files {
            let parent = file.parent().filter(|it| !it.as_os_str().is_empty());
            allowed.read_replaceable(parent.unwrap_or_else(|| Path::new(".")));
            // A link needs the directory of its target as well.
            let end = file.canonicalize().ok();
            allowed
                .read
                .extend(end.as_deref().and_then(Path::parent).map(Path::to_owned));
        }
        if let Destination::File(path) = &self.access_log {
            allowed.append.push(path.clone());
        }
        // Read again at SIGHUP, perhaps after a rename over the old file.
        let access = [&self.access.htpasswd, &self.access.link_keys];
        for file in access.into_iter().flatten().chain(&self.reread) {
            allowed.read_replaceable(file);
        }
        allowed.read.extend(self.tls.directories());
        allowed.change.extend(self.state.clone());
        allowed
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            root: PathBuf::from("."),
            files: Vec::new(),
            links_into: Vec::new(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))],
            listen_local: Vec::new(),
            local_access: LocalAccess::default(),
            inherited: Vec::new(),
            admin: None,
            admin_reach: AdminReach::default(),
            proxies: Proxies::default(),
            user: None,
            listen_tls: Vec::new(),
            tls: TlsConfig::default(),
            kernel_tls: KernelTlsChoice::default(),
            workers: cores,
            disk_workers: cores
                .saturating_mul(NonZeroUsize::MIN.saturating_add(3))
                .max(MIN_DISK),
            transmit: SendChoice::default(),
            quantum_bytes: 2 << 20,
            dot_names: DotNames::Hidden,
            precompressed: Precompressed::default(),
            index: IndexChoice::default(),
            listing: ListingChoice::default(),
            cache: CacheChoice::default(),
            limits: ConnectionLimits::default(),
            deadlines: Deadlines::default(),
            rates: Rates::default(),
            grace: Duration::from_secs(30),
            state: None,
            digests: DigestPolicy::default(),
            access_log: Destination::StandardError,
            sandbox: SandboxChoice::default(),
            log_format: LogFormat::default(),
            access: AccessConfig::default(),
            reread: Vec::new(),
            http_limits: HttpLimits::default(),
            http: HttpPolicy::default(),
        }
    }
}

/// The rules of access. Without a file of passwords or keys, no request needs a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// A file of users and hashes of their passwords, as `htpasswd` writes it.
    pub htpasswd: Option<PathBuf>,
    /// A file of keys that links are signed with.
    pub link_keys: Option<PathBuf>,
    /// The globs that need a login; without any, every path does.
    pub protect: Vec<String>,
}

/// Whether precompressed siblings answer for a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precompressed {
    /// Siblings are ignored: a sibling of another content, or of another version under a resumed
    /// download, would go unnoticed.
    #[default]
    Ignore,
    /// Siblings are served, where they are no older than the file.
    Serve,
}

/// Limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client: an IPv4 address, or an IPv6 /64.
    pub connections_per_client: usize,
    /// The same for clients on other hosts: all connections of a proxy on this host count as one
    /// client.
    pub connections_per_remote_client: usize,
    /// Concurrent transfers of large files; requests beyond them get 503. Less than `connections`,
    /// so that small requests always find room.
    pub bulk_transfers: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::for_connections(4096)
    }
}

impl ConnectionLimits {
    /// The usual limits for so many connections in all.
    #[must_use]
    pub fn for_connections(connections: usize) -> Self {
        let reserve = (connections / 16).max(1);
        Self {
            connections,
            connections_per_client: usize::MAX,
            connections_per_remote_client: (connections / 4).max(MIN_PER_CLIENT),
            bulk_transfers: connections.saturating_sub(reserve).max(1),
        }
    }
}

/// Deadlines of a connection's states. Nothing here ends a transfer that moves, unless the
/// operator set `response` or a minimum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to its last.
    pub head: Duration,
    /// Silence after which a bare name counts as whole.
    pub name_grace: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For a peer that takes no byte.
    pub send_stall: Duration,
    /// For a response in all; `None` is for ever.
    pub response: Option<Duration>,
    /// For the peer to finish after an answer that ends the connection.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            head: Duration::from_secs(30),
            name_grace: Duration::from_millis(100),
            idle: Duration::from_secs(75),
            send_stall: Duration::from_secs(60),
            response: None,
            linger: Duration::from_secs(5),
        }
    }
}

/// Limits on speed, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of one connection.
    pub connection: Option<u64>,
    /// Of all connections of one client.
    pub client: Option<u64>,
    /// Of all connections.
    pub total: Option<u64>,
    /// The least a client must take, measured over `min_rate_grace`.
    pub least: Option<MinRate>,
}

impl Rates {
    /// The lowest of the limits: no connection is faster.
    pub(crate) fn lowest(&self) -> Option<u64> {
        let limits = [self.connection, self.client, self.total];
        limits.into_iter().flatten().min()
    }
}

/// The least a client must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second.
    pub bytes_per_second: u64,
    /// The window over which it is measured, and the time that is given first.
    pub grace: Duration,
}

/// A browser opens six connections.
const MIN_PER_CLIENT: usize = 8;

/// The port that the tutorial's programs use.
pub const DEFAULT_PORT: u16 = 7788;

const MIN_DISK: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not zero");
