//! Queues of jobs that may wait for a disk, for each file system, round robin by client. Look-ups,
//! listings and reads have queues of their own, so that a look-up waits for no read of another
//! client's.
//!
//! A line gets a free disk worker only while it occupies fewer than are free (a dynamic
//! threshold): reads that hang take half of the workers, look-ups that hang as well half of the
//! rest, and there is always one left for a file system of which nothing is running. Readers of
//! one extent wait for one read.
//!
//! Extents ahead of a reader are read in order, one after the other: then the kernel reads ahead as
//! well, and into large folios, which cost less to send. A file system where each read may take
//! long is asked for all of it at once.

pub(crate) mod gauge;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::server::client_share::ClientShare;
use crate::server::connection::Connection;
use crate::server::connection::step::{DiskAction, DiskJob, ExtentKey};
use crate::server::disk_queue::gauge::{DiskGauge, DiskGauges};
use crate::server::files::{Closing, OpenFile};
use crate::server::round_robin::RoundRobin;
use crate::server::telemetry::Counters;
use crate::server::transmit::read_ahead::ReadAhead;

/// The key of a queue, whose jobs may hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct QueueKey {
    /// The file system (`st_dev`).
    device: u64,
    kind: QueueKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum QueueKind {
    /// A few at a time: they need no disk, but a core for a tenth of a second each.
    Passwords,
    LookUps,
    Listings,
    /// Signatures, which wait for no disk.
    Handshakes,
    /// Of extents, also where they are sent at the same time.
    Reads,
    /// Closes run one at a time: if closes hang, reads may still be well.
    Closes,
}

impl QueueKey {
    fn of_job(job: DiskJob) -> Self {
        let kind = match job.action {
            DiskAction::CheckPassword => QueueKind::Passwords,
            DiskAction::LookUp => QueueKind::LookUps,
            DiskAction::ProduceListing => QueueKind::Listings,
            DiskAction::Handshake => QueueKind::Handshakes,
            DiskAction::Read(..) | DiskAction::Send => QueueKind::Reads,
        };
        let device = job.file_system;
        Self { device, kind }
    }

    fn of_reads(file: &OpenFile) -> Self {
        let device = file.file_system.device();
        let kind = QueueKind::Reads;
        Self { device, kind }
    }
}

/// Work for a disk worker.
#[derive(Debug)]
pub(super) enum Job {
    /// A connection whose next step may wait for a disk.
    Connection(Box<Connection>, DiskAction),
    /// An extent that a sequential reader will want soon.
    Prefetch(ReadAhead),
    /// A file whose close may wait.
    Close(Closing),
}

/// A job taken from the line; hand it back to [`DiskQueue::finish`].
#[derive(Debug)]
pub(super) struct Ticket {
    line: QueueKey,
    extent: Option<ExtentKey>,
    /// The reader whose next extent is to be read ahead after this one.
    reader: Option<Reader>,
}

/// The reader that is read ahead of: the number of its connection.
type Reader = u64;

/// The connections that were taken out of hung queues.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// To be closed.
    pub(super) gone: Vec<Box<Connection>>,
    /// To go on: what they waited for is done.
    pub(super) back: Vec<Box<Connection>>,
}

/// An extent that is being read, or is to be.
#[derive(Debug, Default)]
struct WantedExtent {
    /// The extent is being read or queued: other readers of it wait here.
    begun: bool,
    waiting: Vec<Box<Connection>>,
}

/// The line.
#[derive(Debug)]
pub(super) struct DiskQueue {
    lines: Mutex<Queues>,
    work: Condvar,
    counters: Arc<Counters>,
    gauges: DiskGauges,
}

#[derive(Debug)]
struct Queues {
    waiting: HashMap<QueueKey, Queue>,
    /// Lines with something in them, in the order of their turns.
    turns: VecDeque<QueueKey>,
    extents: HashMap<ExtentKey, WantedExtent>,
    /// Extents to be read ahead next, by reader, while another is being read ahead of it.
    streams: HashMap<Reader, VecDeque<(Arc<ClientShare>, ReadAhead)>>,
    /// Jobs that are running, by file system.
    running: HashMap<u64, usize>,
    free_workers: usize,
    /// Passwords that may be looked at at once.
    most_passwords: usize,
    shut: bool,
    /// By file system.
    gauges: HashMap<u64, Arc<DiskGauge>>,
    shown: DiskGauges,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: RoundRobin<(Job, Ticket)>,
    closing: VecDeque<Closing>,
    running: usize,
    /// Whether a job was finished since the last sweep.
    has_moved: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.closing.is_empty()
    }

    fn pop(&mut self, line: QueueKey) -> Option<(Job, Ticket)> {
        let ticket = Ticket {
            line,
            extent: None,
            reader: None,
        };
        let closing = self.closing.pop_front();
        closing
            .map(|file| (Job::Close(file), ticket))
            .or_else(|| self.jobs.pop().map(|(_, job)| job))
    }
}

impl DiskQueue {
    /// A line for so many workers.
    #[must_use]
    pub(super) fn new(workers: usize, counters: Arc<Counters>) -> Self {
        let gauges = DiskGauges::default();
        let lines = Queues {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            extents: HashMap::new(),
            streams: HashMap::new(),
            running: HashMap::new(),
            free_workers: workers,
            // Half of the cores where there are four workers a core.
            most_passwords: (workers / 8).max(1),
            shut: false,
            gauges: HashMap::new(),
            shown: gauges.clone(),
        };
        Self {
            lines: Mutex::new(lines),
            work: Condvar::new(),
            counters,
            gauges,
        }
    }

    /// Puts a connection in line; if the extent it wants is on its way already, it waits for that
    /// and costs no read.
    pub(super) fn submit(&self, connection: Box<Connection>, job: DiskJob) {
        let extent = match job.action {
            DiskAction::Read(_, key) => Some(key),
            _ => None,
        };
        let mut lines = self.lock();
        if let Some(key) = extent {
            let wanted = lines.extents.entry(key).or_default();
            if wanted.begun {
                wanted.waiting.push(connection);
                Counters::add_one(&self.counters.extents_shared);
                return;
            }
            wanted.begun = true;
        }
        let client = Arc::clone(connection.client());
        let line = QueueKey::of_job(job);
        let ticket = Ticket {
            line,
            extent,
            reader: None,
        };
        let job = (Job::Connection(connection, job.action), ticket);
        lines.put(line, |queue| queue.jobs.push(&client, job));
        drop(lines);
        self.work.notify_one();
    }

    /// Has read ahead of a connection what it will want soon, but for what is on its way already,
    /// and unless the line is long: then connections that wait for bytes go first.
    pub(super) fn read_ahead(&self, connection: &mut Connection) {
        while let Some(ahead) = connection.next_read_ahead() {
            let (reader, client) = (connection.number(), Arc::clone(connection.client()));
            if self.lock().read_ahead(reader, client, ahead) {
                self.work.notify_one();
            }
        }
    }

    /// Jobs of this file system that are done; `None` while one waits or runs.
    pub(super) fn done_when_idle(&self, device: u64) -> Option<u64> {
        let lines = self.lock();
        let is_busy =
            lines.running.contains_key(&device) || lines.turns.iter().any(|it| it.device == device);
        let done = lines.gauges.get(&device).map_or(0, |it| it.counts()[2]);
        (!is_busy).then_some(done)
    }

    /// Puts the closing of a file in line; once the lane is shut, the file is closed at once.
    pub(super) fn close_file(&self, closing: Closing) {
        let (device, kind) = (closing.device(), QueueKind::Closes);
        let mut lines = self.lock();
        if lines.shut {
            drop(lines);
            return drop(closing);
        }
        lines.put(QueueKey { device, kind }, |queue| {
            queue.closing.push_back(closing);
        });
        drop(lines);
        self.work.notify_one();
    }

    /// How many files wait to be closed, or are being closed.
    pub(super) fn closing(&self) -> u64 {
        let lines = self.lock();
        let closes = lines
            .waiting
            .iter()
            .filter(|(line, _)| line.kind == QueueKind::Closes);
        closes
            .map(|(_, queue)| (queue.closing.len() + queue.running) as u64)
            .sum()
    }

    /// Takes out who waits in a line that does not move, and need not: `looks_gone` is asked about
    /// each. Returns those, and others whose wait has ended meanwhile.
    #[must_use]
    pub(super) fn sweep(&self, looks_gone: impl Fn(&mut Connection) -> bool) -> Swept {
        let mut swept = Swept::default();
        let standing = self.lock().standing();
        for line in standing {
            let mut left = self
                .lock()
                .waiting
                .get(&line)
                .map_or(0, |queue| queue.jobs.len());
            while left > 0 {
                // A few at a time: others need the lock.
                let some = left.min(SWEPT_AT_ONCE);
                let gone = self.lock().sweep(line, some, &looks_gone);
                swept.gone.extend(gone);
                left -= some;
            }
            if line.kind == QueueKind::Reads {
                self.sweep_extents(line.device, &looks_gone, &mut swept);
            }
        }
        swept
    }

    /// Sweeps the connections that wait for an extent that another job reads.
    fn sweep_extents(
        &self,
        device: u64,
        looks_gone: &impl Fn(&mut Connection) -> bool,
        swept: &mut Swept,
    ) {
        let keys = self.lock().extents_of(device);
        for key in keys {
            let mut lines = self.lock();
            let wanted = lines.extents.get_mut(&key);
            let waiting =
                wanted.map_or_else(Vec::new, |wanted| std::mem::take(&mut wanted.waiting));
            drop(lines);
            let (gone, left): (Vec<_>, Vec<_>) = (waiting.into_iter())
                .map(|mut connection| (looks_gone(&mut connection), connection))
                .partition(|(is_gone, _)| *is_gone);
            swept
                .gone
                .extend(gone.into_iter().map(|(_, connection)| connection));
            let left = left.into_iter().map(|(_, connection)| connection);
            match self.lock().extents.get_mut(&key) {
                Some(wanted) => wanted.waiting.extend(left),
                None => swept.back.extend(left),
            }
        }
    }

    /// Takes the next job, waiting for one if need be. `None` once the lane is shut and empty.
    #[must_use]
    pub(super) fn take(&self) -> Option<(Job, Ticket)> {
        let mut lines = self.lock();
        loop {
            if let Some(taken) = lines.next() {
                // Wakes one more worker only if there is work for it (chained wake-ups).
                let more = lines.has_next();
                drop(lines);
                if more {
                    self.work.notify_one();
                }
                return Some(taken);
            }
            if lines.shut {
                return None;
            }
            lines = self
                .work
                .wait(lines)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a job. Returns who else was waiting for its extent. The worker must come for its next
    /// job: it may be the only one that is awake.
    #[must_use]
    pub(super) fn finish(&self, ticket: &Ticket) -> Vec<Box<Connection>> {
        let mut lines = self.lock();
        lines.free_workers += 1;
        lines.gauge(ticket.line.device).note_done();
        if let Some(reader) = ticket.reader {
            lines.go_on(reader);
        }
        if let Some(queue) = lines.waiting.get_mut(&ticket.line) {
            queue.running -= 1;
            queue.has_moved = true;
            if queue.running == 0 && queue.is_empty() {
                lines.waiting.remove(&ticket.line);
            }
        }
        if let Entry::Occupied(mut running) = lines.running.entry(ticket.line.device) {
            *running.get_mut() -= 1;
            if *running.get() == 0 {
                running.remove();
            }
        }
        let wanted = ticket.extent.and_then(|key| lines.extents.remove(&key));
        wanted.unwrap_or_default().waiting
    }

    /// How much there is to do, by file system.
    pub(super) fn gauges(&self) -> DiskGauges {
        self.gauges.clone()
    }

    /// Lets the workers go once the line is empty.
    pub(super) fn shut(&self) {
        self.lock().shut = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Lines of which no job was finished since the last time.
    fn standing(&mut self) -> Vec<QueueKey> {
        let mut standing = Vec::new();
        for (line, queue) in &mut self.waiting {
            if !std::mem::take(&mut queue.has_moved) && line.kind != QueueKind::Closes {
                standing.push(*line);
            }
        }
        standing
    }

    /// Looks at so many connections at the front of a line, and puts those behind that stay.
    fn sweep(
        &mut self,
        line: QueueKey,
        most: usize,
        looks_gone: &impl Fn(&mut Connection) -> bool,
    ) -> Vec<Box<Connection>> {
        let mut gone = Vec::new();
        for _ in 0..most {
            let queue = self.waiting.get_mut(&line);
            let Some((client, (job, ticket))) = queue.and_then(|queue| queue.jobs.pop()) else {
                break;
            };
            let key = ticket.extent;
            let wanted = key.and_then(|key| self.extents.get(&key));
            // Without this job no worker would read the extent for the other readers.
            let is_needed = wanted.is_some_and(|wanted| !wanted.waiting.is_empty());
            let job = match job {
                Job::Connection(mut connection, action) if !is_needed => {
                    if looks_gone(&mut connection) {
                        if let Some(key) = key {
                            self.extents.remove(&key);
                        }
                        gone.push(connection);
                        continue;
                    }
                    Job::Connection(connection, action)
                }
                job => job,
            };
            if let Some(queue) = self.waiting.get_mut(&line) {
                queue.jobs.push_of(client, (job, ticket));
            }
        }
        let queue = self.waiting.get(&line);
        if queue.is_some_and(Queue::is_empty) {
            self.turns.retain(|turn| *turn != line);
            if queue.is_some_and(|queue| queue.running == 0) {
                self.waiting.remove(&line);
            }
        }
        gone
    }

    fn extents_of(&self, device: u64) -> Vec<ExtentKey> {
        let keys = self.extents.iter();
        let waited_for =
            keys.filter(|(key, wanted)| key.device() == device && !wanted.waiting.is_empty());
        waited_for.map(|(key, _)| *key).collect()
    }

    fn put(&mut self, line: QueueKey, put: impl FnOnce(&mut Queue)) {
        let queue = self.waiting.entry(line).or_default();
        if queue.is_empty() {
            self.turns.push_back(line);
        }
        put(queue);
        self.gauge(line.device).note_waiting();
    }

    fn gauge(&mut self, device: u64) -> &DiskGauge {
        let shown = &self.shown;
        let gauge = self.gauges.entry(device);
        gauge.or_insert_with(|| shown.add(device))
    }

    fn is_long(&self, line: QueueKey) -> bool {
        let queue = self.waiting.get(&line);
        queue.is_some_and(|queue| queue.jobs.len() > LONG_LINE)
    }

    /// Puts the reading of an extent in line, or behind what is being read ahead of this reader.
    /// Returns whether there is work.
    fn read_ahead(&mut self, reader: Reader, client: Arc<ClientShare>, ahead: ReadAhead) -> bool {
        let key = ExtentKey::new(&ahead.file, ahead.extent);
        let is_long = self.is_long(QueueKey::of_reads(&ahead.file));
        if is_long || self.extents.contains_key(&key) {
            return false;
        }
        let all_at_once = ahead.file.file_system.wants_whole_extents();
        if !all_at_once && let Entry::Occupied(mut stream) = self.streams.entry(reader) {
            self.extents.insert(key, WantedExtent::default());
            stream.get_mut().push_back((client, ahead));
            return false;
        }
        let reader = (!all_at_once).then_some(reader);
        if let Some(reader) = reader {
            self.streams.insert(reader, VecDeque::new());
        }
        self.begin(reader, key, &client, ahead);
        true
    }

    /// The next extent to read ahead of this reader that is not begun, if any, gets in line; none
    /// does if the line is long, or its transfer has ended.
    fn go_on(&mut self, reader: Reader) {
        while let Some((client, ahead)) =
            self.streams.get_mut(&reader).and_then(VecDeque::pop_front)
        {
            let key = ExtentKey::new(&ahead.file, ahead.extent);
            if self.extents.get(&key).is_none_or(|wanted| wanted.begun) {
                continue;
            }
            if !self.shut && ahead.is_wanted() && !self.is_long(QueueKey::of_reads(&ahead.file)) {
                return self.begin(Some(reader), key, &client, ahead);
            }
            self.extents.remove(&key);
        }
        self.streams.remove(&reader);
    }

    fn begin(
        &mut self,
        reader: Option<Reader>,
        key: ExtentKey,
        client: &ClientShare,
        ahead: ReadAhead,
    ) {
        self.extents.entry(key).or_default().begun = true;
        let line = QueueKey::of_reads(&ahead.file);
        let ticket = Ticket {
            line,
            extent: Some(key),
            reader,
        };
        let job = (Job::Prefetch(ahead), ticket);
        self.put(line, |queue| queue.jobs.push(client, job));
    }

    /// Whether another job of the line may run now: the last free worker is for a file system of
    /// which nothing is running.
    fn may_run(&self, line: QueueKey) -> bool {
        let most = match line.kind {
            QueueKind::Closes => self.free_workers.min(1),
            QueueKind::Passwords => self.free_workers.min(self.most_passwords),
            _ => self.free_workers,
        };
        let may_take_one = self.free_workers > 1 || !self.running.contains_key(&line.device);
        let queue = self.waiting.get(&line);
        may_take_one && queue.is_some_and(|queue| !queue.is_empty() && queue.running < most)
    }

    fn has_next(&self) -> bool {
        self.turns.iter().any(|&line| self.may_run(line))
    }

    /// The next job of the first line whose turn it may be; those before it go behind.
    fn next(&mut self) -> Option<(Job, Ticket)> {
        loop {
            let turn = self.turns.iter().position(|&line| self.may_run(line))?;
            self.turns.rotate_left(turn);
            let line = self.turns.pop_front()?;
            let queue = self.waiting.get_mut(&line)?;
            let (job, ticket) = queue.pop(line)?;
            if !queue.is_empty() {
                self.turns.push_back(line);
            }
            if self.is_unwanted(&job, &ticket) {
                self.gauge(line.device).note_left();
                self.cancel(&ticket);
                continue;
            }
            if let Some(queue) = self.waiting.get_mut(&line) {
                queue.running += 1;
            }
            *self.running.entry(line.device).or_default() += 1;
            self.gauge(line.device).note_running();
            self.free_workers -= 1;
            return Some((job, ticket));
        }
    }

    /// Whether an extent is read ahead of a transfer that has ended, and no other waits for it.
    fn is_unwanted(&self, job: &Job, ticket: &Ticket) -> bool {
        let wanted = ticket.extent.and_then(|key| self.extents.get(&key));
        let has_waiting = wanted.is_some_and(|wanted| !wanted.waiting.is_empty());
        matches!(job, Job::Prefetch(ahead) if !ahead.is_wanted()) && !has_waiting
    }

    fn cancel(&mut self, ticket: &Ticket) {
        if let Some(key) = ticket.extent {
            self.extents.remove(&key);
        }
        if let Some(reader) = ticket.reader {
            self.go_on(reader);
        }
        let queue = self.waiting.get(&ticket.line);
        if queue.is_some_and(|queue| queue.running == 0 && queue.is_empty()) {
            self.waiting.remove(&ticket.line);
        }
    }
}

/// Connections that are looked at while others wait for the lock: some 100 us.
const SWEPT_AT_ONCE: usize = 256;

/// A line this long is for connections that wait, not for reading ahead.
const LONG_LINE: usize = 16;
