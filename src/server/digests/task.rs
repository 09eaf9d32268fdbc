//! A file on its way to its digests, read step by step.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::digest::{BlockList, Digests, FileHasher, Wanted};
use crate::server::files::OpenFile;
use crate::sys::file;
use crate::sys::page_cache::{self, Residency};
use crate::sys::writers;

/// A file to be hashed, and the progress.
#[derive(Debug)]
pub(crate) struct Task {
    file: Arc<OpenFile>,
    wanted: Wanted,
    state: State,
    /// What was cold, is hashed, and still in the page cache.
    undropped: Range<u64>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Reading(Box<Reading>),
}

#[derive(Debug)]
struct Reading {
    hasher: FileHasher,
    /// A separate descriptor, whose reads do not disturb the read-ahead of other readers.
    own: Option<File>,
}

/// The outcome of a step.
#[derive(Debug)]
pub(super) enum Stepped {
    /// So many bytes were read.
    Bytes(u64),
    /// The file is hashed to its end, and unchanged.
    Done(Digests, Option<BlockList>),
    /// The file changes, or cannot be read.
    Failed,
}

impl Task {
    pub(super) fn new(file: Arc<OpenFile>, wanted: Wanted) -> Self {
        Self {
            file,
            wanted,
            state: State::Waiting,
            undropped: 0..0,
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    /// The file system that a step may wait for.
    pub(super) fn device(&self) -> u64 {
        self.file.file_system.device()
    }

    /// Whether the file is hashed in less time than it takes to wait for an idle processor.
    pub(super) fn is_small(&self) -> bool {
        self.file.meta.len <= SMALL_BYTES
    }

    /// Whether the next step has to read from a disk.
    pub(super) fn is_cold(&self) -> bool {
        self.reading().is_some_and(|reading| {
            let (offset, len) = reading.next_extent();
            !self.file.file_system.is_memory()
                && page_cache::residency(self.file.file(), offset, len) != Residency::Resident
        })
    }

    /// Hashes a step. Takes no lock that is shared with other threads.
    pub(super) fn step(&mut self, buffer: &mut [u8]) -> Stepped {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Waiting => self.begin(),
            State::Reading(reading) if reading.hasher.left() == 0 => self.finish(*reading),
            State::Reading(mut reading) => match reading.read(&self.file, buffer) {
                Ok(0) | Err(_) => Stepped::Failed,
                Ok(count) => {
                    self.state = State::Reading(reading);
                    Stepped::Bytes(count)
                }
            },
        }
    }

    /// Takes what was cold out of the page cache again, unless another reader needs it: `len` more
    /// bytes are hashed. Takes a lock that requests take too: a hash thread never calls it.
    pub(super) fn drop_behind(&mut self, len: u64) {
        let Some(reading) = self.reading() else {
            return;
        };
        let end = reading.hasher.hashed();
        if self.undropped.end != end - len {
            self.drop_rest();
            self.undropped = end - len..end;
        }
        self.undropped.end = end;
        self.drop_until(end.saturating_sub(DROP_LAG));
    }

    /// As [`Self::drop_behind`], once no more is hashed.
    pub(super) fn drop_rest(&mut self) {
        self.drop_until(self.undropped.end);
    }

    fn drop_until(&mut self, end: u64) {
        let len = end.saturating_sub(self.undropped.start);
        if len > 0 && !self.file.is_being_read() {
            self.file.forget_residency();
            page_cache::drop_behind(self.file.file(), self.undropped.start, len);
        }
        self.undropped.start += len;
    }

    fn reading(&self) -> Option<&Reading> {
        match &self.state {
            State::Waiting => None,
            State::Reading(reading) => Some(reading),
        }
    }

    fn begin(&mut self) -> Stepped {
        if !self.is_as_it_was() {
            return Stepped::Failed;
        }
        let reading = Reading::new(&self.file, self.wanted);
        if reading.has_writer() {
            return Stepped::Failed;
        }
        self.state = State::Reading(Box::new(reading));
        Stepped::Bytes(0)
    }

    /// Whether the file is unchanged, and a later change would show. A file that was written a
    /// moment ago is waited for.
    fn is_as_it_was(&self) -> bool {
        let asked = Instant::now();
        while !self.file.has_settled() {
            if asked.elapsed() > MAX_UNSETTLED {
                return false;
            }
            std::thread::sleep(file::clock_tick());
        }
        self.file.has_same_content().unwrap_or(false)
    }

    fn finish(&self, reading: Reading) -> Stepped {
        if reading.has_writer() {
            return Stepped::Failed;
        }
        match (self.file.has_same_content(), reading.hasher.finish()) {
            (Ok(true), Some((digests, list))) => Stepped::Done(digests, list),
            _ => Stepped::Failed,
        }
    }
}

impl Reading {
    fn new(file: &OpenFile, wanted: Wanted) -> Self {
        let own = file::reopen(file.file()).ok();
        if let Some(own) = &own {
            // Nothing is read ahead that would stay.
            file::will_read_at_random(own);
        }
        Self {
            hasher: FileHasher::new(wanted, file.meta.len),
            own,
        }
    }

    /// Whether a writer may exist whose changes no time stamp shows. The first write after a later
    /// open moves the time stamps.
    fn has_writer(&self) -> bool {
        let own = self.own.as_ref();
        own.and_then(writers::has_writer).unwrap_or(false)
    }

    fn next_extent(&self) -> (u64, u64) {
        let len = self.hasher.left().min(STEP_BYTES as u64);
        (self.hasher.hashed(), len)
    }

    fn read(&mut self, file: &OpenFile, buffer: &mut [u8]) -> io::Result<u64> {
        let (offset, len) = self.next_extent();
        let source = self.own.as_ref().unwrap_or_else(|| file.file());
        let bytes = &mut buffer[..len as usize];
        let mut count = 0;
        while count < bytes.len() {
            match source.read_at(&mut bytes[count..], offset + count as u64) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.hasher.update(&bytes[..count]);
        Ok(count as u64)
    }
}

/// File systems without fractions of a second, on another host.
const MAX_UNSETTLED: Duration = Duration::from_secs(5);

/// Pages are dropped so far behind the hasher. The latest ones are in a batch of the processor that
/// read them; to drop those, the kernel has every processor empty its batches
/// (`lru_add_drain_all`, mm/fadvise.c): 58 to 558 times a GiB without the lag, at most 13 with it.
const DROP_LAG: u64 = 16 << 20;

/// Hashed in 0.2 ms.
const SMALL_BYTES: u64 = 64 << 10;

/// Bytes that are read and hashed at once.
pub(super) const STEP_BYTES: usize = 1 << 20;
