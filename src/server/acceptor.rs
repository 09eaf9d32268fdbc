//! The acceptor: takes connections from the listeners and dispatches them. It never parses, opens
//! a file or logs.

mod congestion;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::diagnostics::say;
use crate::server::acceptor::congestion::RemoteCongestion;
use crate::server::client_share::ClientShares;
use crate::server::config::ServeConfig;
use crate::server::connection::Connection;
use crate::server::connection::step::Admission;
use crate::server::ring::Ring;
use crate::server::semaphore::{Permit, Semaphore};
use crate::server::telemetry::{CloseReason, Counters};
use crate::sys::poller::{Interest, Poller, Readiness};
use crate::sys::{resources, socket};

/// The acceptor's thread.
#[derive(Debug)]
pub(super) struct Acceptor {
    ring: Arc<Ring>,
    poller: Arc<Poller>,
    listeners: Vec<TcpListener>,
    clients: ClientShares,
    /// Connections that are served.
    welcome: Arc<Semaphore>,
    /// Connections beyond those, which are told to come back later.
    overflow: Arc<Semaphore>,
    /// Descriptors from this number on are for the files of those who are in.
    kept_for_files: u64,
    /// What peers on other hosts are given, if those on this host are to be spared it.
    congestion: Option<RemoteCongestion>,
    pace: Pacer,
}

/// How accepting goes while the system is out of something.
#[derive(Clone, Copy, Debug)]
enum Pacer {
    /// As fast as they come.
    Full,
    /// Not before this time.
    HoldUntil(Instant, Duration),
}

impl Acceptor {
    /// An acceptor for these listeners; `poller` is for waking it.
    #[must_use]
    pub(super) fn new(
        ring: Arc<Ring>,
        poller: Arc<Poller>,
        listeners: Vec<TcpListener>,
        (welcome, overflow): (Arc<Semaphore>, Arc<Semaphore>),
    ) -> Self {
        let clients = ClientShares::new(ring.service.config.rates.client);
        let pace = Pacer::Full;
        let kept_for_files = kept_for_files(&ring.service.config, &listeners);
        let mut congestion = None;
        for listener in &listeners {
            congestion = RemoteCongestion::unpace_loopback(listener).or(congestion);
        }
        Self {
            ring,
            poller,
            listeners,
            clients,
            welcome,
            overflow,
            kept_for_files,
            congestion,
            pace,
        }
    }

    /// Accepts until the server drains; then closes the listeners.
    pub(super) fn run(mut self) {
        let mut ready: Vec<Readiness> = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.poller.watch(listener, number as u64) {
                say(format_args!("haul: cannot wait for connections: {error}"));
            }
        }
        while !self.ring.service.is_draining() {
            let timeout = match self.pace {
                Pacer::Full => None,
                Pacer::HoldUntil(until, _) => Some(until.saturating_duration_since(Instant::now())),
            };
            if let Err(error) = self.poller.wait(&mut ready, timeout) {
                say(format_args!(
                    "haul: waiting for connections failed: {error}"
                ));
                std::thread::sleep(FIRST_HOLD);
            }
            if let Pacer::HoldUntil(until, _) = self.pace
                && Instant::now() < until
            {
                continue;
            }
            self.accept_all();
        }
        for listener in &self.listeners {
            let _ = self.poller.forget(listener);
        }
    }

    /// Accepts from every listener until none is left. Edges tell of newcomers only, so whatever
    /// stops it early has to come back by the clock.
    fn accept_all(&mut self) {
        for number in 0..self.listeners.len() {
            loop {
                if self.ring.service.is_draining() {
                    return;
                }
                if self.descriptors_run_short() {
                    return self.hold_for_descriptors();
                }
                let Some((permit, admission)) = self.permit() else {
                    return self.hold();
                };
                let counters = &self.ring.service.counters;
                match socket::accept(&self.listeners[number]) {
                    Ok((stream, peer)) => {
                        Counters::add_one(&counters.accepted);
                        if let Some(congestion) = &self.congestion {
                            congestion.apply(&stream, peer.ip());
                        }
                        self.dispatch(stream, peer, permit, admission);
                        self.pace = Pacer::Full;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) if resources::is_exhaustion(&error) => {
                        return self.hold_for_descriptors();
                    }
                    // The one connection is gone (`ECONNABORTED` and the like); others wait.
                    Err(_) => Counters::add_one(&counters.accept_errors),
                }
            }
            let (poller, listener) = (&self.poller, &self.listeners[number]);
            let _ = poller.rearm(listener, number as u64, Interest::Read);
        }
        self.pace = Pacer::Full;
    }

    /// Whether a newcomer would get one of the last descriptors. Whoever is in would then ask for
    /// a file and be told that there is none. Only where connections are many is the system asked.
    fn descriptors_run_short(&self) -> bool {
        let connections = (self.welcome.taken() + self.overflow.taken()) as u64;
        if connections < self.kept_for_files / MANY_CONNECTIONS {
            return false;
        }
        let next = self.listeners.first().map(resources::next_descriptor);
        next.is_some_and(|next| next.map_or(true, |number| number >= self.kept_for_files))
    }

    fn permit(&self) -> Option<(Permit, Admission)> {
        let welcome = self
            .welcome
            .take()
            .map(|permit| (permit, Admission::Welcome));
        welcome.or_else(|| {
            self.overflow
                .take()
                .map(|permit| (permit, Admission::Overloaded))
        })
    }

    fn dispatch(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        mut permit: Permit,
        mut admission: Admission,
    ) {
        let membership = self.clients.enter(peer.ip());
        let limits = &self.ring.service.config.limits;
        let is_greedy = membership.client().connections() > limits.connections_per_client;
        if is_greedy && admission == Admission::Welcome {
            // It must not sit where another client is welcome, however long it keeps silent.
            let Some(overflow) = self.overflow.take() else {
                let counters = &self.ring.service.counters;
                return counters.count_close(CloseReason::Overloaded);
            };
            (permit, admission) = (overflow, Admission::Overloaded);
        }
        let context = (&*self.ring.service, Instant::now());
        let connection = Connection::new(stream, peer, membership, permit, admission, context);
        self.ring.dispatch.send(connection);
    }

    /// As `hold`, and counts how often it begins.
    fn hold_for_descriptors(&mut self) {
        if matches!(self.pace, Pacer::Full) {
            Counters::add_one(&self.ring.service.counters.accept_exhausted);
        }
        self.hold();
    }

    /// Leaves newcomers in the kernel's queue for a moment, twice as long each time.
    fn hold(&mut self) {
        let hold = match self.pace {
            Pacer::Full => FIRST_HOLD,
            Pacer::HoldUntil(_, hold) => (hold * 2).min(LONGEST_HOLD),
        };
        self.pace = Pacer::HoldUntil(Instant::now() + hold, hold);
    }
}

/// The first of the descriptors that are kept for files: enough for all workers to look a name up
/// at the same time and for some files, but no more than half of those that are free before
/// anybody has come.
fn kept_for_files(config: &ServeConfig, listeners: &[TcpListener]) -> u64 {
    let all = resources::open_files();
    let next = listeners.first().map(resources::next_descriptor);
    let free = all.saturating_sub(next.and_then(Result::ok).unwrap_or(0));
    let threads = (config.workers.get() + config.disk_workers.get()) as u64;
    all - (threads * LOOK_UP_DESCRIPTORS + SPARE_DESCRIPTORS).min(free / 2)
}

/// With this part of the descriptors in use for connections, as many again for what they are sent
/// and the rest for names looked up, none may be left.
const MANY_CONNECTIONS: u64 = 4;
const FIRST_HOLD: Duration = Duration::from_millis(5);
const LONGEST_HOLD: Duration = Duration::from_millis(500);
/// Descriptors of one look-up: the place in the file system, and the open file.
const LOOK_UP_DESCRIPTORS: u64 = 2;
/// Descriptors for files that are being sent, or wait for their close.
const SPARE_DESCRIPTORS: u64 = 32;
