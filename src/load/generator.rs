//! A thread of the generator: many connections, one wait.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::config::{LoadConfig, Pace, RunLength};
use super::connection::{Connection, HEAD_ROOM, Next};
use super::phase::ConnectionCounts;
use super::tally::{Question, Tally};
use super::target::Target;
use super::thread_context::ThreadContext;
use crate::sys::buffer::Buffer;
use crate::sys::poller::Poller;
use crate::tls::client::{Connector, Scratch};

/// The state that all threads of a run share.
#[derive(Debug)]
pub(super) struct Run<'run> {
    pub(super) config: &'run LoadConfig,
    pub(super) targets: &'run [Target],
    pub(super) connector: &'run Connector,
    /// When connecting begins.
    pub(super) begin: Instant,
    pub(super) stop: &'run AtomicBool,
    /// Requests that may still begin, where their number is given.
    pub(super) remaining: AtomicI64,
}

/// A thread's counts, for the live display.
#[derive(Debug, Default)]
pub(super) struct LiveCounts {
    pub(super) bytes: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) open: AtomicU64,
}

/// The counts of a thread that has ended. Its connections are still open, so that the server can be
/// looked at while it holds them.
#[derive(Debug)]
pub(super) struct ThreadResult {
    pub(super) tally: Tally,
    pub(super) ended: Instant,
    pub(super) _open: Vec<Connection>,
}

#[derive(Debug)]
pub(super) struct Generator<'run> {
    run: &'run Run<'run>,
    context: ThreadContext<'run>,
    connections: Vec<Connection>,
    /// The targets of each connection: those of one server.
    groups: Vec<TargetGroup>,
    /// Connections that wait for a request.
    ready: VecDeque<usize>,
    /// Connections whose sockets have more for them.
    turns: Vec<usize>,
    /// Connections that wait after a failure, and until when; in order of time.
    resting: VecDeque<(Instant, usize)>,
    /// Connections that the ramp has released.
    released: usize,
    /// When the next request is due, where a rate is given.
    due: Option<Due>,
    /// When the last request ended.
    last_end: Instant,
    random: fastrand::Rng,
}

/// The targets of one server.
#[derive(Clone, Debug)]
pub(super) struct TargetGroup {
    pub(super) targets: Vec<usize>,
    pub(super) weight: u32,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    interval: Duration,
}

impl Run<'_> {
    /// From when on is counted.
    pub(super) fn measured_from(&self) -> Instant {
        self.begin + self.config.ramp
    }

    fn ends(&self) -> Option<Instant> {
        match self.config.extent {
            RunLength::For(duration) => Some(self.measured_from() + duration),
            RunLength::Requests(_) => None,
        }
    }
}

impl<'run> Generator<'run> {
    /// Prepares thread `index`, which drives one connection for each of `groups`.
    pub(super) fn new(
        run: &'run Run<'run>,
        index: usize,
        groups: Vec<TargetGroup>,
    ) -> io::Result<Self> {
        let config = run.config;
        let context = ThreadContext {
            config,
            targets: run.targets,
            poller: Arc::new(Poller::with_fine_timeouts()?),
            tally: Tally::new(groups.len()),
            lengths: vec![None; run.targets.len()],
            now: run.begin,
            counts: ConnectionCounts::default(),
            room: Buffer::new(config.receive_bytes.max(HEAD_ROOM)),
            request: Vec::new(),
            connector: run.connector,
            scratch: Scratch::new(),
        };
        let due = match config.pace {
            Pace::Closed => None,
            Pace::Open { per_second } => Some(Due {
                at: run.begin + Duration::from_secs_f64(index as f64 / per_second),
                interval: Duration::from_secs_f64(config.threads as f64 / per_second),
            }),
        };
        Ok(Self {
            run,
            context,
            connections: (0..groups.len()).map(Connection::new).collect(),
            groups,
            ready: VecDeque::new(),
            turns: Vec::new(),
            resting: VecDeque::new(),
            released: 0,
            due,
            last_end: run.begin,
            random: fastrand::Rng::new(),
        })
    }

    /// Drives the connections until the run ends.
    pub(super) fn run(mut self, live: &LiveCounts) -> io::Result<ThreadResult> {
        let mut events = Vec::new();
        let mut sweep = self.run.begin + SWEEP;
        let mut warming = !self.run.config.ramp.is_zero();
        loop {
            self.context.now = Instant::now();
            if warming && self.context.now >= self.run.measured_from() {
                self.context.tally = Tally::new(self.connections.len());
                warming = false;
            }
            self.release();
            self.start_due();
            self.publish(live);
            if self.is_over() {
                break;
            }
            let timeout = self
                .wake_at(sweep)
                .saturating_duration_since(Instant::now());
            self.context.poller.wait(&mut events, Some(timeout))?;
            self.context.now = Instant::now();
            let turns = std::mem::take(&mut self.turns);
            let reports = events
                .iter()
                .map(|event| (event.token as usize, event.hung_up));
            for (token, hung_up) in reports.chain(turns.into_iter().map(|token| (token, false))) {
                let next = self.connections[token].advance(hung_up, &mut self.context);
                self.note(token, next);
                self.start_due();
            }
            if self.context.now >= sweep {
                self.expire();
                sweep = self.context.now + SWEEP;
            }
        }
        Ok(self.results())
    }

    fn results(mut self) -> ThreadResult {
        let ended = match self.run.config.extent {
            RunLength::For(_) => Instant::now(),
            // A thread notices only by and by that another has sent the last request.
            RunLength::Requests(_) => self.last_end,
        };
        if let Some(due) = self.due {
            let late = ended.saturating_duration_since(due.at).as_secs_f64();
            self.context.tally.unsent = (late / due.interval.as_secs_f64()) as u64;
        }
        ThreadResult {
            tally: self.context.tally,
            ended,
            _open: self.connections,
        }
    }

    /// Releases connections as the ramp allows, and those whose delay is over.
    fn release(&mut self) {
        let total = self.connections.len();
        let ramp = self.run.config.ramp.as_secs_f64();
        let since = self
            .context
            .now
            .saturating_duration_since(self.run.begin)
            .as_secs_f64();
        let due = if since >= ramp {
            total
        } else {
            (total as f64 * since / ramp) as usize
        };
        self.ready.extend(self.released..due);
        self.released = self.released.max(due);
        while let Some(&(until, token)) = self.resting.front() {
            if until > self.context.now {
                break;
            }
            self.resting.pop_front();
            self.ready.push_back(token);
        }
    }

    /// Begins as many requests as are due and find a connection.
    fn start_due(&mut self) {
        while let Some(&token) = self.ready.front() {
            let connects = self.connections[token].is_down();
            if connects && self.context.counts.connecting >= MAX_CONNECTING {
                return;
            }
            let Some(intended) = self.claim() else { return };
            self.ready.pop_front();
            let question = self.choose(token);
            let next = self.connections[token].ask(question, intended, &mut self.context);
            self.note(token, next);
        }
    }

    /// Takes the next request, if one is due, and returns its due time.
    fn claim(&mut self) -> Option<Instant> {
        if self.due.is_some_and(|due| due.at > Instant::now()) {
            return None;
        }
        if matches!(self.run.config.extent, RunLength::Requests(_))
            && self.run.remaining.fetch_sub(1, Ordering::Relaxed) <= 0
        {
            return None;
        }
        match &mut self.due {
            None => Some(Instant::now()),
            Some(due) => {
                let intended = due.at;
                due.at += due.interval;
                Some(intended)
            }
        }
    }

    fn choose(&mut self, token: usize) -> Question {
        let group = &self.groups[token];
        let mut point = self.random.u32(0..group.weight);
        let mut chosen = group.targets[0];
        for &target in &group.targets {
            chosen = target;
            let weight = self.run.targets[target].weight;
            if point < weight {
                break;
            }
            point -= weight;
        }
        let range = self.run.config.range.map(|size| {
            let size = size.get();
            // The first range is requested until a response shows the file's length.
            let whole = self.context.lengths[chosen].map_or(1, |length| (length / size).max(1));
            let first = self.random.u64(0..whole) * size;
            (first, first + (size - 1))
        });
        (chosen, range)
    }

    fn note(&mut self, token: usize, next: Next) {
        if matches!(next, Next::Ready | Next::BackOff) {
            self.last_end = Instant::now();
        }
        match next {
            Next::Wait => {}
            Next::Turn => self.turns.push(token),
            Next::Ready => self.ready.push_back(token),
            Next::BackOff => self.resting.push_back((self.context.now + BACK_OFF, token)),
        }
    }

    fn expire(&mut self) {
        let timeout = self.run.config.timeout;
        for token in 0..self.connections.len() {
            if let Some(next) = self.connections[token].expire(timeout, &mut self.context) {
                self.note(token, next);
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.run.stop.load(Ordering::Relaxed) {
            return true;
        }
        match self.run.ends() {
            Some(end) => self.context.now >= end,
            None => {
                self.run.remaining.load(Ordering::Relaxed) <= 0 && self.context.counts.busy == 0
            }
        }
    }

    fn wake_at(&self, sweep: Instant) -> Instant {
        if !self.turns.is_empty() {
            return self.context.now;
        }
        let mut at = sweep.min(self.context.now + TICK);
        if self.released < self.connections.len() {
            at = at.min(self.context.now + RAMP_STEP);
        }
        if let Some(&(until, _)) = self.resting.front() {
            at = at.min(until);
        }
        if let Some(due) = self.due
            && !self.ready.is_empty()
        {
            at = at.min(due.at);
        }
        self.run.ends().map_or(at, |end| at.min(end))
    }

    fn publish(&self, live: &LiveCounts) {
        live.bytes
            .store(self.context.tally.bytes, Ordering::Relaxed);
        live.requests
            .store(self.context.tally.requests, Ordering::Relaxed);
        live.failures
            .store(self.context.tally.failed(), Ordering::Relaxed);
        live.open
            .store(self.context.counts.open as u64, Ordering::Relaxed);
    }
}

/// How often time-outs are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// How soon a stop is noticed.
const TICK: Duration = Duration::from_millis(100);
const RAMP_STEP: Duration = Duration::from_millis(2);
/// The delay of a connection after a failure, so that a refusing server meets no busy loop.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Concurrent connects of a thread: fewer than the smallest usual backlog of a listener, since the
/// kernel repeats a connect that finds it full only after a second.
const MAX_CONNECTING: usize = 64;
