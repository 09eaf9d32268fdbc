//! The queues of disk jobs and their order; without threads.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::server::client_share::ClientShare;
use crate::server::connection::Connection;
use crate::server::connection::step::{DiskAction, ExtentKey};
use crate::server::disk_queue::gauge::{DiskGauge, DiskGauges};
use crate::server::disk_queue::key::{QueueKey, QueueKind};
use crate::server::disk_queue::scans::{ScanTurn, Scans};
use crate::server::files::Closing;
use crate::server::listing::ScanNumber;
use crate::server::round_robin::RoundRobin;
use crate::server::transmit::read_ahead::ReadAhead;

/// Work for a disk worker.
#[derive(Debug)]
pub(crate) enum Job {
    /// A connection whose next step may wait for a disk.
    Connection(Box<Connection>, DiskAction),
    /// An extent that a sequential reader needs soon.
    Prefetch(ReadAhead),
    /// A file whose close may wait.
    Close(Closing),
}

/// A job taken from the line; hand it back to [`Queues::finish`].
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(super) line: QueueKey,
    pub(super) extent: Option<ExtentKey>,
    /// The reader whose next extent is to be read ahead after this one.
    pub(super) reader: Option<Reader>,
    /// The scan that the job takes further.
    pub(super) scan: Option<ScanTurn>,
}

/// The reader that is read ahead of: the number of its connection.
pub(super) type Reader = u64;

/// An extent that is being read, or is queued.
#[derive(Debug, Default)]
pub(super) struct WantedExtent {
    /// The extent is being read or queued: other readers of it wait here.
    pub(super) begun: bool,
    pub(super) waiting: Vec<Box<Connection>>,
}

#[derive(Debug)]
pub(super) struct Queues {
    pub(super) waiting: HashMap<QueueKey, Queue>,
    /// Lines with something in them, in the order of their turns.
    pub(super) turns: VecDeque<QueueKey>,
    pub(super) extents: HashMap<ExtentKey, WantedExtent>,
    pub(super) scans: Scans,
    /// Extents to be read ahead next, by reader, while another is being read ahead of it.
    pub(super) streams: HashMap<Reader, VecDeque<(Arc<ClientShare>, ReadAhead)>>,
    /// Jobs that are running, by file system.
    pub(super) running: HashMap<u64, usize>,
    pub(super) free_workers: usize,
    /// Passwords that may be looked at at once.
    most_passwords: usize,
    pub(super) shut: bool,
    /// By file system.
    pub(super) gauges: HashMap<u64, Arc<DiskGauge>>,
    shown: DiskGauges,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) jobs: RoundRobin<(Job, Ticket)>,
    pub(super) closing: VecDeque<Closing>,
    pub(super) running: usize,
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
            scan: None,
        };
        let closing = self.closing.pop_front();
        closing
            .map(|file| (Job::Close(file), ticket))
            .or_else(|| self.jobs.pop().map(|(_, job)| job))
    }
}

impl Queues {
    /// Queues for so many workers; the load shows in `shown`.
    pub(super) fn new(workers: usize, shown: DiskGauges) -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            extents: HashMap::new(),
            scans: Scans::default(),
            streams: HashMap::new(),
            running: HashMap::new(),
            free_workers: workers,
            // Half of the cores where there are four workers a core.
            most_passwords: (workers / 8).max(1),
            shut: false,
            gauges: HashMap::new(),
            shown,
        }
    }

    /// Ends a job. Returns the other connections that waited for its extent.
    pub(super) fn finish(&mut self, ticket: &Ticket) -> Vec<Box<Connection>> {
        self.free_workers += 1;
        self.gauge(ticket.line.device).note_done();
        if let Some(reader) = ticket.reader {
            self.go_on(reader);
        }
        if let Some(queue) = self.waiting.get_mut(&ticket.line) {
            queue.running -= 1;
            queue.has_moved = true;
            if queue.running == 0 && queue.is_empty() {
                self.waiting.remove(&ticket.line);
            }
        }
        if let Entry::Occupied(mut running) = self.running.entry(ticket.line.device) {
            *running.get_mut() -= 1;
            if *running.get() == 0 {
                running.remove();
            }
        }
        let wanted = ticket.extent.and_then(|key| self.extents.remove(&key));
        wanted.unwrap_or_default().waiting
    }

    /// Queues another connection that waits for a scan, before the other jobs of its client.
    /// Returns whether there is one.
    pub(super) fn go_on_with(&mut self, scan: ScanNumber, line: QueueKey) -> bool {
        let Some(connection) = self.scans.next(scan) else {
            return false;
        };
        let client = Arc::clone(connection.client());
        let ticket = Ticket {
            line,
            extent: None,
            reader: None,
            scan: Some(ScanTurn::Current(scan)),
        };
        let job = Job::Connection(connection, DiskAction::ProduceListing(Some(scan)));
        self.put(line, |queue| queue.jobs.push_first(&client, (job, ticket)));
        true
    }

    /// Lines of which no job was finished since the last time.
    pub(super) fn standing(&mut self) -> Vec<QueueKey> {
        let mut standing = Vec::new();
        for (line, queue) in &mut self.waiting {
            if !std::mem::take(&mut queue.has_moved) && line.kind != QueueKind::Closes {
                standing.push(*line);
            }
        }
        standing
    }

    /// Looks at so many connections at the front of a line, and puts those behind that stay.
    pub(super) fn sweep(
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
            // Without this job no worker would read the extent for the other readers, or continue
            // the scan.
            let is_needed = wanted.is_some_and(|wanted| !wanted.waiting.is_empty())
                || ticket.scan.is_some_and(|turn| self.scans.is_needed(turn));
            let job = match job {
                Job::Connection(mut connection, action) if !is_needed => {
                    if looks_gone(&mut connection) {
                        if let Some(key) = key {
                            self.extents.remove(&key);
                        }
                        if let Some(ScanTurn::Current(scan)) = ticket.scan {
                            self.scans.end(scan);
                        }
                        self.gauge(line.device).note_left();
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

    pub(super) fn extents_of(&self, device: u64) -> Vec<ExtentKey> {
        let keys = self.extents.iter();
        let waited_for =
            keys.filter(|(key, wanted)| key.device() == device && !wanted.waiting.is_empty());
        waited_for.map(|(key, _)| *key).collect()
    }

    pub(super) fn put(&mut self, line: QueueKey, put: impl FnOnce(&mut Queue)) {
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

    /// Queues the read-ahead of an extent, behind that under way for this reader. Returns whether
    /// there is work.
    pub(super) fn read_ahead(
        &mut self,
        reader: Reader,
        client: Arc<ClientShare>,
        ahead: ReadAhead,
    ) -> bool {
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

    /// Queues the next extent of this reader that is not begun; none if the queue is long, or the
    /// transfer has ended.
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
            scan: None,
        };
        let job = (Job::Prefetch(ahead), ticket);
        self.put(line, |queue| queue.jobs.push(client, job));
    }

    /// Whether another job of the queue may run now: the last free worker is for a file system
    /// without running jobs.
    fn may_run(&self, line: QueueKey) -> bool {
        let queue = self.waiting.get(&line);
        let running = queue.map_or(0, |queue| queue.running);
        let most = match line.kind {
            QueueKind::Closes => self.free_workers.min(1),
            QueueKind::Passwords(_) => {
                let of_others = self.passwords_running().saturating_sub(running);
                let most = self.most_passwords.saturating_sub(of_others);
                self.free_workers.min(most)
            }
            _ => self.free_workers,
        };
        let may_take_one = self.free_workers > 1 || !self.running.contains_key(&line.device);
        may_take_one && queue.is_some_and(|queue| !queue.is_empty()) && running < most
    }

    /// Password checks that run, of all clients.
    fn passwords_running(&self) -> usize {
        let queues = self.waiting.iter();
        let passwords = queues.filter(|(line, _)| matches!(line.kind, QueueKind::Passwords(_)));
        passwords.map(|(_, queue)| queue.running).sum()
    }

    pub(super) fn has_next(&self) -> bool {
        self.turns.iter().any(|&line| self.may_run(line))
    }

    /// The next job of the first line whose turn it may be; those before it go behind.
    pub(super) fn next(&mut self) -> Option<(Job, Ticket)> {
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
            let Some(job) = self.begin_scan(job, &ticket) else {
                self.gauge(line.device).note_left();
                continue;
            };
            if let Some(queue) = self.waiting.get_mut(&line) {
                queue.running += 1;
            }
            *self.running.entry(line.device).or_default() += 1;
            self.gauge(line.device).note_running();
            self.free_workers -= 1;
            return Some((job, ticket));
        }
    }

    /// Notes that a job takes a scan further; `None` if another one does, for which it waits.
    fn begin_scan(&mut self, job: Job, ticket: &Ticket) -> Option<Job> {
        match (ticket.scan, job) {
            (Some(turn), Job::Connection(connection, action)) => {
                let connection = self.scans.wait(ticket.scan, connection).err()?;
                self.scans.begin(turn.scan(), ticket.line.device);
                Some(Job::Connection(connection, action))
            }
            (_, job) => Some(job),
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

/// A line this long is for connections that wait, not for reading ahead.
pub(super) const LONG_LINE: usize = 16;
