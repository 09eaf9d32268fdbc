//! A worker without a thread, step by step.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::server::client_share::ClientShares;
use crate::server::config::ServeConfig;
use crate::server::connection::step::Admission;
use crate::server::disk_queue::DiskQueue;
use crate::server::disk_worker::run_disk_worker;
use crate::server::dispatch::Dispatch;
use crate::server::eviction::Eviction;
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
use crate::sys::poller::{Interest, Poller};

/// Connections that the bench has room for.
const ROOM: usize = 256;

const QUANTUM: u64 = 64 << 10;

/// A worker without a thread, over a directory with one file, and what admits to it.
struct Bench {
    _root: tempfile::TempDir,
    worker: HotWorker,
    listener: TcpListener,
    clients: ClientShares,
    permits: Arc<Semaphore>,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(root.path().join("f"), "content").expect("written");
        let config = ServeConfig {
            root: root.path().to_owned(),
            quantum_bytes: QUANTUM,
            ..ServeConfig::default()
        };
        let service = Shared::without_log(config);
        let poller = Arc::new(Poller::new().expect("a poller"));
        let beside = Arc::new(Poller::new().expect("a poller"));
        let disk = Arc::new(DiskQueue::new(1, Arc::clone(&service.counters)));
        let ring = Ring {
            eviction: Eviction::new(Arc::new(Poller::new().expect("a poller"))),
            service: Arc::new(service),
            dispatch: Dispatch::new([Arc::clone(&poller), beside]),
            disk,
        };
        Self {
            _root: root,
            worker: HotWorker::new(Arc::new(ring), 0, poller),
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
            clients: ClientShares::default(),
            permits: Semaphore::new(ROOM),
        }
    }

    /// A connection, and the other end of it.
    fn connect(&self) -> (Box<Connection>, TcpStream) {
        let address = self.listener.local_addr().expect("bound");
        let peer = TcpStream::connect(address).expect("connects");
        peer.set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a time-out");
        let (stream, address) = self.listener.accept().expect("accepts");
        stream.set_nonblocking(true).expect("a socket");
        let permit = self.permits.try_acquire().expect("one is left");
        let connection = Connection::new(
            stream,
            address.into(),
            self.clients.join(address.ip()),
            permit,
            Admission::Admitted,
            (&self.worker.ring.service, Instant::now()),
        );
        (connection, peer)
    }

    /// Puts a connection on the worker's table.
    fn adopt(&mut self, connection: Box<Connection>) -> u64 {
        let token = self.worker.table.insert(connection);
        let entry = self.worker.table.get_mut(token).expect("just inserted");
        let watched = entry.watch(&self.worker.poller, token, Interest::Read);
        watched.expect("watched");
        token
    }

    fn panic_in(&mut self, token: u64) {
        let now = Instant::now();
        self.worker
            .contain(token, now, |_, _| panic!("a defect, for the test"));
    }
}

#[test]
fn a_panic_costs_one_connection() {
    let mut bench = Bench::new();
    let (doomed, mut doomed_peer) = bench.connect();
    let (other, mut other_peer) = bench.connect();
    let (doomed, other) = (bench.adopt(doomed), bench.adopt(other));
    bench.panic_in(doomed);

    let counters = bench.worker.ring.service.counters.snapshot();
    assert_eq!(counters.panics, 1);
    assert_eq!(counters.closed(CloseReason::Panicked), 1);
    assert_eq!(counters.closed_in_all(), 1);
    assert_eq!(bench.permits.taken(), 1, "the slot has come back");
    assert_eq!(doomed_peer.read(&mut [0]).expect("closed"), 0);

    // The other connection continues, through the disk queue and to its end, with the same worker.
    other_peer.write_all(b"f\n").expect("sent");
    let ring = Arc::clone(&bench.worker.ring);
    let disk = std::thread::spawn({
        let ring = Arc::clone(&ring);
        move || run_disk_worker(&ring)
    });
    bench.worker.advance(other, Instant::now());
    let worker = std::thread::spawn(move || bench.worker.run());
    let mut content = Vec::new();
    other_peer.read_to_end(&mut content).expect("in order");
    assert_eq!(content, b"content");

    drop(other_peer);
    ring.service.abort();
    ring.dispatch.wake_all();
    worker.join().expect("it has not panicked");
    ring.disk.shut();
    disk.join().expect("it has not panicked");
    let counters = ring.service.counters.snapshot();
    assert_eq!((counters.panics, counters.closed_in_all()), (1, 2));
}

#[test]
fn closed_connections_leave_no_deadline() {
    let mut bench = Bench::new();
    for _ in 0..10 * FEW_DEADLINES {
        let (connection, _peer) = bench.connect();
        let token = bench.adopt(connection);
        bench.worker.advance(token, Instant::now());
        bench.worker.close(token, CloseReason::Aborted);
    }
    assert!(bench.worker.deadlines.len() <= FEW_DEADLINES);
    let (connection, _peer) = bench.connect();
    let token = bench.adopt(connection);
    bench.worker.advance(token, Instant::now());
    let kept = bench.worker.deadlines.iter();
    assert_eq!(kept.filter(|Reverse((_, kept))| *kept == token).count(), 1);
}

#[test]
fn new_connections_do_not_delay_the_turns_of_present_ones() {
    let mut bench = Bench::new();
    let (connection, mut peer) = bench.connect();
    let token = bench.adopt(connection);
    let mut ready = Vec::new();
    bench.worker.wait(&mut ready);
    peer.write_all(b"f\n").expect("sent");
    let newcomers: Vec<_> = (0..2 * MAX_ADOPTED).map(|_| bench.connect()).collect();
    let mut peers = Vec::new();
    for (connection, peer) in newcomers {
        bench.worker.ring.dispatch.send(connection);
        peers.push(peer);
    }
    bench.worker.adopt();
    assert!(bench.worker.ring.dispatch.has_waiting());
    bench.worker.wait(&mut ready);
    assert!(ready.iter().any(|readiness| readiness.token == token));
}

#[test]
fn connections_that_come_back_go_before_newcomers() {
    let bench = Bench::new();
    let (newcomer, _first) = bench.connect();
    let (returning, _second) = bench.connect();
    let number = returning.number();
    let dispatch = &bench.worker.ring.dispatch;
    dispatch.send(newcomer);
    dispatch.send_back(returning);
    let next = dispatch.receive().expect("two are in line");
    assert_eq!(next.number(), number);
    assert!(dispatch.receive().is_some() && dispatch.receive().is_none());
}

#[test]
fn kept_connections_go_to_an_idle_worker_when_many_are_ready() {
    let mut bench = Bench::new();
    let ready: Vec<_> = (0..2 * SHARED_FROM)
        .map(|_| {
            let (connection, peer) = bench.connect();
            (bench.adopt(connection), peer)
        })
        .collect();
    let readiness = |(token, _): &(u64, TcpStream)| Readiness {
        token: *token,
        readable: true,
        writable: false,
        hung_up: false,
    };
    let ring = Arc::clone(&bench.worker.ring);
    let handed_over = || ring.service.counters.snapshot().handovers;
    let mut take = |count: usize| {
        let mut ready = ready[..count].iter().map(readiness).collect();
        bench.worker.take_all(&mut ready, Instant::now());
    };
    // No worker is idle, or there is too little to share.
    take(ready.len());
    ring.dispatch.set_idle(1);
    take(SHARED_FROM - 1);
    assert_eq!(handed_over(), 0);
    take(ready.len());
    assert_eq!(handed_over(), 1, "one for each worker that is woken");
    assert!(ring.dispatch.receive().is_some() && !ring.dispatch.has_idle());
}

#[test]
fn pipelined_requests_share_one_quantum() {
    const LEN: usize = 10_000;
    let mut bench = Bench::new();
    std::fs::write(bench._root.path().join("g"), [b'g'; LEN]).expect("written");
    let ring = Arc::clone(&bench.worker.ring);
    let disk = std::thread::spawn({
        let ring = Arc::clone(&ring);
        move || run_disk_worker(&ring)
    });
    let (connection, mut peer) = bench.connect();
    let token = bench.adopt(connection);
    let now = Instant::now();
    let sent = || ring.service.counters.snapshot().bytes_sent;
    // The first request looks the file up, through the disk queue.
    let request = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n";
    peer.write_all(request).expect("sent");
    bench.worker.advance(token, now);
    while sent() < LEN as u64 {
        bench.worker.adopt();
    }
    // It returned under another token.
    let token = bench.worker.table.tokens()[0];
    let before = sent();
    peer.write_all(&request.repeat(30)).expect("sent");
    let entry = bench.worker.table.get_mut(token).expect("it is there");
    entry.connection.note_readable(Readiness {
        token,
        readable: true,
        writable: true,
        hung_up: false,
    });
    bench.worker.advance(token, now);
    let of_one_turn = sent() - before;
    assert!(of_one_turn <= QUANTUM + LEN as u64, "{of_one_turn} bytes");
    assert!(of_one_turn > 0);
    ring.disk.shut();
    disk.join().expect("it has not panicked");
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "such connections are lingered for there"
)]
fn what_comes_while_the_last_answer_is_made_does_not_break_it() {
    let mut bench = Bench::new();
    let (connection, mut peer) = bench.connect();
    let token = bench.adopt(connection);
    peer.write_all(b"GET /f HTTP/1.0\r\n\r\n").expect("sent");
    // The look-up is left to the disk queue, which has no worker yet.
    bench.worker.advance(token, Instant::now());
    peer.write_all(b"\r\n").expect("sent");
    let ring = Arc::clone(&bench.worker.ring);
    let disk = std::thread::spawn({
        let ring = Arc::clone(&ring);
        move || run_disk_worker(&ring)
    });
    while ring.service.counters.snapshot().bytes_sent == 0 {
        bench.worker.adopt();
    }
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).expect("an orderly end");
    assert!(answer.ends_with(b"content"));
    ring.disk.shut();
    disk.join().expect("it has not panicked");
}

#[test]
fn a_stale_event_after_a_panic_finds_no_entry() {
    let mut bench = Bench::new();
    let (doomed, _peer) = bench.connect();
    let token = bench.adopt(doomed);
    bench.panic_in(token);
    bench.panic_in(token);
    assert_eq!(bench.worker.ring.service.counters.snapshot().panics, 1);
}
