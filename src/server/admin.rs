//! The admin interface: the state of a running server over HTTP, for operators, supervisors and
//! scrapers, on a listener of its own.
//!
//! The interface has its own threads and reads counters and cards (`telemetry`), without a lock
//! that a worker takes. No thread waits for a client.

mod client;
mod exchange;
mod metrics;
mod observer;
mod page;
mod predecessor;
mod process;
mod status;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::http::MetricsFormat;
use crate::server::admin::client::Client;
use crate::server::admin::exchange::{Answer, Asked};
pub(super) use crate::server::admin::observer::Observer;
use crate::server::admin::predecessor::{Predecessor, answer_successor};
use crate::server::config::AdminReach;
use crate::sys::inherited::{InheritedListener, PREDECESSOR};
use crate::sys::poll::{Direction, wait_ready};
use crate::sys::socket;

/// An admin interface that is bound and not yet running.
#[derive(Debug)]
pub(super) struct AdminListener {
    listener: TcpListener,
    reach: AdminReach,
    predecessor: Option<Predecessor>,
    /// This server's end of the way from the one that takes over, and that one's.
    successor: (UnixStream, UnixStream),
}

impl AdminListener {
    /// An interface on a socket that does not block.
    ///
    /// # Errors
    /// As socketpair(2).
    pub(super) fn new(
        listener: TcpListener,
        reach: AdminReach,
        predecessor: Option<UnixStream>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener,
            reach,
            predecessor: predecessor.map(Predecessor::new),
            successor: UnixStream::pair()?,
        })
    }

    /// The socket on which a successor queries what this server still does.
    ///
    /// # Errors
    /// As dup(2).
    pub(super) fn for_successor(&self) -> io::Result<InheritedListener> {
        let (socket, name) = (self.successor.1.try_clone()?, PREDECESSOR.to_owned());
        let socket = OwnedFd::from(socket).into();
        Ok(InheritedListener { socket, name })
    }

    /// The socket.
    pub(super) fn socket(&self) -> &TcpListener {
        &self.listener
    }

    /// The address, with the port that was chosen; a Unix socket has none.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(self, observer: &Arc<Observer>) -> io::Result<Admin> {
        let (stop, stopped) = bounded::<()>(0);
        let (ends, ended) = UnixStream::pair()?;
        let sources = Arc::new((self.listener, ended));
        if let Some(predecessor) = self.predecessor {
            observer.note_predecessor(predecessor);
        }
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (sources, observer) = (Arc::clone(&sources), Arc::clone(observer));
            let builder = std::thread::Builder::new().name(format!("haul-admin-{number}"));
            let reach = self.reach;
            threads.push(builder.spawn(move || answer_all(&sources, reach, &observer))?);
        }
        let observer = Arc::clone(observer);
        let look = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                observer.look(Instant::now());
            }
        };
        let builder = std::thread::Builder::new().name("haul-observe".into());
        threads.push(builder.spawn(look)?);
        Ok(Admin {
            stop: (stop, ends),
            threads,
            successor: self.successor.0,
        })
    }
}

/// A running admin interface.
#[derive(Debug)]
pub(super) struct Admin {
    /// Dropped, it ends the threads.
    stop: (Sender<()>, UnixStream),
    threads: Vec<JoinHandle<()>>,
    /// The socket of the successor's queries.
    successor: UnixStream,
}

impl Admin {
    /// Leaves the interface to the successor, which queries this server from now on.
    pub(super) fn hand_over(self, observer: Arc<Observer>) {
        let successor = self.end();
        let builder = std::thread::Builder::new().name("haul-replaced".into());
        let answer = move || {
            let tell = || status::encode(&observer);
            answer_successor(&successor, || observer.look(Instant::now()), tell);
        };
        // Without this thread the transfers continue unobserved.
        drop(builder.spawn(answer));
    }

    /// Ends the interface; requests under way have a moment.
    pub(super) fn finish(self) {
        self.end();
    }

    fn end(self) -> UnixStream {
        drop(self.stop);
        let ends = Instant::now() + FINISH;
        while Instant::now() < ends && self.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(FINISH_POLL);
        }
        self.successor
    }
}

fn answer_all(sources: &(TcpListener, UnixStream), reach: AdminReach, observer: &Observer) {
    let (listener, ended) = sources;
    let mut clients: VecDeque<(Client, bool)> = VecDeque::new();
    let mut ends = false;
    while !(ends && clients.is_empty()) {
        let now = Instant::now();
        let next = clients.iter().map(|(client, _)| client.ends()).min();
        let wait = next.map_or(LOOK_EVERY, |next| next.saturating_duration_since(now));
        // An eventfd ends the wait: shutdown(2) would act on every copy of the socket.
        let own = [ended.as_fd(), listener.as_fd()].map(|source| (source, Direction::Read));
        let own = own.into_iter().filter(|_| !ends);
        let awaited = clients.iter().map(|(client, _)| client.awaited());
        let awaited: Vec<_> = own.chain(awaited).collect();
        let ready = wait_ready(&awaited, wait.min(LOOK_EVERY)).unwrap_or_default();
        // A failure of an admin client is of no interest to the operator.
        clients.retain_mut(|(client, names_matter)| {
            client.advance(*names_matter, |asked| answer(asked, observer))
        });
        if !ends && ready.contains(&0) {
            ends = true;
            clients.retain(|(client, _)| client.has_begun());
        } else if !ends && ready.contains(&1) {
            accept(listener, reach, &mut clients);
        }
    }
}

fn accept(listener: &TcpListener, reach: AdminReach, clients: &mut VecDeque<(Client, bool)>) {
    match socket::accept(listener) {
        Ok((stream, peer)) => {
            // One that asks gets its answer at once: the oldest is silent, or does not read.
            if clients.len() >= MAX_CLIENTS {
                clients.pop_front();
            }
            let names_matter = peer.ip().is_some() && reach == AdminReach::ThisHost;
            clients.push_back((Client::new(stream), names_matter));
        }
        // Another thread was faster.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // Descriptors are exhausted, or one connection failed.
        Err(_) => std::thread::sleep(AFTER_ERROR),
    }
}

/// The answer, and whether its content is sent.
fn answer(asked: Asked, observer: &Observer) -> (Answer, bool) {
    match asked {
        Asked::Wrong(status) => (Answer::error(status), true),
        Asked::For {
            path,
            metrics,
            has_content,
        } => (answer_to(&path, metrics, observer), has_content),
    }
}

fn answer_to(path: &[u8], metrics: MetricsFormat, observer: &Observer) -> Answer {
    match path {
        b"" => Answer::html(page::page()),
        b"metrics" => {
            let (content_type, content) = metrics::encode(observer, metrics);
            Answer::of(content_type, content)
        }
        b"healthz" => Answer::text("ok\n"),
        b"readyz" => match observer.not_ready() {
            None => Answer::text("ready\n"),
            Some(why) => Answer::unavailable(format!("{why}\n")),
        },
        b"transfers" => Answer::of("application/json", status::encode(observer)),
        _ => Answer::error(404),
    }
}

/// As many long answers are made at once.
const THREADS: usize = 4;
/// Clients of each thread; the oldest makes room for the next.
const MAX_CLIENTS: usize = 16;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AFTER_ERROR: Duration = Duration::from_millis(100);
const FINISH: Duration = Duration::from_millis(500);
const FINISH_POLL: Duration = Duration::from_millis(5);
