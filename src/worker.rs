//! The two worker loops.
//!
//! A hot worker owns a poller and a table of connections; what it holds, nobody else touches. It
//! takes connections from the dispatch channel, advances those that are ready, and gives away
//! what it has too much of when another worker is idle. A disk worker (in a file of its own) runs
//! errands and sends connections back to dispatch.

mod disk_worker;
mod table;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Errand, Step, Turn};
use crate::disk::{DiskLane, ExtentKey};
use crate::dispatch::Dispatch;
use crate::fair::FairQueue;
use crate::resolve::names::{self, Names};
use crate::service::Service;
use crate::sys::poller::{Poller, Readiness};
use crate::telemetry::{CloseReason, Counters};
use crate::transport::Tools;
pub use crate::worker::disk_worker::run_disk_worker;
use crate::worker::table::Table;

/// What the workers of one server share.
#[derive(Debug)]
pub struct Ring {
    /// What the connections share.
    pub service: Arc<Service>,
    /// The way to the hot workers.
    pub dispatch: Dispatch,
    /// The way to the disk workers.
    pub disk: Arc<DiskLane>,
}

/// A hot worker.
#[derive(Debug)]
pub struct HotWorker {
    ring: Arc<Ring>,
    number: usize,
    poller: Arc<Poller>,
    table: Table,
    /// Connections that could go on sending, by client.
    queue: FairQueue<u64>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    names: Names,
    names_swept: Instant,
    tools: Tools,
    drained: bool,
}

impl HotWorker {
    /// A worker behind the poller that dispatch knows by this number.
    #[must_use]
    pub fn new(ring: Arc<Ring>, number: usize, poller: Arc<Poller>) -> Self {
        let names = Names::of_one_of(ring.service.config.workers);
        Self {
            ring,
            number,
            poller,
            table: Table::default(),
            queue: FairQueue::default(),
            deadlines: BinaryHeap::new(),
            names,
            names_swept: Instant::now(),
            tools: Tools::with_pipe(),
            drained: false,
        }
    }

    /// Works until the server aborts and no connection is left.
    pub fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.adopt();
            if self.ring.service.is_draining() {
                self.close_for_shutdown();
                if self.ring.service.is_aborting() && self.table.is_empty() {
                    return;
                }
            }
            self.wait(&mut ready);
            let now = Instant::now();
            for readiness in ready.drain(..) {
                self.take_readiness(readiness, now);
            }
            if let Some(token) = self.queue.pop() {
                self.share_work();
                if let Some(entry) = self.table.get_mut(token) {
                    entry.queued = false;
                    self.advance(token, Instant::now());
                }
            }
            self.expire(now);
        }
    }

    /// Takes connections from the channel: many if there is nothing else to do, one otherwise, so
    /// that whoever is less busy gets the rest. However many come, those who are here already
    /// have their turn.
    fn adopt(&mut self) {
        for _ in 0..MOST_ADOPTED {
            let Some(connection) = self.ring.dispatch.receive() else {
                return;
            };
            let token = self.table.insert(connection);
            self.ring.dispatch.note_held(self.number, self.table.len());
            self.advance(token, Instant::now());
            if !self.queue.is_empty() {
                return;
            }
        }
    }

    /// Waits for readiness; not at all if there is work in the queue or in the channel.
    fn wait(&self, ready: &mut Vec<Readiness>) {
        let timeout = if self.queue.is_empty() && !self.ring.dispatch.has_waiting() {
            let next = self.deadlines.peek().map(|Reverse((at, _))| *at);
            let sweep = (!self.names.is_empty()).then(|| self.names_swept + names::TRUST);
            let next = [next, sweep].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps {
            self.ring.dispatch.going_idle(self.number);
            // Whoever sent before we said that has not woken us.
            if let Some(connection) = self.ring.dispatch.receive() {
                self.ring.dispatch.back_at_work(self.number);
                self.ring.dispatch.send(connection);
                ready.clear();
                return;
            }
        }
        if let Err(error) = self.poller.wait(ready, timeout) {
            // It cannot fail for a reason that is not a defect of ours; do not spin on it.
            eprintln!(
                "haul: worker {}: waiting for readiness failed: {error}",
                self.number
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        if sleeps {
            self.ring.dispatch.back_at_work(self.number);
        }
    }

    /// Advances a connection that became ready; long responses get in line instead.
    fn take_readiness(&mut self, readiness: Readiness, now: Instant) {
        let Some(entry) = self.table.get_mut(readiness.token) else {
            return;
        };
        if readiness.readable {
            entry.connection.note_readable(readiness);
        }
        if entry.queued {
            return;
        }
        if entry.connection.is_sending() {
            // What the peer says meanwhile, or said before, makes no room for what it is sent.
            if !readiness.writable {
                return;
            }
            entry.queued = true;
            let client = Arc::clone(entry.connection.client());
            self.queue.push(&client, readiness.token);
        } else if readiness.readable {
            self.advance(readiness.token, now);
        }
    }

    /// Advances a connection by a quantum and puts it where it has to go next.
    fn advance(&mut self, token: u64, now: Instant) {
        self.contain(token, now, |connection, turn| connection.advance(turn));
    }

    /// Runs a step of a connection; a panic in it costs that connection alone.
    fn contain(
        &mut self,
        token: u64,
        now: Instant,
        step: impl FnOnce(&mut Connection, &mut Turn<'_>) -> Step,
    ) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        let ring = Arc::clone(&self.ring);
        let mut turn = Turn {
            service: &ring.service,
            now,
            names: &mut self.names,
            tools: &mut self.tools,
            served: 0,
        };
        let step = catch_unwind(AssertUnwindSafe(|| step(&mut entry.connection, &mut turn)));
        match step {
            Ok(step) => self.follow(token, step),
            Err(_) => {
                Counters::add_one(&ring.service.counters.panics);
                self.close(token, CloseReason::Panicked);
            }
        }
    }

    fn follow(&mut self, token: u64, step: Step) {
        match step {
            Step::Park(interest) => {
                Counters::add_one(&self.ring.service.counters.parks);
                let service = Arc::clone(&self.ring.service);
                let Some(entry) = self.table.get_mut(token) else {
                    return;
                };
                // It came, or became idle, after the idle ones were closed.
                if service.is_draining()
                    && let Some(reason) = entry.connection.on_shutdown(&service)
                {
                    return self.close(token, reason);
                }
                if entry.watch(&self.poller, token, interest).is_err() {
                    return self.close(token, CloseReason::Exhausted);
                }
                self.read_ahead(token);
                self.schedule(token);
            }
            Step::Rest => {
                self.read_ahead(token);
                self.schedule(token);
            }
            Step::Yield => {
                Counters::add_one(&self.ring.service.counters.yields);
                self.read_ahead(token);
                let Some(entry) = self.table.get_mut(token) else {
                    return;
                };
                entry.queued = true;
                let client = Arc::clone(entry.connection.client());
                self.queue.push(&client, token);
            }
            Step::Warm(errand) => {
                let Some(connection) = self.release(token) else {
                    return;
                };
                Counters::add_one(&self.ring.service.counters.disk_visits);
                let (device, extent) = errand_line(&connection, errand, &self.ring.service);
                self.ring.disk.visit(connection, errand, device, extent);
            }
            Step::Close(reason) => self.close(token, reason),
        }
    }

    /// Sees to it that the connection is looked at when its deadline passes. A deadline that
    /// moved back needs no new entry: the old one finds that out.
    fn schedule(&mut self, token: u64) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        let deadline = entry.connection.deadline();
        if entry.scheduled.is_none_or(|at| deadline < at) {
            entry.scheduled = Some(deadline);
            self.deadlines.push(Reverse((deadline, token)));
            self.drop_stale_deadlines();
        }
    }

    /// Drops the deadlines of connections that have left, once they outnumber the others: where
    /// connections come and go by the thousand a second, minutes of them would pile up.
    fn drop_stale_deadlines(&mut self) {
        if self.deadlines.len() <= 2 * self.table.len() + FEW_DEADLINES {
            return;
        }
        let table = &mut self.table;
        self.deadlines.retain(|Reverse((at, token))| {
            let entry = table.get_mut(*token);
            entry.is_some_and(|entry| entry.scheduled == Some(*at))
        });
    }

    fn expire(&mut self, now: Instant) {
        while let Some(Reverse((at, token))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            let Some(entry) = self.table.get_mut(token) else {
                continue;
            };
            if entry.scheduled != Some(at) {
                continue;
            }
            entry.scheduled = None;
            if entry.queued {
                continue;
            }
            if entry.connection.deadline() > now {
                self.schedule(token);
                continue;
            }
            self.contain(token, now, |connection, turn| connection.expire(turn));
        }
        if !self.names.is_empty() && now >= self.names_swept + names::TRUST {
            self.names_swept = now;
            self.names.forget_old(now);
        }
    }

    /// Asks the disk lane to read ahead of a connection whose file comes from a disk.
    fn read_ahead(&mut self, token: u64) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        while let Some((file, extent)) = entry.connection.next_read_ahead() {
            self.ring
                .disk
                .prefetch(entry.connection.client(), &file, extent);
        }
    }

    /// Gives a connection that could go on to a worker that has nothing to do.
    fn share_work(&mut self) {
        if self.queue.is_empty() || self.ring.dispatch.idle_with().is_none() {
            return;
        }
        if let Some(token) = self.queue.pop()
            && let Some(connection) = self.release(token)
        {
            Counters::add_one(&self.ring.service.counters.handovers);
            self.ring.dispatch.send(connection);
        }
    }

    /// Closes what owes nothing, or everything.
    fn close_for_shutdown(&mut self) {
        if self.drained && !self.ring.service.is_aborting() {
            return;
        }
        self.drained = true;
        for token in self.table.tokens() {
            let reason = self
                .table
                .get_mut(token)
                .and_then(|entry| entry.connection.on_shutdown(&self.ring.service));
            if let Some(reason) = reason {
                self.close(token, reason);
            }
        }
    }

    /// Takes a connection out of the table, to go elsewhere.
    fn release(&mut self, token: u64) -> Option<Box<Connection>> {
        let entry = self.table.remove(token)?;
        if entry.watched {
            // If the system thinks otherwise, no stale report can harm.
            let _ = self.poller.forget(entry.connection.stream());
        }
        self.ring.dispatch.note_held(self.number, self.table.len());
        Some(entry.connection)
    }

    fn close(&mut self, token: u64, reason: CloseReason) {
        let Some(entry) = self.table.remove(token) else {
            return;
        };
        if entry.watched {
            self.poller.forget_closing(entry.connection.stream());
        }
        self.ring.dispatch.note_held(self.number, self.table.len());
        entry.connection.close(reason, &self.ring.service);
    }
}

/// The file system that an errand may wait for, and the extent it reads.
fn errand_line(
    connection: &Connection,
    errand: Errand,
    service: &Service,
) -> (u64, Option<ExtentKey>) {
    let extent = match (connection.file(), errand) {
        (Some(file), Errand::Read(extent)) => Some(ExtentKey::new(file, extent)),
        _ => None,
    };
    let device = connection.device();
    (
        device.unwrap_or_else(|| service.root.device_towards(connection.path())),
        extent,
    )
}

/// Connections that a worker takes in before it looks after those it has.
const MOST_ADOPTED: usize = 64;

/// So many deadlines are kept whoever has left.
const FEW_DEADLINES: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Clients;
    use crate::config::ServeConfig;
    use crate::connection::Admission;
    use crate::permits::Permits;
    use crate::sys::poller::Interest;
    use crate::telemetry::journal::{Destination, Journal};

    /// Connections that the bench has room for.
    const ROOM: usize = 256;

    const QUANTUM: u64 = 64 << 10;

    /// A worker that nobody runs, over a directory with one file, and what admits to it.
    struct Bench {
        _root: tempfile::TempDir,
        worker: HotWorker,
        listener: TcpListener,
        clients: Clients,
        permits: Arc<Permits>,
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
            let counters = Arc::new(Counters::default());
            let journal = Journal::start(Destination::Nowhere, Arc::clone(&counters));
            let (journal, _) = journal.expect("nothing to open");
            let (closer, _) = crossbeam_channel::unbounded();
            let poller = Arc::new(Poller::new().expect("a poller"));
            let disk = Arc::new(DiskLane::new(1, Arc::clone(&counters)));
            let service = Service::new(config, counters, journal, closer).expect("a service");
            let ring = Ring {
                service: Arc::new(service),
                dispatch: Dispatch::new(ROOM, [Arc::clone(&poller)]),
                disk,
            };
            Self {
                _root: root,
                worker: HotWorker::new(Arc::new(ring), 0, poller),
                listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
                clients: Clients::default(),
                permits: Permits::new(ROOM),
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
            let permit = self.permits.take().expect("one is left");
            let connection = Connection::new(
                stream,
                address,
                self.clients.enter(address.ip()),
                permit,
                Admission::Welcome,
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

        // The other one goes on, through the disk lane and to its end, with the same worker.
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
    fn those_who_come_and_go_leave_no_deadline_behind() {
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
    fn newcomers_do_not_keep_those_who_are_here_from_their_turn() {
        let mut bench = Bench::new();
        let (connection, mut peer) = bench.connect();
        let token = bench.adopt(connection);
        let mut ready = Vec::new();
        bench.worker.wait(&mut ready);
        peer.write_all(b"f\n").expect("sent");
        let newcomers: Vec<_> = (0..2 * MOST_ADOPTED).map(|_| bench.connect()).collect();
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
        // The first request looks the file up, by way of the disk lane.
        let request = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n";
        peer.write_all(request).expect("sent");
        bench.worker.advance(token, now);
        while sent() < LEN as u64 {
            bench.worker.adopt();
        }
        // It has come back under another token.
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
    #[cfg_attr(haul_portable, ignore = "such connections are lingered for there")]
    fn what_comes_while_the_last_answer_is_made_does_not_break_it() {
        let mut bench = Bench::new();
        let (connection, mut peer) = bench.connect();
        let token = bench.adopt(connection);
        peer.write_all(b"GET /f HTTP/1.0\r\n\r\n").expect("sent");
        // The look-up is left to the disk lane, which nobody runs yet.
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
    fn a_stale_report_of_a_connection_that_panicked_finds_nobody() {
        let mut bench = Bench::new();
        let (doomed, _peer) = bench.connect();
        let token = bench.adopt(doomed);
        bench.panic_in(token);
        bench.panic_in(token);
        assert_eq!(bench.worker.ring.service.counters.snapshot().panics, 1);
    }
}
