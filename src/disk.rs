//! The disk lane's line: what waits for a disk, in a line for each file system, and fair within
//! it.
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
use crate::fair::FairQueue;
use crate::resolve::OpenFile;
use crate::telemetry::Counters;
use crate::transmit::{EXTENT_BYTES, Extent};

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
    device: u64,
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
    /// A line for each file system (`st_dev`): what may hang together.
    waiting: HashMap<u64, Queue>,
    /// Lines with something in them, in the order of their turns.
    turns: VecDeque<u64>,
    /// Extents being read or in line to be, and who waits for them besides the first.
    extents: HashMap<ExtentKey, Vec<Box<Connection>>>,
    free_workers: usize,
    shut: bool,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: FairQueue<(Job, Option<ExtentKey>)>,
    /// Files to be closed: nobody waits for that, but their descriptors are missed.
    closing: VecDeque<File>,
    running: usize,
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
        self.push(lines, device, |queue| queue.jobs.push(&client, job));
    }

    /// Puts the reading of an extent in line, unless it is there already or the line is long:
    /// then whoever waits for bytes goes first.
    pub fn prefetch(&self, client: &Arc<Client>, file: &Arc<OpenFile>, extent: Extent) {
        let device = file.device.id();
        let key = ExtentKey::new(file, extent);
        let mut lines = self.lock();
        let busy = lines
            .waiting
            .get(&device)
            .is_some_and(|queue| queue.jobs.len() > LONG_LINE);
        if busy || lines.extents.contains_key(&key) {
            return;
        }
        lines.extents.insert(key, Vec::new());
        let job = (Job::Prefetch(Arc::clone(file), extent), Some(key));
        self.push(lines, device, |queue| queue.jobs.push(client, job));
    }

    /// Puts the closing of a file in line; once the lane is shut, the file is closed at once.
    pub fn close_file(&self, device: u64, file: File) {
        let lines = self.lock();
        if lines.shut {
            drop(lines);
            return drop(file);
        }
        self.push(lines, device, |queue| queue.closing.push_back(file));
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
        if let Some(queue) = lines.waiting.get_mut(&ticket.device) {
            queue.running -= 1;
            if queue.running == 0 && queue.is_empty() {
                lines.waiting.remove(&ticket.device);
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

    fn push(&self, mut lines: MutexGuard<'_, Lines>, device: u64, put: impl FnOnce(&mut Queue)) {
        let queue = lines.waiting.entry(device).or_default();
        let was_empty = queue.is_empty();
        put(queue);
        if was_empty {
            lines.turns.push_back(device);
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
            let device = self.turns.pop_front()?;
            let Some(queue) = self.waiting.get_mut(&device) else {
                continue;
            };
            if queue.running >= self.free_workers {
                self.turns.push_back(device);
                continue;
            }
            let Some((job, extent)) = queue.pop() else {
                continue;
            };
            if !queue.is_empty() {
                self.turns.push_back(device);
            }
            queue.running += 1;
            self.free_workers -= 1;
            return Some((job, Ticket { device, extent }));
        }
        None
    }
}

/// A line this long is for those who wait, not for reading ahead.
const LONG_LINE: usize = 16;
