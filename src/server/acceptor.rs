//! The acceptor: takes connections from the listeners and dispatches them. The acceptor never
//! parses, opens a file or logs.

mod congestion;
mod newcomer;

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::diagnostics::say;
pub(super) use crate::server::acceptor::congestion::RemoteCongestion;
use crate::server::acceptor::newcomer::{Newcomer, Search};
use crate::server::config::ServeConfig;
use crate::server::connection::Connection;
use crate::server::connection::step::Admission;
use crate::server::ring::Ring;
use crate::server::semaphore::{Permit, Semaphore};
use crate::server::telemetry::{CloseReason, Counters, Peer};
use crate::sys::poller::{Interest, Poller, Readiness};
use crate::sys::{resources, socket};

/// The acceptor's thread.
#[derive(Debug)]
pub(super) struct Acceptor {
    ring: Arc<Ring>,
    poller: Arc<Poller>,
    listeners: Vec<TcpListener>,
    /// Listeners from this index on are for TLS.
    first_tls: usize,
    /// Connections that are served.
    admitted: Arc<Semaphore>,
    /// Permits of connections beyond those: each is answered 503.
    rejected: Arc<Semaphore>,
    /// The order in which listeners are served.
    turns: VecDeque<usize>,
    /// Errors of accept(2) since it last went well.
    errors_in_row: u32,
    /// The workers found no silent connection lately: no eviction is requested before this.
    evict_after: Instant,
    /// Accepted, and waiting for others to be closed for them.
    newcomers: VecDeque<Newcomer>,
    search: Search,
    /// Descriptors from this number on are reserved for files of accepted connections.
    kept_for_files: u64,
    /// The congestion control of remote peers, if loopback peers use another one.
    congestion: Option<RemoteCongestion>,
    backoff: AcceptBackoff,
}

/// How accepting goes while the system is out of something.
#[derive(Clone, Copy, Debug)]
enum AcceptBackoff {
    /// Accepts are not limited.
    Off,
    /// Not before this time, after so long a hold.
    Until(Instant, Duration),
}

/// The outcome of a listener's turn.
enum Accepted {
    /// More may wait.
    Some,
    /// No connection waits any more.
    All,
    /// No connection can be accepted for now.
    Stopped,
}

impl Acceptor {
    /// An acceptor for these listeners; `poller` is for waking it.
    #[must_use]
    pub(super) fn new(
        ring: Arc<Ring>,
        poller: Arc<Poller>,
        (listeners, first_tls): (Vec<TcpListener>, usize),
        (admitted, rejected): (Arc<Semaphore>, Arc<Semaphore>),
        congestion: Option<RemoteCongestion>,
    ) -> Self {
        let backoff = AcceptBackoff::Off;
        let turns = (0..listeners.len()).collect();
        let kept_for_files = kept_for_files(&ring.service.config, &listeners);
        Self {
            ring,
            poller,
            listeners,
            first_tls,
            admitted,
            rejected,
            turns,
            errors_in_row: 0,
            evict_after: Instant::now(),
            newcomers: VecDeque::new(),
            search: Search::default(),
            kept_for_files,
            congestion,
            backoff,
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
            let until = match self.backoff {
                AcceptBackoff::Off => None,
                AcceptBackoff::Until(until, _) => Some(until),
            };
            let until = until.into_iter().chain(self.search.until()).min();
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poller.wait(&mut ready, timeout) {
                say(format_args!(
                    "haul: waiting for connections failed: {error}"
                ));
                std::thread::sleep(FIRST_HOLD);
            }
            self.settle();
            if let AcceptBackoff::Until(until, _) = self.backoff
                && Instant::now() < until
            {
                continue;
            }
            self.accept_all();
        }
        for listener in &self.listeners {
            let _ = self.poller.forget(listener);
        }
        for newcomer in std::mem::take(&mut self.newcomers) {
            self.welcome(newcomer);
        }
    }

    /// Accepts from the listeners in turn until none has a connection waiting. Events are
    /// edge-triggered, so an accept loop that stops early is resumed by the clock.
    fn accept_all(&mut self) {
        let mut drained = 0;
        while drained < self.turns.len() {
            let Some(number) = self.turns.pop_front() else {
                return;
            };
            self.turns.push_back(number);
            match self.accept_some(number) {
                Accepted::Some => drained = 0,
                Accepted::All => {
                    drained += 1;
                    let (poller, listener) = (&self.poller, &self.listeners[number]);
                    let _ = poller.rearm(listener, number as u64, Interest::Read);
                }
                Accepted::Stopped => return,
            }
        }
        self.backoff = AcceptBackoff::Off;
    }

    /// Accepts from a listener as many as its turn allows.
    fn accept_some(&mut self, number: usize) -> Accepted {
        for _ in 0..ACCEPTED_IN_TURN {
            if self.ring.service.is_draining() {
                return Accepted::Stopped;
            }
            if self.descriptors_run_short() {
                self.hold_for_descriptors();
                return Accepted::Stopped;
            }
            let Some((permit, admission)) = self.permit() else {
                self.hold();
                return Accepted::Stopped;
            };
            match socket::accept(&self.listeners[number]) {
                Ok((stream, peer)) => {
                    Counters::add_one(&self.ring.service.counters.accepted);
                    if let Some(congestion) = &self.congestion {
                        congestion.apply(&stream, peer);
                    }
                    self.dispatch((stream, number), peer, permit, admission);
                    self.backoff = AcceptBackoff::Off;
                    self.errors_in_row = 0;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Accepted::All;
                }
                Err(error) if resources::is_exhaustion(&error) => {
                    self.hold_for_descriptors();
                    return Accepted::Stopped;
                }
                // One connection failed (`ECONNABORTED` and the like); the next ones may be sound.
                Err(_) => {
                    Counters::add_one(&self.ring.service.counters.accept_errors);
                    self.errors_in_row += 1;
                    if self.errors_in_row >= MAX_ERRORS_IN_ROW {
                        self.hold();
                        return Accepted::Stopped;
                    }
                }
            }
        }
        Accepted::Some
    }

    /// Whether a new connection would take one of the last descriptors, which requests need for
    /// files. The system call is made only where connections are many.
    fn descriptors_run_short(&self) -> bool {
        let connections = (self.admitted.taken() + self.rejected.taken()) as u64;
        if connections < self.kept_for_files / MANY_CONNECTIONS {
            return false;
        }
        let next = self.listeners.first().map(resources::next_descriptor);
        next.is_some_and(|next| next.map_or(true, |number| number >= self.kept_for_files))
    }

    fn permit(&self) -> Option<(Permit, Admission)> {
        let admitted = self
            .admitted
            .try_acquire()
            .map(|permit| (permit, Admission::Admitted));
        admitted.or_else(|| {
            self.rejected
                .try_acquire()
                .map(|permit| (permit, Admission::Rejected))
        })
    }

    fn dispatch(
        &mut self,
        (stream, listener): (TcpStream, usize),
        peer: Peer,
        mut permit: Permit,
        mut admission: Admission,
    ) {
        let share = self.ring.service.clients.join(peer);
        // A proxy has the connections of many clients; these are looked at once they are named.
        let proxies = &self.ring.service.config.proxies;
        let is_proxy = proxies.has_introduced(peer) || proxies.has_forwarding(peer);
        let has_too_many = !is_proxy && self.ring.service.has_too_many(&share, peer);
        if has_too_many && admission == Admission::Admitted {
            // A rejected connection must not take the place of a client that would be admitted.
            let Some(rejected) = self.rejected.try_acquire() else {
                let counters = &self.ring.service.counters;
                return counters.count_close(CloseReason::Overloaded);
            };
            (permit, admission) = (rejected, Admission::Rejected);
        }
        let makes_room =
            admission == Admission::Rejected && !has_too_many && Instant::now() >= self.evict_after;
        let newcomer = Newcomer {
            stream,
            listener,
            peer,
            share,
            permit,
            admission,
        };
        if !makes_room {
            return self.welcome(newcomer);
        }
        if self.newcomers.is_empty() {
            self.search = Search::among(self.ring.service.clients.busiest());
        }
        self.newcomers.push_back(newcomer);
        self.settle();
    }

    fn welcome(&self, newcomer: Newcomer) {
        let Newcomer {
            stream,
            listener,
            peer,
            share,
            permit,
            admission,
        } = newcomer;
        let (service, now) = (&*self.ring.service, Instant::now());
        let mut connection =
            Connection::new(stream, peer, share, permit, admission, (service, now));
        if listener >= self.first_tls
            && let Some(tls) = &service.tls
        {
            let Ok(session) = tls.session() else {
                return connection.close(CloseReason::Exhausted, service);
            };
            connection = connection.with_session(session, tls.kernel(), now);
        }
        self.ring.dispatch.send(connection);
    }

    /// Gives waiting connections the places of evicted ones, and has more evicted. When no other
    /// connection is silent, new ones are answered 503.
    fn settle(&mut self) {
        while !self.newcomers.is_empty() {
            if let Some(permit) = self.admitted.try_acquire() {
                if let Some(newcomer) = self.newcomers.pop_front() {
                    self.welcome(newcomer.admitted(permit));
                }
                continue;
            }
            let workers = self.ring.service.config.workers.get();
            let now = Instant::now();
            if self.search.is_under_way(now) && !self.ring.eviction.is_answered_by(workers) {
                return;
            }
            if let Some((client, connections)) = self.search.next(now) {
                let wanted = (connections / EVICTED_PART).max(1);
                self.ring.eviction.ask(client, wanted);
                self.ring.dispatch.wake_all();
                continue;
            }
            self.evict_after = now + EVICTION_PAUSE;
            for newcomer in std::mem::take(&mut self.newcomers) {
                self.welcome(newcomer);
            }
        }
        self.search = Search::default();
    }

    /// As `hold`, and counts how often it begins.
    fn hold_for_descriptors(&mut self) {
        if matches!(self.backoff, AcceptBackoff::Off) {
            Counters::add_one(&self.ring.service.counters.accept_exhausted);
        }
        self.hold();
    }

    /// Leaves new connections in the kernel's queue for a moment, twice as long each time.
    fn hold(&mut self) {
        let hold = match self.backoff {
            AcceptBackoff::Off => FIRST_HOLD,
            AcceptBackoff::Until(_, hold) => (hold * 2).min(MAX_HOLD),
        };
        self.backoff = AcceptBackoff::Until(Instant::now() + hold, hold);
    }
}

/// The number of the first descriptor that is reserved for files. The reserve is enough for a
/// look-up in every worker and some open files, and at most half of the free descriptors.
fn kept_for_files(config: &ServeConfig, listeners: &[TcpListener]) -> u64 {
    let all = resources::open_files();
    let next = listeners.first().map(resources::next_descriptor);
    let free = all.saturating_sub(next.and_then(Result::ok).unwrap_or(0));
    let threads = (config.workers.get() + config.disk_workers.get()) as u64;
    all - (threads * LOOK_UP_DESCRIPTORS + SPARE_DESCRIPTORS).min(free / 2)
}

/// Connections that a listener gets accepted while another one waits.
const ACCEPTED_IN_TURN: usize = 16;
/// So many in a row are no accident of single connections.
const MAX_ERRORS_IN_ROW: u32 = 16;
/// Evicts several at a time, so that a flood of new connections does not cost a search for each.
const EVICTED_PART: usize = 16;
/// After a search without result connections are rejected at once for this time.
const EVICTION_PAUSE: Duration = Duration::from_millis(100);

/// The share of descriptors from which on they are counted. A quarter for connections and a quarter
/// for their files leave half for look-ups.
const MANY_CONNECTIONS: u64 = 4;
const FIRST_HOLD: Duration = Duration::from_millis(5);
const MAX_HOLD: Duration = Duration::from_millis(500);
/// Descriptors of one look-up: the place in the file system, and the open file.
const LOOK_UP_DESCRIPTORS: u64 = 2;
/// Descriptors for files that are being sent, or wait for their close.
const SPARE_DESCRIPTORS: u64 = 32;
