//! The disk lane's line: what waits for a disk, in a line for each file system that goes round by
//! client.
//!
//! A file system gets a free disk worker only while it occupies fewer than are free (a dynamic
//! threshold): one that hangs takes half of the workers, the next one half of the rest, and there
//! is always one left for a file system that answers. Readers of one extent wait for one read.
//!
//! What is read ahead of a reader is read in order, one extent after the other: then the kernel
//! reads ahead as well, and into large folios, which cost less to send. A file system where each read
//! may take long is asked for all of it at once.

mod round_robin;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::server::client_share::ClientShare;
use crate::server::connection::Connection;
use crate::server::connection::step::{DiskAction, DiskJob, ExtentKey};
use crate::server::disk_queue::round_robin::RoundRobin;
use crate::server::files::OpenFile;
use crate::server::telemetry::Counters;
use crate::server::transmit::Extent;

/// What may hang together, and waits in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    /// Look-ups and reads of a file system (`st_dev`).
    Jobs(u64),
    /// Closes of its files, one at a time: if they hang, reads may still be well.
    Closes(u64),
}

/// Work for a disk worker.
#[derive(Debug)]
pub(super) enum Job {
    /// A connection whose next step may wait for a disk.
    Visit(Box<Connection>, DiskAction),
    /// An extent that a sequential reader will want soon.
    Prefetch(Arc<OpenFile>, Extent),
    /// A file whose close may wait.
    Close(File),
}

/// A job taken from the line; hand it back to [`DiskQueue::finish`].
#[derive(Debug)]
pub(super) struct Ticket {
    line: Line,
    extent: Option<ExtentKey>,
    /// Whose next extent is to be read ahead after this one.
    reader: Option<Reader>,
}

/// Who is read ahead of: the number of its connection.
type Reader = u64;

/// An extent that is being read, or is to be.
#[derive(Debug, Default)]
struct Wanted {
    /// It is being read or has its place in the line: who wants it waits here.
    begun: bool,
    waiting: Vec<Box<Connection>>,
}

/// An extent that is to be read ahead.
#[derive(Debug)]
struct Ahead {
    client: Arc<ClientShare>,
    file: Arc<OpenFile>,
    extent: Extent,
}

/// The line.
#[derive(Debug)]
pub(super) struct DiskQueue {
    lines: Mutex<Lines>,
    work: Condvar,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Lines {
    waiting: HashMap<Line, Queue>,
    /// Lines with something in them, in the order of their turns.
    turns: VecDeque<Line>,
    extents: HashMap<ExtentKey, Wanted>,
    /// What is to be read ahead next, by reader, while something is being read ahead of it.
    streams: HashMap<Reader, VecDeque<Ahead>>,
    free_workers: usize,
    shut: bool,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: RoundRobin<(Job, Ticket)>,
    closing: VecDeque<File>,
    running: usize,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.closing.is_empty()
    }

    fn pop(&mut self, line: Line) -> Option<(Job, Ticket)> {
        let ticket = Ticket {
            line,
            extent: None,
            reader: None,
        };
        let closing = self.closing.pop_front();
        closing
            .map(|file| (Job::Close(file), ticket))
            .or_else(|| self.jobs.pop())
    }
}

impl DiskQueue {
    /// A line for so many workers.
    #[must_use]
    pub(super) fn new(workers: usize, counters: Arc<Counters>) -> Self {
        let lines = Lines {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            extents: HashMap::new(),
            streams: HashMap::new(),
            free_workers: workers,
            shut: false,
        };
        Self {
            lines: Mutex::new(lines),
            work: Condvar::new(),
            counters,
        }
    }

    /// Puts a connection in line; if the extent it wants is on its way already, it waits for that
    /// and costs no read.
    pub(super) fn visit(&self, connection: Box<Connection>, job: DiskJob) {
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
        let line = Line::Jobs(job.file_system);
        let ticket = Ticket {
            line,
            extent,
            reader: None,
        };
        let job = (Job::Visit(connection, job.action), ticket);
        lines.put(line, |queue| queue.jobs.push(&client, job));
        drop(lines);
        self.work.notify_one();
    }

    /// Has read ahead of a connection what it will want soon, but for what is on its way already,
    /// and unless the line is long: then whoever waits for bytes goes first.
    pub(super) fn read_ahead(&self, connection: &mut Connection) {
        while let Some((file, extent)) = connection.next_read_ahead() {
            let (reader, client) = (connection.number(), Arc::clone(connection.client()));
            let ahead = Ahead {
                client,
                file,
                extent,
            };
            if self.lock().read_ahead(reader, ahead) {
                self.work.notify_one();
            }
        }
    }

    /// Puts the closing of a file in line; once the lane is shut, the file is closed at once.
    pub(super) fn close_file(&self, device: u64, file: File) {
        let mut lines = self.lock();
        if lines.shut {
            drop(lines);
            return drop(file);
        }
        lines.put(Line::Closes(device), |queue| queue.closing.push_back(file));
        drop(lines);
        self.work.notify_one();
    }

    /// Takes the next job, waiting for one if need be. `None` once the lane is shut and empty.
    #[must_use]
    pub(super) fn take(&self) -> Option<(Job, Ticket)> {
        let mut lines = self.lock();
        loop {
            if let Some(taken) = lines.next() {
                // Whoever comes for work passes on that there is more: nobody wakes in vain.
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
        if let Some(reader) = ticket.reader {
            lines.go_on(reader);
        }
        if let Some(queue) = lines.waiting.get_mut(&ticket.line) {
            queue.running -= 1;
            if queue.running == 0 && queue.is_empty() {
                lines.waiting.remove(&ticket.line);
            }
        }
        let wanted = ticket.extent.and_then(|key| lines.extents.remove(&key));
        wanted.unwrap_or_default().waiting
    }

    /// Lets the workers go once the line is empty.
    pub(super) fn shut(&self) {
        self.lock().shut = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn put(&mut self, line: Line, put: impl FnOnce(&mut Queue)) {
        let queue = self.waiting.entry(line).or_default();
        if queue.is_empty() {
            self.turns.push_back(line);
        }
        put(queue);
    }

    fn is_long(&self, line: Line) -> bool {
        let queue = self.waiting.get(&line);
        queue.is_some_and(|queue| queue.jobs.len() > LONG_LINE)
    }

    /// Puts the reading of an extent in line, or behind what is being read ahead of this reader.
    /// Returns whether there is work.
    fn read_ahead(&mut self, reader: Reader, ahead: Ahead) -> bool {
        let key = ExtentKey::new(&ahead.file, ahead.extent);
        let is_long = self.is_long(Line::Jobs(ahead.file.file_system.device()));
        if is_long || self.extents.contains_key(&key) {
            return false;
        }
        let all_at_once = ahead.file.file_system.wants_whole_extents();
        if !all_at_once && let Entry::Occupied(mut stream) = self.streams.entry(reader) {
            self.extents.insert(key, Wanted::default());
            stream.get_mut().push_back(ahead);
            return false;
        }
        let reader = (!all_at_once).then_some(reader);
        if let Some(reader) = reader {
            self.streams.insert(reader, VecDeque::new());
        }
        self.begin(reader, key, ahead);
        true
    }

    /// The next extent to read ahead of this reader that nobody else has begun, if any, gets in
    /// line; none does if the line is long, or nobody will want it.
    fn go_on(&mut self, reader: Reader) {
        while let Some(ahead) = self.streams.get_mut(&reader).and_then(VecDeque::pop_front) {
            let key = ExtentKey::new(&ahead.file, ahead.extent);
            if self.extents.get(&key).is_none_or(|wanted| wanted.begun) {
                continue;
            }
            if !self.shut && !self.is_long(Line::Jobs(ahead.file.file_system.device())) {
                return self.begin(Some(reader), key, ahead);
            }
            self.extents.remove(&key);
        }
        self.streams.remove(&reader);
    }

    fn begin(&mut self, reader: Option<Reader>, key: ExtentKey, ahead: Ahead) {
        self.extents.entry(key).or_default().begun = true;
        let line = Line::Jobs(ahead.file.file_system.device());
        let ticket = Ticket {
            line,
            extent: Some(key),
            reader,
        };
        let job = (Job::Prefetch(ahead.file, ahead.extent), ticket);
        self.put(line, |queue| queue.jobs.push(&ahead.client, job));
    }

    /// How many of a line's jobs may run at a time now.
    fn most_of(&self, line: Line) -> usize {
        match line {
            Line::Jobs(_) => self.free_workers,
            Line::Closes(_) => self.free_workers.min(1),
        }
    }

    fn may_run(&self, line: Line) -> bool {
        let queue = self.waiting.get(&line);
        queue.is_some_and(|queue| !queue.is_empty() && queue.running < self.most_of(line))
    }

    fn has_next(&self) -> bool {
        self.turns.iter().any(|&line| self.may_run(line))
    }

    /// The next job of the first line whose turn it may be; those before it go behind.
    fn next(&mut self) -> Option<(Job, Ticket)> {
        let turn = self.turns.iter().position(|&line| self.may_run(line))?;
        self.turns.rotate_left(turn);
        let line = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&line)?;
        let taken = queue.pop(line)?;
        if !queue.is_empty() {
            self.turns.push_back(line);
        }
        queue.running += 1;
        self.free_workers -= 1;
        Some(taken)
    }
}

/// A line this long is for those who wait, not for reading ahead.
const LONG_LINE: usize = 16;
