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
//! Counters have a part for each thread, and idle workers are bits of a word: neither grows with
//! the number of cores. A rate for all wakes each worker once for each of its bursts (2 or 10 ms),
//! however many connections wait.

mod acceptor;
mod access;
mod admin;
pub mod check;
mod client_share;
pub mod config;
pub(crate) mod connection;
mod digests;
mod disk_queue;
mod disk_worker;
mod dispatch;
mod eviction;
mod fair_queue;
pub(crate) mod files;
mod listeners;
mod listing;
mod live_limits;
#[cfg(all(test, feature = "models"))]
mod models;
mod network;
mod places;
mod rate_limit;
mod ring;
mod round_robin;
mod semaphore;
mod shared;
mod startup_error;
pub mod telemetry;
pub(crate) mod transmit;
pub mod tuning;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use threadpool::ThreadPool;

use crate::diagnostics::say;
use crate::server::acceptor::{Acceptor, RemoteCongestion};
use crate::server::access::Access;
use crate::server::admin::{AdminListener, Observer};
use crate::server::config::{
    ConnectionLimits, DigestChoice, InheritedListener, KernelTlsChoice, Rates, SandboxChoice,
    ServeConfig,
};
use crate::server::connection::Connection;
use crate::server::digests::{HashThreads, follow_tree, run_digest_worker};
use crate::server::disk_queue::DiskQueue;
use crate::server::disk_worker::run_disk_worker;
use crate::server::dispatch::Dispatch;
use crate::server::eviction::Eviction;
use crate::server::files::Closing;
pub use crate::server::files::FileFault;
use crate::server::listeners::Listeners;
use crate::server::ring::Ring;
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
pub use crate::server::startup_error::StartupError;
use crate::server::telemetry::access_log::{AccessLog, AccessLogWriter};
use crate::server::telemetry::{CloseReason, Counters, Snapshot};
use crate::server::worker::HotWorker;
use crate::sync;
use crate::sys::inherited::Purpose;
use crate::sys::kernel_tls::{self, KernelTls};
use crate::sys::poller::Poller;
use crate::sys::resources;
use crate::sys::sandbox;
use crate::sys::send_file::missing_calls;
pub use crate::tls::identity::IdentityError;
pub use crate::tls::pin::Pin;
use crate::tls::server::ServerTls;

/// A server that is bound and not yet running.
#[derive(Debug)]
pub struct Server {
    ring: Arc<Ring>,
    listeners: Vec<InheritedListener>,
    /// Listeners from this index on speak TLS.
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
}

/// The way to a running server, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    ring: Arc<Ring>,
    acceptor: Arc<Poller>,
    permits: (Arc<Semaphore>, Arc<Semaphore>),
}

impl Handle {
    /// Ends the server: no new connections, idle ones are closed, transfers under way finish
    /// within the grace.
    pub fn shut_down(&self) {
        self.ring.service.drain();
        self.acceptor.wake();
        self.ring.dispatch.wake_all();
    }

    /// Ends the server as [`Self::shut_down`] does, for another one that has its sockets: the admin
    /// interface is that one's from now on, and so is the store of digests.
    pub fn hand_over(&self) {
        self.ring.service.hand_over();
        self.shut_down();
    }

    /// Ends the server without the grace: what is under way is reset, and recorded as such.
    pub fn abort(&self) {
        self.ring.service.abort();
        self.acceptor.wake();
        self.ring.dispatch.wake_all();
    }

    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        // A permit is taken before its connection is counted, and goes back after its close was:
        // read in this order, every connection accepted is open or closed.
        let accepted = self.ring.service.counters.accepted.sum();
        let open = self.open();
        let mut snapshot = self.ring.service.counters.snapshot();
        (snapshot.accepted, snapshot.open) = (accepted, open);
        snapshot.closes_waiting = self.ring.disk.closing();
        snapshot
    }

    /// Opens the access log anew, after it was moved away.
    pub fn reopen_access_log(&self) {
        self.ring.service.journal.reopen();
    }

    /// Reads the files of passwords and keys anew. A file with a fault leaves the old content in
    /// place; returns the faults.
    #[must_use]
    pub fn reload_access(&self) -> Vec<String> {
        let access = self.ring.service.access.as_ref();
        access.map(|access| access.reload()).unwrap_or_default()
    }

    /// Loads certificates and keys anew, for connections that come from now on. Returns whether
    /// there are any.
    ///
    /// # Errors
    /// [`IdentityError`] says which file and what is wrong with it; the old ones stay.
    pub fn reload_certificates(&self) -> Result<bool, IdentityError> {
        match &self.ring.service.tls {
            Some(tls) => tls.reload().map(|()| true),
            None => Ok(false),
        }
    }

    /// Changes rates and limits, for what is under way too. Connections beyond a lower limit stay.
    pub fn set_limits(&self, rates: &Rates, limits: &ConnectionLimits) {
        self.ring.service.set_limits(rates, limits);
    }

    fn open(&self) -> u64 {
        (self.permits.0.taken() + self.permits.1.taken()) as u64
    }

    /// Waits until no connection is left, or `goes_on` says that it has been long enough.
    fn wait_while(&self, goes_on: impl Fn() -> bool) {
        while self.open() > 0 && goes_on() {
            sync::pause(DRAIN_POLL);
        }
    }

    /// Lets what is under way finish within the grace, and closes what is left then. Returns the
    /// counters; `open` is not zero where a disk hangs.
    fn finish(&self, grace: Duration) -> Snapshot {
        let grace_ends = Instant::now() + grace;
        self.wait_while(|| Instant::now() < grace_ends && !self.ring.service.is_aborting());
        self.abort();
        // Workers close what is left at once; a disk that hangs is not waited for. Connections that
        // come back from the disk lane may find no worker any more.
        let abort_ends = Instant::now() + ABORT_GRACE;
        self.wait_while(|| {
            while let Some(connection) = self.ring.dispatch.receive() {
                connection.close(CloseReason::Shutdown, &self.ring.service);
            }
            Instant::now() < abort_ends
        });
        self.ring.disk.shut();
        self.counters()
    }
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
        let log = config.access_log.clone();
        let (journal, writer) = AccessLog::open(log, config.log_format, Arc::clone(&counters))
            .map_err(StartupError::AccessLog)?;
        let tls = match first_tls < listeners.len() {
            true => {
                let kernel = kernel_tls.as_ref().and_then(|known| known.as_ref().ok());
                let tls = ServerTls::new(config.tls.clone(), kernel.copied());
                Some(tls.map_err(StartupError::Tls)?)
            }
            false => None,
        };
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
            // Each connection may have a file.
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
        })
    }

    /// Gives up what serving does not need, for good: files outside the root, connections of its
    /// own, other programs (landlock(7), seccomp(2)). To be called before any thread is started.
    /// Returns what holds, or nothing if no sandbox is wanted.
    ///
    /// # Errors
    /// The sandbox is required, and a part of it cannot be had.
    pub fn confine(&self) -> Result<Option<String>, StartupError> {
        let config = &self.ring.service.config;
        if config.sandbox == SandboxChoice::Off {
            return Ok(None);
        }
        let entered = sandbox::enter(&config.places());
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

    /// The addresses listened on, with the ports that were chosen; those with TLS come last.
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
    pub fn limitations(&self) -> Option<String> {
        let look_ups = self.ring.service.root.support().missing();
        let (reads, copies): (Vec<_>, Vec<_>) =
            (missing_calls().into_iter()).partition(|call| *call == "preadv2");
        let costs = [
            (
                look_ups,
                "files are looked up by the disk threads, once a second each",
            ),
            (
                reads,
                "what is in memory is not known, and read by the disk threads first",
            ),
            (copies, "bytes are copied"),
        ];
        let costs = costs.into_iter().filter(|(missing, _)| !missing.is_empty());
        let costs: Vec<_> = costs
            .map(|(missing, cost)| format!("no {}: {cost}", missing.join(", no ")))
            .collect();
        (!costs.is_empty()).then(|| format!("this system has {}", costs.join("; ")))
    }

    /// The way to this server from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            ring: Arc::clone(&self.ring),
            acceptor: Arc::clone(&self.acceptor_poller),
            permits: (Arc::clone(&self.permits.0), Arc::clone(&self.permits.1)),
        }
    }

    /// Runs until [`Handle::shut_down`], and until what was under way is finished, the grace has
    /// passed, or [`Handle::abort`] cut it short. Returns the final counters.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn run(self) -> Result<Snapshot, StartupError> {
        let handle = self.handle();
        let writer = self.writer.start().map_err(StartupError::AccessLog)?;
        let config = &self.ring.service.config;
        let (grace, hot, cold) = (
            config.grace,
            config.workers.get(),
            config.disk_workers.get(),
        );
        let observer = Observer::new(
            Arc::clone(&self.ring.service),
            (Arc::clone(&self.permits.0), Arc::clone(&self.permits.1)),
            self.ring.disk.gauges(),
        );
        let observer = Arc::new(observer);
        let admin = self.admin.map(|admin| admin.start(&observer));
        let admin = admin.transpose().map_err(StartupError::Resources)?;
        let hot_pool = ThreadPool::with_name("haul-hot".into(), hot);
        let disk_pool = ThreadPool::with_name("haul-disk".into(), cold);
        let stop_digests = start_digests(&self.ring)?;
        let closer = spawn("haul-close", {
            let (closing, disk) = (self.closing, Arc::clone(&self.ring.disk));
            move || {
                for closing in closing {
                    disk.close_file(closing);
                }
            }
        })?;
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
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let service = Arc::clone(&self.ring.service);
        // Alone: the root's path may hang.
        spawn("haul-root", move || {
            let mut is_told = false;
            service.look_at_root();
            while stopped.recv_timeout(ROOT_CHECK) == Err(RecvTimeoutError::Timeout) {
                let is_covered = service.root.refresh();
                service.look_at_root();
                if !is_covered && !is_told {
                    say(format_args!(
                        "haul: the sandbox does not cover what is now at {}: the old directory is \
                         served on; restart, or see --sandbox",
                        service.config.root.display()
                    ));
                }
                is_told = !is_covered;
            }
        })?;
        let (sweeping, swept) = crossbeam_channel::bounded::<()>(0);
        let ring = Arc::clone(&self.ring);
        spawn("haul-sweep", move || {
            while swept.recv_timeout(SWEEP) == Err(RecvTimeoutError::Timeout) {
                sweep(&ring);
                ring.service.scans.forget_old();
            }
        })?;
        acceptor.run();
        drop((stop, stop_digests, sweeping));
        self.ring.service.digests.shut();
        let admin = match self.ring.service.is_handed_over() {
            true => {
                self.ring.service.digests.close_store();
                admin.map(|admin| admin.hand_over(observer)).and(None)
            }
            false => admin,
        };
        let counters = handle.finish(grace);
        if counters.open == 0 {
            let ends = Instant::now() + ABORT_GRACE;
            // A thread that a file system holds keeps nobody from the end.
            while hot_pool.active_count() + disk_pool.active_count() > 0 && Instant::now() < ends {
                std::thread::sleep(DRAIN_POLL);
            }
        }
        if let Some(admin) = admin {
            admin.finish();
        }
        drop((handle, self.ring, closer));
        writer.finish();
        Ok(counters)
    }
}

/// Starts the threads that hash. The tree is followed until the sender is dropped.
fn start_digests(ring: &Ring) -> Result<Option<Sender<()>>, StartupError> {
    let choice = ring.service.config.digests.choice;
    if choice == DigestChoice::Off {
        return Ok(None);
    }
    for _ in 0..digests::THREADS {
        let service = Arc::clone(&ring.service.digests);
        let disk = Arc::clone(&ring.disk);
        let done = move |device| disk.done_when_idle(device);
        let hash_threads = HashThreads::start().map_err(StartupError::Resources)?;
        let work = move || run_digest_worker(&service, &hash_threads, done);
        spawn("haul-digest", work)?;
    }
    if choice != DigestChoice::All {
        return Ok(None);
    }
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let service = Arc::clone(&ring.service);
    spawn("haul-tree", move || {
        let config = &service.config;
        let path = config.files.is_empty().then_some(&*config.root);
        follow_tree(&service.digests, &service.root, path, &stopped);
    })?;
    Ok(Some(stop))
}

/// Lets go of connections that wait for a file system that hangs, and whose peers have left.
fn sweep(ring: &Ring) {
    let swept = ring.disk.sweep(Connection::has_left);
    ring.service.counters.swept.add(swept.gone.len() as u64);
    for connection in swept.gone {
        connection.close(CloseReason::Aborted, &ring.service);
    }
    for connection in swept.back {
        ring.dispatch.send_back(connection);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartupError> {
    let builder = std::thread::Builder::new().name(name.into());
    builder.spawn(work).map_err(StartupError::Resources)
}

/// Connections beyond the limit that are told so, rather than left waiting.
fn overflow_of(connections: usize) -> usize {
    (connections / 16).clamp(8, 256)
}

/// A root that is replaced is seen after at most this.
const ROOT_CHECK: Duration = Duration::from_millis(250);
/// A connection that has left a hung queue is seen after at most twice this.
const SWEEP: Duration = Duration::from_secs(1);
const DRAIN_POLL: Duration = Duration::from_millis(5);
const ABORT_GRACE: Duration = Duration::from_secs(2);
