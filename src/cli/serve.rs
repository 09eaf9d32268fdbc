//! `haul serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};

use haul::diagnostics::say;
use haul::internals::{raise_open_files, tell_ready};
use haul::server::Server;
use haul::server::config::{DotNames, ServeConfig};
use haul::server::telemetry::access_log::Destination;

use crate::cli::state::StateArgs;
use crate::cli::values::{grace, threads};

use access::AccessArgs;
use announcement::Announcement;
pub(crate) use config_file::{ConfigFile, fault};
use deadlines::DeadlineArgs;
use digests::DigestArgs;
use http::HttpArgs;
use limits::LimitArgs;
use listen::ListenArgs;
use operations::OperationsArgs;
use reload::Reload;
use sandbox::SandboxArg;
use signals::follow_signals;
use supervisor::{Phase, Supervisor};
use tls::TlsArgs;
use tuning::TuningArgs;
pub(crate) use upgrade::LauncherArguments;
use upgrade::Upgrade;

mod access;
mod announcement;
mod check;
mod config_file;
mod deadlines;
mod digests;
mod http;
mod limits;
mod listen;
mod operations;
mod reload;
mod sandbox;
mod signals;
mod supervisor;
mod tls;
mod tuning;
mod upgrade;

const EXAMPLES: &str = "\
Examples:
  haul serve                                  this directory, on http://127.0.0.1:7788/
  haul serve big.iso notes.pdf                just these files, with commands that fetch them
  haul serve --root /data --listen 0.0.0.0:80 a data directory, to the network
  haul serve --total-rate 100MB               at most 100 MB a second in all
  haul serve --htpasswd ~/users --protect 'private/**'
                                              a password for one directory; `htpasswd -B` adds users
  printf 'big.iso' | nc -N HOST 7788 >big.iso the name protocol: a name, then its bytes
  curl -OC - http://HOST:7788/big.iso         HTTP, resumable
  haul serve --root /data --listen-tls 443 --tls-cert fullchain.pem --tls-key privkey.pem
                                              HTTPS

Every option can be given as an environment variable as well: HAUL_ROOT, HAUL_WORKERS, ...; or in a
file in TOML (--config), as in `listen = ['0.0.0.0:80']` and `total-rate = '100MB'`. The command line
goes before the environment, and that before the file.
SIGTERM and SIGINT let transfers finish (--drain-timeout); a second one ends at once. SIGHUP reopens
the access log, and reads certificates, the files of passwords and keys and the limits of --config
anew. SIGUSR2 starts the program anew, perhaps a newer one, on the same sockets: once that is ready,
this one lets transfers finish and ends; no connection is refused.";

/// The options of `haul serve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArguments {
    /// Directory whose files are served, and nothing outside of it [env: HAUL_ROOT=]
    // Not by `env`: then clap would take the variable and DIR for a contradiction.
    #[arg(long, short, value_name = "DIR", default_value_os_t = root_of_environment())]
    root: PathBuf,

    /// A directory, as by --root; or files, of which each is served by its name and nothing that
    /// lies beside them
    #[arg(value_name = "DIR|FILE", conflicts_with = "root")]
    paths: Vec<PathBuf>,

    /// Directory that links beneath the root may lead beneath as well; may be repeated
    #[arg(long, env = "HAUL_LINKS_INTO", value_name = "DIR")]
    links_into: Vec<PathBuf>,

    /// Read options that are neither here nor in the environment from a file in TOML, under the
    /// same names
    #[arg(long, env = "HAUL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// The file of `config`, read.
    #[arg(skip)]
    pub(crate) config_file: Option<ConfigFile>,

    /// Say whether a start would work, and what is in its way; an address that is in use is left
    /// alone
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    listen: ListenArgs,

    /// Threads that send, 1024 at most [default: one a core]
    #[arg(long, short, env = "HAUL_WORKERS", value_name = "N", value_parser = threads(MAX_WORKERS))]
    workers: Option<NonZeroUsize>,

    /// Threads that wait for disks, 4096 at most [default: four a core, at least 8]
    #[arg(long, env = "HAUL_DISK_WORKERS", value_name = "N",
        value_parser = threads(MAX_DISK_WORKERS))]
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

    /// How long transfers may go on after SIGTERM or SIGINT; `unlimited` waits for all of them
    #[arg(long, alias = "grace", env = "HAUL_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = grace)]
    drain_timeout: Duration,

    /// Whether the kernel limits the running server: to files beneath the root, without outgoing
    /// connections and other programs
    #[arg(
        long,
        env = "HAUL_SANDBOX",
        value_name = "CHOICE",
        default_value = "auto"
    )]
    sandbox: SandboxArg,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    digests: DigestArgs,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    deadlines: DeadlineArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    operations: OperationsArgs,

    #[command(flatten)]
    tuning: TuningArgs,
}

/// The detail of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogArg {
    /// Nothing
    Off,
    /// One line a response
    Access,
    /// One line a response, and the counters at the end
    Debug,
}

impl ServeArguments {
    /// Serves until a signal ends it.
    pub(crate) fn run(mut self) -> ExitCode {
        let open_files = raise_open_files().unwrap_or(FEW_OPEN_FILES);
        let log = self.log;
        let (config_file, is_checked) = (self.config_file.take(), self.check);
        let mut config = match self.into_config(open_files) {
            Ok(config) => ServeConfig {
                reread: config_file.iter().map(|it| it.path().clone()).collect(),
                ..config
            },
            Err(error) => {
                say(format_args!("haul: {error}"));
                return ExitCode::FAILURE;
            }
        };
        if is_checked {
            return check::run(config);
        }
        // No message in between: that would start a thread, which the sandbox would not cover.
        let bound = Server::bind(config.clone());
        config.inherited.clear();
        let confined = bound
            .map(|server| (Upgrade::prepare(&server), server))
            .and_then(|(upgrade, server)| Ok((upgrade, server.confine()?, server)));
        let (upgrade, sandbox, server) = match confined {
            Ok(confined) => confined,
            Err(error) => {
                say(format_args!("haul: {error}"));
                return ExitCode::FAILURE;
            }
        };
        limits::warn_of_connections_without_files(&config, open_files);
        let supervisor = Supervisor::start(server.handle());
        let reload = Reload {
            handle: server.handle(),
            config_file,
            open_files,
            workers: config.workers.get(),
        };
        let followed = follow_signals(reload, upgrade, config.grace, supervisor.clone());
        let cut_short = match followed {
            Ok(cut_short) => cut_short,
            Err(error) => {
                say(format_args!("haul: cannot take signals: {error}"));
                return ExitCode::FAILURE;
            }
        };
        if let Some(missing) = server.missing_calls() {
            say(format_args!("haul: {missing}"));
        }
        if let Some(sandbox) = sandbox {
            say(format_args!("sandbox: {sandbox}"));
        }
        if let Some(kernel_tls) = server.kernel_tls() {
            say(format_args!("{kernel_tls}"));
        }
        access::warn(&config);
        for warning in server.warnings() {
            say(format_args!("haul: {warning}"));
        }
        let announcement = Announcement::of(&server);
        // Without its threads it is not ready, and what it takes over from goes on.
        let server = match server.start() {
            Ok(started) => started,
            Err(error) => {
                say(format_args!("haul: {error}"));
                return ExitCode::FAILURE;
            }
        };
        announcement.say(&config);
        supervisor.tell(Phase::Ready);
        tell_ready();
        let counters = server.run();
        if log == LogArg::Debug {
            say(format_args!("{counters:#?}"));
        }
        ExitCode::from(cut_short.load(Ordering::Relaxed))
    }

    fn into_config(self, open_files: u64) -> Result<ServeConfig, String> {
        let defaults = ServeConfig::default();
        let access_log = match (self.log, self.access_log) {
            (LogArg::Off, _) => Destination::Nowhere,
            (_, Some(path)) => Destination::File(path),
            (_, None) => Destination::StandardError,
        };
        let most = defaults.workers.min(limits::most_workers(open_files));
        let workers = self.workers.unwrap_or(most);
        limits::check_workers(open_files, workers.get())?;
        let state = self.state.directory();
        let (root, files) = match &self.paths[..] {
            [] => (self.root, Vec::new()),
            [path] if path.is_dir() => (path.clone(), Vec::new()),
            _ => (self.root, self.paths),
        };
        let mut config = ServeConfig {
            root,
            files,
            links_into: self.links_into,
            listen_tls: self.tls.listen_tls.clone(),
            tls: self.tls.config(state.clone())?,
            kernel_tls: self.tls.kernel(),
            workers,
            disk_workers: self.disk_workers.unwrap_or(defaults.disk_workers),
            transmit: self.tuning.transmit(),
            quantum_bytes: self.tuning.quantum,
            dot_names: if self.hidden {
                DotNames::Shown
            } else {
                DotNames::Hidden
            },
            precompressed: self.http.precompressed(),
            index: self.http.index(),
            listing: self.http.listing(),
            cache: self.tuning.cache(),
            limits: self.limits.connection_limits(open_files, workers.get()),
            deadlines: self.deadlines.deadlines(),
            rates: self.limits.rates(),
            grace: self.drain_timeout,
            state,
            digests: self.digests.policy(),
            access_log,
            sandbox: self.sandbox.choice(),
            access: self.access.config(),
            http_limits: self.http.limits(),
            log_format: self.operations.log_format(),
            http: self.http.policy(),
            ..defaults
        };
        self.operations.apply(&mut config)?;
        self.listen.apply(&mut config)?;
        tls::check(&config)?;
        Ok(config)
    }
}

fn root_of_environment() -> PathBuf {
    let root = std::env::var_os("HAUL_ROOT").filter(|root| !root.is_empty());
    root.map_or_else(|| ".".into(), PathBuf::from)
}

/// More than any machine has cores to send with. Measured with 65 and 1: a worker takes 4
/// descriptors, 17 KB of memory, and 2 MiB of addresses for its stack.
const MAX_WORKERS: u16 = 1024;
/// Four for each of so many workers. Measured with 65 and 1: one takes 17 KB, no descriptor, and 2
/// MiB of addresses.
const MAX_DISK_WORKERS: u16 = 4096;

/// The assumed limit on open files if it cannot be read.
const FEW_OPEN_FILES: u64 = 1024;
