//! The disk lane's line: what waits for a disk, in a line for each file system that goes round by
//! client.
//!
//! A file system gets a free disk worker only while it occupies fewer than are free (a dynamic
//! threshold): one that hangs takes half of the workers, the next one half of the rest, and there
//! is always one left for a file system that answers. Readers of one extent wait for one read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::client::Client;
use crate::connection::{Connection, Errand};
use crate::resolve::OpenFile;
use crate::telemetry::Counters;
use crate::transmit::{EXTENT_BYTES, Extent};

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
pub enum Job {
    /// A connection whose next step may wait for a disk.
    Visit(Box<Connection>, Errand),
    /// An extent that a sequential reader will want soon.
    Prefetch(Arc<OpenFile>, Extent),
    /// A file whose close may wait.
    Close(File),
}

/// An extent of a file, as the disk lane tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtentKey {
    device: u64,
    inode: u64,
    number: u64,
}

impl ExtentKey {
    /// The key of the extent that begins within this one.
    #[must_use]
    pub fn new(file: &OpenFile, extent: Extent) -> Self {
        let number = extent.offset / EXTENT_BYTES;
        Self {
            device: file.meta.device,
            inode: file.meta.inode,
            number,
        }
    }
}

/// A job taken from the line; hand it back to [`DiskLane::finish`].
#[derive(Debug)]
pub struct Ticket {
    line: Line,
    extent: Option<ExtentKey>,
}

/// The line.
#[derive(Debug)]
pub struct DiskLane {
    lines: Mutex<Lines>,
    work: Condvar,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Lines {
    waiting: HashMap<Line, Queue>,
    /// Lines with something in them, in the order of their turns.
    turns: VecDeque<Line>,
    /// Extents being read or in line to be, and who waits for them besides the first.
    extents: HashMap<ExtentKey, Vec<Box<Connection>>>,
    free_workers: usize,
    shut: bool,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Rounds<(Job, Option<ExtentKey>)>,
    closing: VecDeque<File>,
    running: usize,
}

/// Items that go round by client: one of each in turn. What clients were sent so far does not
/// count here, or a newcomer with a flood of look-ups, which send next to nothing, would go before
/// whoever was sent a lot for as long as it likes.
#[derive(Debug)]
struct Rounds<T> {
    /// By the client's number.
    items: HashMap<u64, VecDeque<T>>,
    turns: VecDeque<u64>,
    len: usize,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self {
            items: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Rounds<T> {
    fn push(&mut self, client: &Client, item: T) {
        let items = self.items.entry(client.id()).or_default();
        if items.is_empty() {
            self.turns.push_back(client.id());
        }
        items.push_back(item);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let items = self.items.get_mut(&client)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.items.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.len -= 1;
        Some(item)
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.closing.is_empty()
    }

    fn pop(&mut self) -> Option<(Job, Option<ExtentKey>)> {
        let closing = self.closing.pop_front();
        closing
            .map(|file| (Job::Close(file), None))
            .or_else(|| self.jobs.pop())
    }
}

impl DiskLane {
    /// A line for so many workers.
    #[must_use]
    pub fn new(workers: usize, counters: Arc<Counters>) -> Self {
        let lines = Lines {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            extents: HashMap::new(),
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
    pub fn visit(
        &self,
        connection: Box<Connection>,
        errand: Errand,
        device: u64,
        extent: Option<ExtentKey>,
    ) {
        let mut lines = self.lock();
        if let Some(key) = extent {
            match lines.extents.entry(key) {
                Entry::Occupied(mut waiting) => {
                    waiting.get_mut().push(connection);
                    Counters::add_one(&self.counters.extents_shared);
                    return;
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(Vec::new());
                }
            }
        }
        let client = Arc::clone(connection.client());
        let job = (Job::Visit(connection, errand), extent);
        self.push(lines, Line::Jobs(device), |queue| {
            queue.jobs.push(&client, job);
        });
    }

    /// Puts the reading of an extent in line, unless it is there already or the line is long:
    /// then whoever waits for bytes goes first.
    pub fn prefetch(&self, client: &Arc<Client>, file: &Arc<OpenFile>, extent: Extent) {
        let line = Line::Jobs(file.device.id());
        let key = ExtentKey::new(file, extent);
        let mut lines = self.lock();
        let busy = lines
            .waiting
            .get(&line)
            .is_some_and(|queue| queue.jobs.len > LONG_LINE);
        if busy || lines.extents.contains_key(&key) {
            return;
        }
        lines.extents.insert(key, Vec::new());
        let job = (Job::Prefetch(Arc::clone(file), extent), Some(key));
        self.push(lines, line, |queue| queue.jobs.push(client, job));
    }

    /// Puts the closing of a file in line; once the lane is shut, the file is closed at once.
    pub fn close_file(&self, device: u64, file: File) {
        let lines = self.lock();
        if lines.shut {
            drop(lines);
            return drop(file);
        }
        self.push(lines, Line::Closes(device), |queue| {
            queue.closing.push_back(file);
        });
    }

    /// Takes the next job, waiting for one if need be. `None` once the lane is shut and empty.
    #[must_use]
    pub fn take(&self) -> Option<(Job, Ticket)> {
        let mut lines = self.lock();
        loop {
            if let Some((job, ticket)) = lines.next() {
                return Some((job, ticket));
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

    /// Ends a job. Returns who else was waiting for its extent.
    #[must_use]
    pub fn finish(&self, ticket: &Ticket) -> Vec<Box<Connection>> {
        let mut lines = self.lock();
        lines.free_workers += 1;
        if let Some(queue) = lines.waiting.get_mut(&ticket.line) {
            queue.running -= 1;
            if queue.running == 0 && queue.is_empty() {
                lines.waiting.remove(&ticket.line);
            }
        }
        let joined = ticket.extent.and_then(|key| lines.extents.remove(&key));
        drop(lines);
        // The thresholds have moved: more than one line may now have its turn.
        self.work.notify_all();
        joined.unwrap_or_default()
    }

    /// Lets the workers go once the line is empty.
    pub fn shut(&self) {
        self.lock().shut = true;
        self.work.notify_all();
    }

    fn push(&self, mut lines: MutexGuard<'_, Lines>, line: Line, put: impl FnOnce(&mut Queue)) {
        let queue = lines.waiting.entry(line).or_default();
        let was_empty = queue.is_empty();
        put(queue);
        if was_empty {
            lines.turns.push_back(line);
        }
        drop(lines);
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// The next job of the first line whose turn it may be.
    fn next(&mut self) -> Option<(Job, Ticket)> {
        for _ in 0..self.turns.len() {
            let line = self.turns.pop_front()?;
            let Some(queue) = self.waiting.get_mut(&line) else {
                continue;
            };
            let most = match line {
                Line::Jobs(_) => self.free_workers,
                Line::Closes(_) => self.free_workers.min(1),
            };
            if queue.running >= most {
                self.turns.push_back(line);
                continue;
            }
            let Some((job, extent)) = queue.pop() else {
                continue;
            };
            if !queue.is_empty() {
                self.turns.push_back(line);
            }
            queue.running += 1;
            self.free_workers -= 1;
            return Some((job, Ticket { line, extent }));
        }
        None
    }
}

/// A line this long is for those who wait, not for reading ahead.
const LONG_LINE: usize = 16;
