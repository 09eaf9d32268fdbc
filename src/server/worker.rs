//! The two worker loops.
//!
//! A hot worker owns a poller and a table of connections; what it holds, nobody else touches. It
//! takes connections from the dispatch channel, advances those that are ready, and gives away
//! what it has too much of when another worker is idle. A disk worker (in a file of its own) runs
//! errands and sends connections back to dispatch.

mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::diagnostics::say;
use crate::server::connection::Connection;
use crate::server::connection::step::{Step, TurnContext};
use crate::server::fair_queue::FairQueue;
use crate::server::files::open_file_cache::{self, OpenFileCache};
use crate::server::ring::Ring;
use crate::server::telemetry::{CloseReason, Counters};
use crate::server::transmit::sink::IoBuffers;
use crate::server::worker::table::Table;
use crate::sys::poller::{Poller, Readiness};

/// A hot worker.
#[derive(Debug)]
pub(super) struct HotWorker {
    ring: Arc<Ring>,
    number: usize,
    poller: Arc<Poller>,
    table: Table,
    /// Connections that could go on sending, by client.
    queue: FairQueue<u64>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    names: OpenFileCache,
    names_swept: Instant,
    tools: IoBuffers,
    drained: bool,
}

impl HotWorker {
    /// A worker behind the poller that dispatch knows by this number.
    #[must_use]
    pub(super) fn new(ring: Arc<Ring>, number: usize, poller: Arc<Poller>) -> Self {
        let names = OpenFileCache::of_one_of(ring.service.config.workers);
        Self {
            ring,
            number,
            poller,
            table: Table::default(),
            queue: FairQueue::default(),
            deadlines: BinaryHeap::new(),
            names,
            names_swept: Instant::now(),
            tools: IoBuffers::with_pipe(),
            drained: false,
        }
    }

    /// Works until the server aborts and no connection is left.
    pub(super) fn run(mut self) {
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
            let sweep =
                (!self.names.is_empty()).then(|| self.names_swept + open_file_cache::VALID_FOR);
            let next = [next, sweep].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps {
            self.ring.dispatch.set_idle(self.number);
            // Whoever sent before we said that has not woken us.
            if let Some(connection) = self.ring.dispatch.receive() {
                self.ring.dispatch.set_busy(self.number);
                self.ring.dispatch.send(connection);
                ready.clear();
                return;
            }
        }
        if let Err(error) = self.poller.wait(ready, timeout) {
            // It cannot fail for a reason that is not a defect of ours; do not spin on it.
            say(format_args!(
                "haul: worker {}: waiting for readiness failed: {error}",
                self.number
            ));
            std::thread::sleep(Duration::from_millis(10));
        }
        if sleeps {
            self.ring.dispatch.set_busy(self.number);
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
        step: impl FnOnce(&mut Connection, &mut TurnContext<'_>) -> Step,
    ) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        let ring = Arc::clone(&self.ring);
        let mut turn = TurnContext {
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
            Step::Delay => {
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
            Step::Disk(job) => {
                let Some(connection) = self.release(token) else {
                    return;
                };
                Counters::add_one(&self.ring.service.counters.disk_visits);
                self.ring.disk.visit(connection, job);
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
        if !self.names.is_empty() && now >= self.names_swept + open_file_cache::VALID_FOR {
            self.names_swept = now;
            self.names.forget_old(now);
        }
    }

    /// Asks the disk lane to read ahead of a connection whose file comes from a disk.
    fn read_ahead(&mut self, token: u64) {
        let Some(entry) = self.table.get_mut(token) else {
            return;
        };
        self.ring.disk.read_ahead(&mut entry.connection);
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

/// Connections that a worker takes in before it looks after those it has.
const MOST_ADOPTED: usize = 64;

/// So many deadlines are kept whoever has left.
const FEW_DEADLINES: usize = 64;
