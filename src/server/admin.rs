//! The admin interface: what an operator, a supervisor or a scraper may know of a running server,
//! over HTTP, apart from what is served.
//!
//! It has threads of its own and reads counters and cards (`telemetry`); it takes no lock that a
//! worker takes. A client that is slow costs one of its few threads for some seconds.

mod exchange;
mod metrics;
mod observer;
mod page;
mod process;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::server::admin::exchange::{Answer, Asked, read_request};
pub(super) use crate::server::admin::observer::Observer;
use crate::server::config::{AdminAddress, AdminReach, LocalAccess};
use crate::sys::{local_socket, socket};

/// An admin interface that is bound and not yet running.
#[derive(Debug)]
pub(super) struct AdminListener {
    listener: TcpListener,
    reach: AdminReach,
}

impl AdminListener {
    /// Binds the address.
    ///
    /// # Errors
    /// As bind(2).
    pub(super) fn bind(
        address: &AdminAddress,
        reach: AdminReach,
        access: LocalAccess,
    ) -> io::Result<Self> {
        let listener = match address {
            AdminAddress::Inet(address) => socket::listen(*address, BACKLOG)?,
            AdminAddress::Local(address) => local_socket::listen(address, access, BACKLOG)?,
        };
        listener.set_nonblocking(false)?;
        Ok(Self { listener, reach })
    }

    /// The address, with the port that was chosen; a Unix socket has none.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(self, observer: Arc<Observer>) -> io::Result<Admin> {
        let (stop, stopped) = bounded::<()>(0);
        let listener = Arc::new(self.listener);
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (listener, observer) = (Arc::clone(&listener), Arc::clone(&observer));
            let builder = std::thread::Builder::new().name(format!("haul-admin-{number}"));
            let reach = self.reach;
            threads.push(builder.spawn(move || answer_all(&listener, reach, &observer))?);
        }
        let look = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                observer.look(Instant::now());
            }
        };
        let builder = std::thread::Builder::new().name("haul-observe".into());
        threads.push(builder.spawn(look)?);
        Ok(Admin {
            listener,
            stop,
            threads,
        })
    }
}

/// A running admin interface.
#[derive(Debug)]
pub(super) struct Admin {
    listener: Arc<TcpListener>,
    stop: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Admin {
    /// Ends it; whoever is being answered is given a moment.
    pub(super) fn finish(self) {
        drop(self.stop);
        let _ = socket::stop_accepting(&self.listener);
        let ends = Instant::now() + FINISH;
        while Instant::now() < ends && self.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(FINISH_POLL);
        }
    }
}

fn answer_all(listener: &TcpListener, reach: AdminReach, observer: &Observer) {
    loop {
        match socket::accept(listener) {
            Ok((stream, peer)) => {
                // Nobody is told what goes wrong with a client of this kind.
                let _ = answer(stream, peer.ip().is_some(), reach, observer);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            // Out of descriptors, or the one connection is gone.
            Err(_) => std::thread::sleep(AFTER_ERROR),
        }
    }
}

fn answer(
    stream: TcpStream,
    is_inet: bool,
    reach: AdminReach,
    observer: &Observer,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let ends = Instant::now() + PATIENCE;
    let names_matter = is_inet && reach == AdminReach::ThisHost;
    let (answer, has_content) = match read_request(&stream, ends, names_matter)? {
        Asked::Nothing => return Ok(()),
        Asked::Wrong(status) => (Answer::error(status), true),
        Asked::For { path, has_content } => (answer_to(&path, observer), has_content),
    };
    answer.send(&stream, has_content, ends)
}

fn answer_to(path: &[u8], observer: &Observer) -> Answer {
    match path {
        b"" => Answer::html(page::page()),
        b"metrics" => Answer::of(metrics::CONTENT_TYPE, metrics::encode(observer)),
        b"healthz" => Answer::text("ok\n"),
        b"readyz" => match observer.not_ready() {
            None => Answer::text("ready\n"),
            Some(why) => Answer::unavailable(format!("{why}\n")),
        },
        b"transfers" => Answer::of("application/json", status::encode(observer)),
        _ => Answer::error(404),
    }
}

const BACKLOG: i32 = 64;
/// As many slow clients hold up the others.
const THREADS: usize = 4;
/// For a request and its answer together.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AFTER_ERROR: Duration = Duration::from_millis(100);
const FINISH: Duration = Duration::from_millis(500);
const FINISH_POLL: Duration = Duration::from_millis(5);
