//! `haul serve`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use haul::diagnostics::say;
use haul::internals::{exit_now, host_name as kernel_host_name, raise_open_files};
use haul::server::config::{
    CacheChoice, ConnectionLimits, Deadlines, IndexChoice, ListingChoice, MinRate, Precompressed,
    Rates, SendChoice, ServeConfig,
};
use haul::server::config::{CacheRule, Cors, DotNames, EtagChoice, Field, HttpLimits, HttpPolicy};
use haul::server::telemetry::access_log::Destination;
use haul::server::{Handle, Server};

use crate::cli::values::{duration, listen_address, positive_duration, positive_size, size};

const EXAMPLES: &str = "\
Examples:
  haul serve                                  this directory, on http://127.0.0.1:7788/
  haul serve --root /data --listen 0.0.0.0:80 a data directory, to the network
  haul serve --total-rate 100MB               at most 100 MB a second in all
  printf 'big.iso' | nc -N HOST 7788 >big.iso the name protocol: a name, then its bytes
  curl -OC - http://HOST:7788/big.iso         HTTP, resumable

Every option can be given as an environment variable as well: HAUL_ROOT, HAUL_WORKERS, ...
SIGTERM and SIGINT let transfers finish (--drain-timeout); a second one ends at once. SIGHUP reopens
the access log.";

/// The options of `haul serve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArguments {
    /// Directory whose files are served, and nothing outside of it [env: HAUL_ROOT=]
    // Not by `env`: then clap would take the variable and DIR for a contradiction.
    #[arg(long, short, value_name = "DIR", default_value_os_t = root_of_environment())]
    root: PathBuf,

    /// The same as --root DIR
    #[arg(value_name = "DIR", conflicts_with = "root")]
    directory: Option<PathBuf>,

    /// Directory that links beneath the root may lead beneath as well; may be repeated
    #[arg(long, env = "HAUL_LINKS_INTO", value_name = "DIR")]
    links_into: Vec<PathBuf>,

    /// Address to listen on; may be repeated. Port 0 takes a free port
    #[arg(long, short, env = "HAUL_LISTEN", value_name = "[HOST:]PORT",
        default_value = "127.0.0.1:7788", value_parser = listen_address, value_delimiter = ',')]
    listen: Vec<SocketAddr>,

    /// Threads that send [default: one a core]
    #[arg(long, short, env = "HAUL_WORKERS", value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Threads that wait for disks [default: four a core, at least 8]
    #[arg(long, env = "HAUL_DISK_WORKERS", value_name = "N")]
    disk_workers: Option<NonZeroUsize>,

    /// Serve names that begin with a dot as well
    #[arg(long, env = "HAUL_HIDDEN")]
    hidden: bool,

    /// What to log for each response
    #[arg(long, env = "HAUL_LOG", value_name = "WHAT", default_value = "access")]
    log: LogArg,

    /// Write the access log to a file instead of standard error
    #[arg(long, env = "HAUL_ACCESS_LOG", value_name = "FILE")]
    access_log: Option<PathBuf>,

    /// How long transfers may go on after SIGTERM or SIGINT
    #[arg(long, alias = "grace", env = "HAUL_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = duration)]
    drain_timeout: Duration,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    deadlines: DeadlineArgs,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    tuning: TuningArgs,
}

/// What goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogArg {
    /// Nothing
    Off,
    /// One line a response
    Access,
    /// One line a response, and the counters at the end
    Debug,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections at once [default: what the limit on open files allows]
    #[arg(long, env = "HAUL_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<NonZeroUsize>,

    /// Connections of one address at once, and half as many as of an IPv6 /64 [default: a quarter
    /// of all connections for clients on other hosts; no limit for those on this one]
    #[arg(long, env = "HAUL_MAX_PER_CLIENT", value_name = "N")]
    max_per_client: Option<NonZeroUsize>,

    /// Transfers of large files at once; more are answered with 503 [default: 15/16 of the
    /// connections, so that small requests always find room]
    #[arg(
        long,
        alias = "max-bulk",
        env = "HAUL_MAX_LARGE_TRANSFERS",
        value_name = "N"
    )]
    max_large_transfers: Option<NonZeroUsize>,

    /// Bytes a second that one connection may have
    #[arg(long, env = "HAUL_RATE", value_name = "SIZE", value_parser = positive_size)]
    rate: Option<u64>,

    /// Bytes a second that one client may have over all its connections
    #[arg(long, env = "HAUL_CLIENT_RATE", value_name = "SIZE", value_parser = positive_size)]
    client_rate: Option<u64>,

    /// Bytes a second that all connections together may have
    #[arg(long, env = "HAUL_TOTAL_RATE", value_name = "SIZE", value_parser = positive_size)]
    total_rate: Option<u64>,

    /// Close connections whose client takes fewer bytes a second than this
    #[arg(long, env = "HAUL_MIN_RATE", value_name = "SIZE", value_parser = positive_size)]
    min_rate: Option<u64>,

    /// The time over which --min-rate is measured
    #[arg(long, env = "HAUL_MIN_RATE_GRACE", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    min_rate_grace: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Deadlines")]
struct DeadlineArgs {
    /// For a connection's first byte
    #[arg(long, alias = "first-byte", env = "HAUL_FIRST_BYTE_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    first_byte_timeout: Duration,

    /// From the first byte of a request to its last
    #[arg(long, alias = "head", env = "HAUL_HEAD_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    head_timeout: Duration,

    /// Silence after which a bare name counts as whole
    #[arg(long, env = "HAUL_NAME_GRACE", value_name = "DURATION", default_value = "100ms",
        value_parser = positive_duration)]
    name_grace: Duration,

    /// Between two requests on one connection
    #[arg(long, env = "HAUL_IDLE", value_name = "DURATION", default_value = "75s",
        value_parser = positive_duration)]
    idle: Duration,

    /// For a client that takes no byte of its response; one that moves is never cut
    #[arg(long, alias = "send-stall", env = "HAUL_SEND_TIMEOUT", value_name = "DURATION", default_value = "60s",
        value_parser = positive_duration)]
    send_timeout: Duration,

    /// For a response in all [default: no limit]
    #[arg(long, env = "HAUL_RESPONSE_TIMEOUT", value_name = "DURATION",
        value_parser = positive_duration)]
    response_timeout: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
struct HttpArgs {
    /// What entity tags are made of
    #[arg(
        long,
        env = "HAUL_ETAG",
        value_name = "CHOICE",
        default_value = "inode"
    )]
    etag: EtagArg,

    /// A header field for every response; may be repeated
    #[arg(long, env = "HAUL_HEADER", value_name = "NAME: VALUE", value_parser = Field::parse)]
    header: Vec<Field>,

    /// Let scripts of other origins read what is served
    #[arg(long, env = "HAUL_CORS")]
    cors: bool,

    /// Cache-Control for the names that match; may be repeated, the first match counts
    #[arg(long, env = "HAUL_CACHE_CONTROL", value_name = "GLOB=VALUE",
        value_parser = CacheRule::parse)]
    cache_control: Vec<CacheRule>,

    /// Let x.zst, x.br and x.gz, where they are no older than x, answer for x
    #[arg(long, env = "HAUL_PRECOMPRESSED")]
    precompressed: bool,

    /// Do not answer for a directory with its index.html
    #[arg(long, env = "HAUL_NO_INDEX")]
    no_index: bool,

    /// Do not list directories
    #[arg(long, env = "HAUL_NO_LISTING")]
    no_listing: bool,

    /// Ranges in one request; more are answered with the whole file
    #[arg(long, env = "HAUL_MAX_RANGES", value_name = "N", default_value_t = 64)]
    max_ranges: usize,

    /// Longest request line, in bytes (414)
    #[arg(long, env = "HAUL_MAX_REQUEST_LINE", value_name = "SIZE", default_value = "16KiB",
        value_parser = positive_size)]
    max_request_line: u64,

    /// Largest request head, in bytes (431)
    #[arg(long, env = "HAUL_MAX_HEAD", value_name = "SIZE", default_value = "32KiB",
        value_parser = positive_size)]
    max_head: u64,

    /// Header fields in a request (431)
    #[arg(long, env = "HAUL_MAX_FIELDS", value_name = "N", default_value_t = 100,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new()
            .range(1..=HttpLimits::MOST_FIELDS as u64))]
    max_fields: usize,

    /// Largest request body that is thrown away to keep the connection (413)
    #[arg(long, env = "HAUL_MAX_BODY", value_name = "SIZE", default_value = "1MiB",
        value_parser = size)]
    max_body: u64,

    /// Requests on one connection
    #[arg(long, env = "HAUL_MAX_REQUESTS", value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    max_requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EtagArg {
    /// Device, inode, length, mtime and ctime: no two contents share one
    Inode,
    /// Mtime and length: the same on replicas behind a balancer that keep the mtime
    MtimeSize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Tuning")]
struct TuningArgs {
    /// How file bytes get into a socket
    #[arg(
        long,
        env = "HAUL_TRANSMIT",
        value_name = "CHOICE",
        default_value = "auto"
    )]
    transmit: TransmitArg,

    /// Bytes a connection may send before others get their turn
    #[arg(long, env = "HAUL_QUANTUM", value_name = "SIZE", default_value = "2MiB",
        value_parser = positive_size)]
    quantum: u64,

    /// Drop a file's pages from the page cache behind its only reader, where the file had to come
    /// from a disk
    #[arg(long, env = "HAUL_CACHE_DROP_BEHIND")]
    cache_drop_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransmitArg {
    /// sendfile(2), and read and write where a file system refuses it
    Auto,
    /// Read and write, always
    Copy,
}

impl ServeArguments {
    /// Serves until a signal ends it.
    pub(crate) fn run(self) -> ExitCode {
        let open_files = raise_open_files().unwrap_or(FEW_OPEN_FILES);
        let log = self.log;
        let config = self.into_config(open_files);
        warn_of_connections_without_files(&config, open_files);
        let server = match Server::bind(config.clone()) {
            Ok(server) => server,
            Err(error) => {
                say(format_args!("haul: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let cut_short = match follow_signals(server.handle(), config.grace) {
            Ok(cut_short) => cut_short,
            Err(error) => {
                say(format_args!("haul: cannot take signals: {error}"));
                return ExitCode::FAILURE;
            }
        };
        if let Some(limits) = server.limitations() {
            say(format_args!("haul: {limits}"));
        }
        announce(&config, server.local_addrs());
        match server.run() {
            Ok(counters) => {
                if log == LogArg::Debug {
                    say(format_args!("{counters:#?}"));
                }
                ExitCode::from(cut_short.load(Ordering::Relaxed))
            }
            Err(error) => {
                say(format_args!("haul: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn into_config(self, open_files: u64) -> ServeConfig {
        let defaults = ServeConfig::default();
        let access_log = match (self.log, self.access_log) {
            (LogArg::Off, _) => Destination::Nowhere,
            (_, Some(path)) => Destination::File(path),
            (_, None) => Destination::StandardError,
        };
        let workers = self.workers.unwrap_or(defaults.workers);
        ServeConfig {
            root: self.directory.unwrap_or(self.root),
            links_into: self.links_into,
            listen: self.listen,
            workers,
            disk_workers: self.disk_workers.unwrap_or(defaults.disk_workers),
            transmit: match self.tuning.transmit {
                TransmitArg::Auto => SendChoice::Auto,
                TransmitArg::Copy => SendChoice::Copy,
            },
            quantum_bytes: self.tuning.quantum,
            dot_names: if self.hidden {
                DotNames::Shown
            } else {
                DotNames::Hidden
            },
            precompressed: if self.http.precompressed {
                Precompressed::Serve
            } else {
                Precompressed::Ignore
            },
            index: if self.http.no_index {
                IndexChoice::Ignore
            } else {
                IndexChoice::Serve
            },
            listing: if self.http.no_listing {
                ListingChoice::Refuse
            } else {
                ListingChoice::Show
            },
            cache: match self.tuning.cache_drop_behind {
                true => CacheChoice::DropBehind,
                false => CacheChoice::Keep,
            },
            limits: self.limits.connection_limits(open_files, workers.get()),
            deadlines: Deadlines {
                first_byte: self.deadlines.first_byte_timeout,
                head: self.deadlines.head_timeout,
                name_grace: self.deadlines.name_grace,
                idle: self.deadlines.idle,
                send_stall: self.deadlines.send_timeout,
                response: self.deadlines.response_timeout,
                ..defaults.deadlines
            },
            rates: self.limits.rates(),
            grace: self.drain_timeout,
            access_log,
            http_limits: self.http.limits(),
            http: self.http.policy(),
        }
    }
}

/// How many connections a limit on open files allows for.
fn allowed_connections(open_files: u64, workers: usize) -> usize {
    // Each connection may need a second descriptor for its file, and haul has some itself.
    let allowed = usize::try_from(open_files)
        .unwrap_or(usize::MAX)
        .min(MOST_OPEN_FILES);
    let own = OWN_OPEN_FILES + workers.saturating_mul(WORKERS_OPEN_FILES);
    (allowed.saturating_sub(own) / 2).max(1)
}

/// Says so where `--max-connections` is more than the limit on open files allows for.
fn warn_of_connections_without_files(config: &ServeConfig, open_files: u64) {
    let (asked, allowed) = (
        config.limits.connections,
        allowed_connections(open_files, config.workers.get()),
    );
    if asked > allowed {
        say(format_args!(
            "haul: --max-connections {asked} is more than the limit of {open_files} open files \
             allows for ({allowed}, each with a file of its own); beyond that newcomers wait. \
             Raise the limit with `ulimit -n` or systemd's LimitNOFILE="
        ));
    }
}

impl LimitArgs {
    fn connection_limits(&self, open_files: u64, workers: usize) -> ConnectionLimits {
        let allowed = allowed_connections(open_files, workers);
        let connections = self.max_connections.map_or(allowed, NonZeroUsize::get);
        let connections = connections.min(MAX_CONNECTIONS);
        let limits = ConnectionLimits::for_connections(connections);
        ConnectionLimits {
            connections,
            connections_per_client: self
                .max_per_client
                .map_or(limits.connections_per_client, NonZeroUsize::get),
            connections_per_remote_client: self
                .max_per_client
                .map_or(limits.connections_per_remote_client, NonZeroUsize::get),
            bulk_transfers: self
                .max_large_transfers
                .map_or(limits.bulk_transfers, NonZeroUsize::get),
        }
    }

    fn rates(&self) -> Rates {
        let grace = self.min_rate_grace;
        let least = |bytes_per_second| MinRate {
            bytes_per_second,
            grace,
        };
        Rates {
            connection: self.rate,
            client: self.client_rate,
            total: self.total_rate,
            least: self.min_rate.map(least),
        }
    }
}

impl HttpArgs {
    fn limits(&self) -> HttpLimits {
        let bytes = |size: u64| {
            usize::try_from(size)
                .unwrap_or(usize::MAX)
                .min(MAX_HEAD_BYTES)
        };
        HttpLimits {
            request_line_bytes: bytes(self.max_request_line),
            head_bytes: bytes(self.max_head),
            fields: self.max_fields,
            ranges: self.max_ranges,
            discarded_body_bytes: self.max_body,
            requests_per_connection: self.max_requests,
        }
    }

    fn policy(self) -> HttpPolicy {
        HttpPolicy {
            etag: match self.etag {
                EtagArg::Inode => EtagChoice::Inode,
                EtagArg::MtimeSize => EtagChoice::MtimeSize,
            },
            cors: if self.cors {
                Cors::AnyOrigin
            } else {
                Cors::SameOrigin
            },
            cache_control: self.cache_control,
            fields: self.header,
        }
    }
}

/// Says what is served, where, and how to reach it.
fn announce(config: &ServeConfig, addresses: &[SocketAddr]) {
    let root = config
        .root
        .canonicalize()
        .unwrap_or_else(|_| config.root.clone());
    let (hot, cold) = (config.workers, config.disk_workers);
    say(format_args!(
        "haul {} serves {}",
        env!("CARGO_PKG_VERSION"),
        root.display()
    ));
    say(format_args!(
        "with {hot} workers and {cold} disk workers, for up to {} connections",
        config.limits.connections
    ));
    for address in addresses {
        let host = match address.ip() {
            ip if ip.is_unspecified() => host_name(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        say(format_args!("  http://{host}:{}/", address.port()));
    }
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        let port = addresses.first().map_or(0, SocketAddr::port);
        say(format_args!(
            "only this host can reach it; for the network: --listen 0.0.0.0:{port}"
        ));
    }
    for address in addresses {
        say(format_args!("listening on {address}"));
    }
}

fn host_name() -> String {
    kernel_host_name().unwrap_or_else(|| "localhost".into())
}

fn root_of_environment() -> PathBuf {
    let root = std::env::var_os("HAUL_ROOT").filter(|root| !root.is_empty());
    root.map_or_else(|| ".".into(), PathBuf::from)
}

/// Starts the thread that turns signals into calls. Returns where the exit status will be: 0, but
/// that of the second signal if there was one.
fn follow_signals(handle: Handle, grace: Duration) -> std::io::Result<Arc<AtomicU8>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let status = Arc::new(AtomicU8::new(0));
    let cut_short = Arc::clone(&status);
    let follow = move || {
        let mut asked = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => handle.reopen_access_log(),
                _ if asked => {
                    status.store(128 + signal as u8, Ordering::Relaxed);
                    handle.abort();
                    // A disk that hangs may keep threads from ending.
                    std::thread::sleep(AT_ONCE);
                    exit_now(128 + signal)
                }
                _ => {
                    asked = true;
                    let open = handle.counters().open;
                    handle.shut_down();
                    say(format_args!(
                        "haul: ending; {open} connections have {} s to finish, a second signal \
                         ends at once",
                        grace.as_secs_f64()
                    ));
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("haul-signals".into())
        .spawn(follow)?;
    Ok(cut_short)
}

/// Time for the resets and their lines in the log after the second signal.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Descriptors that haul needs besides connections and files.
const OWN_OPEN_FILES: usize = 64;
/// Descriptors that each worker needs for itself: a poller, its wake-up, both ends of a pipe.
const WORKERS_OPEN_FILES: usize = 4;
/// The limit on open files if it cannot be asked for.
const FEW_OPEN_FILES: u64 = 1024;
/// More connections than Linux has descriptors for.
const MAX_CONNECTIONS: usize = 1 << 22;
/// No request head needs more; sums with it do not wrap.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// Beyond this, tables and channels would cost memory for connections that never come.
const MOST_OPEN_FILES: usize = 1 << 20;
