//! Models of the hand-overs between threads: the threads' real loops, with real sockets and files,
//! under a scheduler that picks the next thread at each lock, atomic and channel (shuttle). No time
//! passes in them, so a lost wake-up is a run that does not end, and fails.
//!
//! The scheduler runs every memory order as `SeqCst`. The hand-overs that depend on the order,
//! going idle and the poller's wake-up, use `SeqCst`.
//!
//! `cargo test --features models --lib models`; `HAUL_MODEL_ROUNDS` sets the number of schedules of
//! each model.

mod threads;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::JoinHandle;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::*;

/// Runs a model with many schedules: half of them random, half by priorities that change a few
/// times, which finds faults of few but rare switches (Burckhardt et al. 2010).
pub(super) fn check(model: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("HAUL_MODEL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.failure_persistence = FailurePersistence::Print;
    let model = Arc::new(model);
    for is_random in [true, false] {
        let (config, model) = (config.clone(), Arc::clone(&model));
        match is_random {
            true => Runner::new(RandomScheduler::new(rounds / 2), config).run(move || model()),
            false => {
                Runner::new(PctScheduler::new(SWITCHES, rounds / 2), config).run(move || model())
            }
        };
    }
}

/// A directory with a file `f`, which is no longer young.
pub(super) fn directory(content: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), content).expect("written");
    std::thread::sleep(Duration::from_millis(20));
    directory
}

/// A server whose threads are those of a model.
struct Model {
    handle: Handle,
    address: SocketAddr,
    acceptor: JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    disk: Vec<JoinHandle<()>>,
}

impl Model {
    /// With two hot workers and two disk workers.
    fn start(root: &Path, adjust: impl FnOnce(&mut ServeConfig)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let poller = || Arc::new(Poller::new().expect("a poller"));
        let (accepting, pollers) = (poller(), [poller(), poller()]);
        let ring = Arc::new(ring(root, adjust, (&accepting, &pollers)));
        let permits = (
            Arc::clone(&ring.service.connections),
            Semaphore::new(SPARE_PERMITS),
        );
        let acceptor = Acceptor::new(
            Arc::clone(&ring),
            Arc::clone(&accepting),
            (vec![listener], 1),
            permits.clone(),
            None,
        );
        let start = |work: Box<dyn FnOnce(Arc<Ring>) + Send>| {
            let ring = Arc::clone(&ring);
            shuttle::thread::spawn(move || work(ring))
        };
        let hot = pollers.into_iter().enumerate().map(|(number, poller)| {
            start(Box::new(move |ring| {
                HotWorker::new(ring, number, poller).run();
            }))
        });
        let threads = hot.collect();
        let disk = (0..2).map(|_| start(Box::new(|ring| run_disk_worker(&ring))));
        let disk = disk.collect();
        Self {
            handle: Handle::new(&ring, &accepting, &permits),
            address,
            acceptor: shuttle::thread::spawn(move || acceptor.run()),
            threads,
            disk,
        }
    }

    /// Ends as [`Server::run`] does after a shutdown. No connection is left, and none was counted
    /// twice.
    fn finish(self) -> Snapshot {
        self.acceptor.join().expect("no panic");
        let counters = self.handle.finish(self.handle.ring.service.config.grace);
        for thread in self.threads.into_iter().chain(self.disk) {
            thread.join().expect("no panic");
        }
        assert_eq!((counters.open, counters.panics), (0, 0));
        assert_eq!(counters.closed_in_all(), counters.accepted);
        assert!(self.handle.ring.dispatch.receive().is_none());
        counters
    }
}

fn ring(
    root: &Path,
    adjust: impl FnOnce(&mut ServeConfig),
    (acceptor, pollers): (&Arc<Poller>, &[Arc<Poller>; 2]),
) -> Ring {
    let mut config = ServeConfig {
        root: root.to_owned(),
        workers: pollers.len().try_into().expect("some"),
        ..ServeConfig::default()
    };
    adjust(&mut config);
    let service = Shared::without_log(config);
    let disk = Arc::new(DiskQueue::new(2, Arc::clone(&service.counters)));
    Ring {
        service: Arc::new(service),
        eviction: Eviction::new(Arc::clone(acceptor)),
        dispatch: Dispatch::new(pollers.iter().map(Arc::clone)),
        disk,
    }
}

/// A client's connection, whose waits leave the others their turns.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).expect("a socket");
        Some(Self(stream))
    }

    /// Sends a request; if the server has closed, it is lost.
    fn send(&mut self, request: &str) {
        let _ = self.0.write_all(request.as_bytes());
    }

    /// The bytes up to the end of the stream, or up to `most`.
    fn read(&mut self, most: usize) -> Vec<u8> {
        let mut content = vec![0; most];
        let mut len = 0;
        while len < most {
            match self.0.read(&mut content[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => shuttle::thread::yield_now(),
                Err(_) => break,
            }
        }
        content.truncate(len);
        content
    }

    /// Asks for `/f` and stays. Returns the status; 0 if the server closed instead.
    fn ask(&mut self) -> u16 {
        self.send(REQUEST);
        self.answer()
    }

    fn answer(&mut self) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = self.read(1);
            if byte.is_empty() {
                assert!(head.is_empty(), "an answer was cut off");
                return 0;
            }
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("a head").to_lowercase();
        let field = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        let len: usize = field.expect("a length").parse().expect("a number");
        let body = self.read(len);
        let status = head[9..12].parse().expect("a status");
        assert_eq!(body.len(), len, "an answer was cut off");
        assert!(status != 200 || body == CONTENT.as_bytes());
        status
    }
}

pub(super) const CONTENT: &str = "content";
const REQUEST: &str = "GET /f HTTP/1.1\r\nHost: x\r\n\r\n";
const ROUNDS: usize = 200;
/// Some ten times what a run takes.
const MAX_STEPS: usize = 200_000;
/// Switches of priority in a schedule.
const SWITCHES: usize = 4;
const STACK_BYTES: usize = 1 << 20;
const SPARE_PERMITS: usize = 8;
