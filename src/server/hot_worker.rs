//! A hot worker's loop.
//!
//! A hot worker owns a poller and a table of connections, which no other thread touches. It takes
//! connections from the dispatch channels, advances those that are ready, and hands some over when
//! another worker is idle.

mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::diagnostics::say;
use crate::server::connection::Connection;
use crate::server::connection::step::{Step, TurnContext};
use crate::server::fair_queue::FairQueue;
use crate::server::files::open_file_cache::{self, OpenFileCache};
use crate::server::hot_worker::table::{DeadlineQueue, Table};
use crate::server::rate_limit::Allowance;
use crate::server::ring::Ring;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::sink::IoBuffers;
use crate::sys::poller::{Poller, Readiness};
use crate::sys::process::WaitWatch;

/// A hot worker.
#[derive(Debug)]
pub(super) struct HotWorker {
    ring: Arc<Ring>,
    number: usize,
    poller: Arc<Poller>,
    table: Table,
    /// Connections that are ready to send, by client.
    queue: FairQueue<u64>,
    deadlines: DeadlineQueue,
    names: OpenFileCache,
    names_swept: Instant,
    tools: IoBuffers,
    watch: WaitWatch,
    drained: bool,
    /// The last request for eviction that was followed.
    eviction_seen: u64,
}

impl HotWorker {
    /// A worker for the poller that dispatch has under this number.
    #[must_use]
    pub(super) fn new(ring: Arc<Ring>, number: usize, poller: Arc<Poller>) -> Self {
        let names = OpenFileCache::of_one_of(ring.service.config.workers);
        Self {
            ring,
            number,
            poller,
            table: Table::default(),
            queue: FairQueue::default(),
            deadlines: DeadlineQueue::new(),
            names,
            names_swept: Instant::now(),
            tools: IoBuffers::with_pipe(),
            watch: WaitWatch::begin(),
            drained: false,
            eviction_seen: 0,
        }
    }

    /// Works until the server aborts and no connection is left.
    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.adopt();
            self.evict();
            if self.ring.service.is_draining() {
                self.close_for_shutdown();
                if self.ring.service.is_aborting() && self.table.is_empty() {
                    return;
                }
            }
            self.wait(&mut ready);
            let now = Instant::now();
            self.take_all(&mut ready, now);
            if self.not_before(now).is_none()
                && let Some(token) = self.queue.pop()
            {
                self.share_work();
                if let Some(entry) = self.table.get_mut(token) {
                    entry.queued = false;
                    self.advance(token, Instant::now());
                }
            }
            self.expire(now);
        }
    }

    /// Takes connections from dispatch: many if the worker has no other work, else one, so that
    /// less busy workers get the rest. The worker's own connections have their turn in either case.
    fn adopt(&mut self) {
        for _ in 0..MAX_ADOPTED {
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

    /// The time at which the server's rate allows the queue to go on, if that is not now. Checking
    /// each connection instead would cost a turn of all of them for each burst.
    fn not_before(&self, now: Instant) -> Option<Instant> {
        match self.ring.service.rate().allowance(now) {
            Allowance::NotBefore(due) => Some(due),
            Allowance::Bytes(_) => None,
        }
    }

    /// Waits for readiness; not if there is work in the queue or in a channel.
    fn wait(&mut self, ready: &mut Vec<Readiness>) {
        let has_work = !self.queue.is_empty();
        let queue = has_work.then(|| self.not_before(Instant::now())).flatten();
        let may_wait = !has_work || queue.is_some();
        let timeout = if may_wait && !self.ring.dispatch.has_waiting() {
            let next = self.deadlines.peek().map(|Reverse((at, _))| *at);
            let sweep =
                (!self.names.is_empty()).then(|| self.names_swept + open_file_cache::VALID_FOR);
            let next = [next, sweep, queue].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps {
            self.ring.dispatch.set_idle(self.number);
            // A connection sent before `set_idle` did not wake us, so look once more.
            if self.ring.dispatch.has_waiting() {
                self.ring.dispatch.set_busy(self.number);
                ready.clear();
                return;
            }
        }
        if let Err(error) = self.poller.wait(ready, timeout) {
            // Only a defect of ours makes the wait fail; do not spin on it.
            say(format_args!(
                "haul: worker {}: waiting for readiness failed: {error}",
                self.number
            ));
            std::thread::sleep(Duration::from_millis(10));
        }
        self.watch = WaitWatch::begin();
        if sleeps {
            self.ring.dispatch.set_busy(self.number);
        }
    }

    /// Sees to all that became ready, or gives away every second one while another worker is idle.
    fn take_all(&mut self, ready: &mut Vec<Readiness>, now: Instant) {
        let is_loaded = ready.len() >= SHARED_FROM;
        for (number, readiness) in ready.drain(..).enumerate() {
            if !(is_loaded && number % 2 == 1 && self.hand_over(readiness)) {
                self.take_readiness(readiness, now);
            }
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
            // Bytes from the peer make no room for the response.
            if !readiness.writable {
                return;
            }
            entry.queued = true;
            self.queue.push(entry.connection.share(), readiness.token);
        } else if entry.connection.is_handshaking() {
            entry.queued = true;
            self.queue.push(entry.connection.share(), readiness.token);
        } else if readiness.readable || entry.connection.owes_end() {
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
        step: impl FnOnce(&mut Connection, &mut TurnContext<'_>) -> Step,
    ) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        let service = &self.ring.service;
        let mut turn = TurnContext {
            service,
            now,
            names: &mut self.names,
            tools: &mut self.tools,
            watch: &mut self.watch,
            served: 0,
        };
        let step = catch_unwind(AssertUnwindSafe(|| step(&mut entry.connection, &mut turn)));
        match step {
            Ok(Step::Park(interest)) => {
                Counters::add_one(&service.counters.parks);
                // The connection arrived, or became idle, after the idle ones were closed.
                if service.is_draining()
                    && let Some(reason) = entry.connection.on_shutdown(service, now)
                {
                    return self.close(token, reason);
                }
                if entry.watch(&self.poller, token, interest).is_err() {
                    return self.close(token, CloseReason::Exhausted);
                }
                self.ring.disk.read_ahead(&mut entry.connection);
                if entry.schedule(token, &mut self.deadlines) {
                    self.drop_stale_deadlines();
                }
            }
            Ok(Step::Delay) => {
                self.ring.disk.read_ahead(&mut entry.connection);
                if entry.schedule(token, &mut self.deadlines) {
                    self.drop_stale_deadlines();
                }
            }
            Ok(Step::Yield) => {
                Counters::add_one(&service.counters.yields);
                self.ring.disk.read_ahead(&mut entry.connection);
                entry.queued = true;
                self.queue.push(entry.connection.share(), token);
            }
            Ok(Step::Disk(job)) => {
                Counters::add_one(&service.counters.disk_visits);
                if let Some(connection) = self.release(token) {
                    self.ring.disk.submit(connection, job);
                }
            }
            Ok(Step::Close(reason)) => self.close(token, reason),
            Err(_) => {
                Counters::add_one(&service.counters.panics);
                self.close(token, CloseReason::Panicked);
            }
        }
    }

    /// Drops the deadlines of closed connections once they outnumber the others: at thousands of
    /// connections a second, minutes of stale deadlines would pile up.
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
                entry.schedule(token, &mut self.deadlines);
                continue;
            }
            self.contain(token, now, |connection, turn| connection.expire(turn));
        }
        if !self.names.is_empty() && now >= self.names_swept + open_file_cache::VALID_FOR {
            self.names_swept = now;
            self.names.forget_old(now);
        }
    }

    /// Gives a ready connection to an idle worker.
    fn share_work(&mut self) {
        if self.ring.dispatch.has_idle()
            && let Some(token) = self.queue.pop()
            && let Some(connection) = self.release(token)
        {
            self.send_away(connection);
        }
    }

    /// Hands a connection with a new request to an idle worker, where it stays: kept connections
    /// spread by the work that they cause.
    fn hand_over(&mut self, readiness: Readiness) -> bool {
        if !readiness.readable || !self.ring.dispatch.has_idle() {
            return false;
        }
        let Some(entry) = self.table.get_mut(readiness.token) else {
            return false;
        };
        if entry.queued || entry.connection.is_sending() {
            return false;
        }
        entry.connection.note_readable(readiness);
        let connection = self.release(readiness.token);
        connection
            .map(|connection| self.send_away(connection))
            .is_some()
    }

    fn send_away(&self, connection: Box<Connection>) {
        Counters::add_one(&self.ring.service.counters.handovers);
        self.ring.dispatch.send_back(connection);
    }

    /// Closes the oldest silent connections of a client, if the acceptor needs room.
    fn evict(&mut self) {
        let ring = Arc::clone(&self.ring);
        let Some(client) = ring.eviction.asked_since(&mut self.eviction_seen) else {
            return;
        };
        let now = Instant::now();
        let mut silent = Vec::new();
        for token in self.table.tokens() {
            let entry = self.table.get_mut(token);
            let connection = entry.map(|entry| &entry.connection);
            let connection = connection.filter(|connection| connection.client().id() == client);
            if let Some(since) = connection.and_then(|connection| connection.silent_since(now)) {
                silent.push((since, token));
            }
        }
        silent.sort_unstable();
        for (_, token) in silent {
            if !ring.eviction.take_one() {
                break;
            }
            self.close(token, CloseReason::Overloaded);
        }
        ring.eviction.answer();
    }

    /// Closes what owes nothing, or everything.
    fn close_for_shutdown(&mut self) {
        if self.drained && !self.ring.service.is_aborting() {
            return;
        }
        self.drained = true;
        let now = Instant::now();
        for token in self.table.tokens() {
            let Some(entry) = self.table.get_mut(token) else {
                continue;
            };
            match entry.connection.on_shutdown(&self.ring.service, now) {
                Some(reason) => self.close(token, reason),
                None => {
                    entry.schedule(token, &mut self.deadlines);
                }
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

/// Connections that a worker takes in before it looks after those it has.
const MAX_ADOPTED: usize = 64;

/// A worker with so many ready connections at a time has more than it can do at once.
const SHARED_FROM: usize = 4;

/// Below this size stale deadlines are not purged.
const FEW_DEADLINES: usize = 64;
