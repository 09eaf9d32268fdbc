//! A server: binds, builds the ring, runs it, drains it.
//!
//! # What gives first
//!
//! An estimate, by arithmetic and not by measurement, for 64 cores, 100,000 connections and
//! 100 Gb/s. Costs of single operations are of Linux 6.18 on two virtual cores.
//!
//! | order | part | arithmetic | limit |
//! |---|---|---|---|
//! | 1 | the one acceptor | accept4 4 us, options 1–2, share and box 1, channel and wake-up 4–8 | 65,000–100,000 connections a second |
//! | 2 | access log | about 1 us a line in one thread | 0.5–0.8 million lines a second; beyond, lines are lost and counted |
//! | 3 | look-ups of names that no cache holds | openat2, statx, close and the open by `/proc`: 15–20 us, with the kernel's locks shared by all cores | 0.5–1 million a second |
//! | 4 | the disk queue's mutex | three locks and a futex or two a job, 3–6 us | 150,000–300,000 jobs a second; extents of 2 MiB at 100 Gb/s are 6,000 |
//! | 5 | shares of one client | one atomic addition a turn for all connections of one address, 60–200 ns contended; with rates one more for the client and for all | 5–15 million turns a second |
//! | 6 | a long queue for some | `tcp_mem` / 8 MiB; others wake for each 16 KiB: 12.5 GB/s / 16 KiB = 760,000 wake-ups of 5 us | 4 cores instead of 1 if nobody had one |
//! | 7 | bytes | 12.5 GB/s at 0.1 CPU-s/GiB, and TCP itself | 1–2 cores, and 4–8 |
//!
//! Counters are per thread, and idle workers are bits of a word: neither costs more with more
//! cores. A rate for all connections wakes each worker once per burst (2 or 10 ms), however many
//! connections wait.

mod acceptor;
mod access;
mod admin;
pub mod check;
mod client_share;
pub mod config;
pub(crate) mod connection;
mod digests;
mod disk_queue;
mod disk_waits;
mod disk_worker;
mod dispatch;
mod eviction;
mod fair_queue;
pub(crate) mod files;
mod handle;
mod hot_worker;
mod listeners;
mod listing;
mod live_limits;
mod missing_calls;
#[cfg(all(test, feature = "models"))]
mod models;
mod network;
mod rate_limit;
mod ring;
mod round_robin;
mod semaphore;
mod shared;
mod started;
mod startup_error;
pub mod telemetry;
mod thread_pool;
mod threads;
pub(crate) mod transmit;
pub mod tuning;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::server::acceptor::{Acceptor, RemoteCongestion};
use crate::server::access::{Access, secret_files};
use crate::server::admin::{AdminListener, Observer};
use crate::server::config::{InheritedListener, KernelTlsChoice, SandboxChoice, ServeConfig};
use crate::server::disk_queue::DiskQueue;
use crate::server::disk_worker::run_disk_worker;
use crate::server::dispatch::Dispatch;
use crate::server::eviction::Eviction;
use crate::server::files::Closing;
pub use crate::server::files::FileFault;
pub use crate::server::handle::Handle;
use crate::server::hot_worker::HotWorker;
use crate::server::listeners::Listeners;
use crate::server::ring::Ring;
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
pub use crate::server::started::StartedServer;
pub use crate::server::startup_error::StartupError;
use crate::server::telemetry::access_log::{AccessLog, AccessLogWriter};
use crate::server::telemetry::{Counters, Snapshot};
use crate::sys::inherited::Purpose;
use crate::sys::kernel_tls::{self, KernelTls};
use crate::sys::poller::Poller;
use crate::sys::resources;
use crate::sys::sandbox;
pub use crate::tls::identity::IdentityError;
pub use crate::tls::pin::Pin;
use crate::tls::server::ServerTls;

/// A server that is bound and not yet running.
#[derive(Debug)]
pub struct Server {
    ring: Arc<Ring>,
    listeners: Vec<InheritedListener>,
    /// Listeners from this index on are for TLS.
    first_tls: usize,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    pollers: Vec<Arc<Poller>>,
    acceptor_poller: Arc<Poller>,
    permits: (Arc<Semaphore>, Arc<Semaphore>),
    congestion: Option<RemoteCongestion>,
    /// What the kernel said of TLS, if it was asked.
    kernel_tls: Option<io::Result<KernelTls>>,
    writer: AccessLogWriter,
    closing: Receiver<Closing>,
    admin: Option<AdminListener>,
    warnings: Vec<String>,
}

impl Server {
    /// Opens the root and the access log and binds the listeners. Connections wait in the
    /// kernel's queue until [`Self::run`].
    ///
    /// # Errors
    /// [`StartupError`] names what cannot be had.
    pub fn bind(mut config: ServeConfig) -> Result<Self, StartupError> {
        let counters = Arc::new(Counters::default());
        let Listeners {
            all: listeners,
            first_tls,
            admin,
            predecessor,
        } = listeners::open(&mut config)?;
        let reach = config.admin_reach;
        let admin = admin.map(|admin| AdminListener::new(admin, reach, predecessor));
        let admin = admin.transpose().map_err(StartupError::Resources)?;
        // Before the privilege goes by which the kernel loads its module.
        let may_use_kernel =
            first_tls < listeners.len() && config.kernel_tls == KernelTlsChoice::Auto;
        let kernel_tls = may_use_kernel.then(kernel_tls::probe);
        if let Some(user) = &config.user {
            // Places that are opened from here on have to be the user's to open again.
            user.assume().map_err(StartupError::User)?;
        }
        // Before a key is made.
        secret_files::check(&config).map_err(StartupError::Access)?;
        let log = config.access_log.clone();
        let (journal, writer) = AccessLog::open(log, config.log_format, Arc::clone(&counters))
            .map_err(StartupError::AccessLog)?;
        let warnings = secret_files::warnings(&config);
        let tls = match first_tls < listeners.len() {
            true => {
                let kernel = kernel_tls.as_ref().and_then(|known| known.as_ref().ok());
                let tls = ServerTls::new(config.tls.clone(), kernel.copied());
                Some(tls.map_err(StartupError::Tls)?)
            }
            false => None,
        };
        let of_tls = tls.iter().flat_map(ServerTls::warnings);
        let warnings = warnings.into_iter().chain(of_tls).collect();
        // Unix sockets have none.
        let addresses = listeners.iter().map(|it| it.socket.local_addr());
        let addresses = addresses.filter_map(Result::ok).collect();
        let tls_addresses = listeners[first_tls..]
            .iter()
            .map(|it| it.socket.local_addr());
        let tls_addresses = tls_addresses.filter_map(Result::ok).collect();
        let poller = || Poller::new().map(Arc::new).map_err(StartupError::Resources);
        let pollers = (0..config.workers.get())
            .map(|_| poller())
            .collect::<Result<Vec<_>, _>>()?;
        let acceptor_poller = poller()?;
        let limits = config.limits;
        let capacity = limits
            .connections
            .saturating_add(overflow_of(limits.connections));
        if let Some(listener) = listeners.first() {
            // Each connection may have an open file.
            resources::reserve_descriptors(&listener.socket, capacity.saturating_mul(2) as u64);
        }
        let congestion = RemoteCongestion::unpace_loopbacks(listeners.iter().map(|it| &it.socket));
        let dispatch = Dispatch::new(pollers.iter().map(Arc::clone));
        let disk = Arc::new(DiskQueue::new(
            config.disk_workers.get(),
            Arc::clone(&counters),
        ));
        let (closer, closing) = crossbeam_channel::unbounded();
        let loaded = Access::load(&config, Arc::clone(&counters));
        let access = loaded.map_err(StartupError::Access)?;
        let service = Shared::new(config, counters, journal, closer)
            .map_err(StartupError::from)?
            .with_access(access)
            .with_tls(tls);
        let permits = (
            Arc::clone(&service.connections),
            Semaphore::new(overflow_of(limits.connections)),
        );
        let ring = Arc::new(Ring {
            service: Arc::new(service),
            eviction: Eviction::new(Arc::clone(&acceptor_poller)),
            dispatch,
            disk,
        });
        Ok(Self {
            ring,
            listeners,
            first_tls,
            addresses,
            tls_addresses,
            pollers,
            acceptor_poller,
            permits,
            congestion,
            kernel_tls,
            writer,
            closing,
            admin,
            warnings,
        })
    }

    /// Drops, for good, all rights that serving does not need: files outside the root, outgoing
    /// connections, other programs (landlock(7), seccomp(2)). To be called before any thread is
    /// started. Returns what is in force, or `None` if no sandbox is configured.
    ///
    /// # Errors
    /// The sandbox is required, and a part of it cannot be had.
    pub fn confine(&self) -> Result<Option<String>, StartupError> {
        let config = &self.ring.service.config;
        if config.sandbox == SandboxChoice::Off {
            return Ok(None);
        }
        let entered = sandbox::enter(&config.allowed_paths());
        let holds = (entered.as_ref()).is_ok_and(sandbox::Confinement::holds);
        let told = match entered {
            Ok(confinement) => confinement.to_string(),
            Err(error) => format!("none: {error}"),
        };
        match config.sandbox {
            SandboxChoice::Require if !holds => Err(StartupError::Sandbox(told)),
            _ => Ok(Some(told)),
        }
    }

    /// The bound addresses, with the chosen ports; those with TLS are last.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Copies of the sockets, for a server that takes over. They keep the addresses taken until
    /// they are dropped.
    ///
    /// # Errors
    /// As dup(2).
    pub fn sockets(&self) -> io::Result<Vec<InheritedListener>> {
        let listeners = self
            .listeners
            .iter()
            .map(|it| (&it.socket, it.name.as_str()));
        let admin = self
            .admin
            .iter()
            .map(|it| (it.socket(), Purpose::Admin.name()));
        let copied = listeners.chain(admin).map(|(socket, name)| {
            let (socket, name) = (socket.try_clone()?, name.to_owned());
            Ok(InheritedListener { socket, name })
        });
        let to_this = self.admin.iter().map(AdminListener::for_successor);
        copied.chain(to_this).collect()
    }

    /// Where the admin interface listens, if it does on a TCP port.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(AdminListener::address)
    }

    /// The addresses listened on for TLS, with the ports that were chosen.
    #[must_use]
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// The pins of the server's keys, the first certificate's first.
    #[must_use]
    pub fn pins(&self) -> Vec<Pin> {
        self.ring
            .service
            .tls
            .as_ref()
            .map_or_else(Vec::new, ServerTls::pins)
    }

    /// What the kernel seals and opens of TLS, or why nothing; `None` if it is not to.
    #[must_use]
    pub fn kernel_tls(&self) -> Option<String> {
        Some(match self.kernel_tls.as_ref()? {
            Ok(known) => format!("kernel TLS for large files: {known}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "no kernel TLS: the kernel's module `tls`, or a cipher's, is not loaded".into()
            }
            Err(error) => format!("no kernel TLS: {error}"),
        })
    }

    /// Features that this kernel lacks, or a filter refuses (seccomp(2)), and the cost of that;
    /// `None` if none is lacking.
    #[must_use]
    pub fn missing_calls(&self) -> Option<String> {
        missing_calls::describe(self.ring.service.root.support().missing())
    }

    /// What the operator may not want, one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The way to this server from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.ring, &self.acceptor_poller, &self.permits)
    }

    /// Starts all threads. No connection is accepted before [`StartedServer::run`].
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn start(self) -> Result<StartedServer, StartupError> {
        let handle = self.handle();
        let writer = self.writer.start().map_err(StartupError::Resources)?;
        let config = &self.ring.service.config;
        let (hot, cold) = (config.workers.get(), config.disk_workers.get());
        let observer = Observer::new(
            Arc::clone(&self.ring.service),
            self.permits.clone(),
            self.ring.disk.gauges(),
        );
        let observer = Arc::new(observer);
        let admin = self.admin.map(|admin| admin.start(&observer));
        let admin = admin.transpose().map_err(StartupError::Resources)?;
        let pool = |name, threads| thread_pool::start(name, threads);
        let hot_pool = pool("haul-hot", hot).map_err(StartupError::Resources)?;
        let disk_pool = pool("haul-disk", cold).map_err(StartupError::Resources)?;
        let stop_digests = threads::start_digests(&self.ring)?;
        let closer = threads::start_closer(&self.ring, self.closing)?;
        let stop_root = threads::start_root(&self.ring)?;
        let stop_sweep = threads::start_sweep(&self.ring)?;
        for (number, poller) in self.pollers.iter().enumerate() {
            let worker = HotWorker::new(Arc::clone(&self.ring), number, Arc::clone(poller));
            hot_pool.execute(move || worker.run());
        }
        for _ in 0..cold {
            let ring = Arc::clone(&self.ring);
            disk_pool.execute(move || run_disk_worker(&ring));
        }
        let listeners = self.listeners.into_iter().map(|it| it.socket);
        let acceptor = Acceptor::new(
            Arc::clone(&self.ring),
            self.acceptor_poller,
            (listeners.collect(), self.first_tls),
            self.permits,
            self.congestion,
        );
        Ok(StartedServer {
            handle,
            ring: self.ring,
            acceptor,
            pools: [hot_pool, disk_pool],
            stops: [Some(stop_root), stop_digests, Some(stop_sweep)],
            closer,
            admin: admin.map(|admin| (admin, observer)),
            writer,
        })
    }

    /// Starts, and runs until its end. Returns the final counters.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn run(self) -> Result<Snapshot, StartupError> {
        Ok(self.start()?.run())
    }
}

/// Connections beyond the limit that are answered 503, rather than left waiting.
fn overflow_of(connections: usize) -> usize {
    (connections / 16).clamp(8, 256)
}
