//! Work for the hashing threads: files one after the other, and large ones in blocks that all
//! threads take from.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use crate::digest::blocks::{self, BLOCK_BYTES, BlockHasher, BlockValue};
use crate::digest::{Algorithm, BlockList, Checksum, Digests, FileHasher, Identity, Store, Wanted};
use crate::meta::Meta;
use crate::sum::progress::Progress;
use crate::sum::read::{self, PIECE_BYTES};
use crate::sum::walk::Walk;
use crate::sys::buffer::Buffer;
use crate::sys::file::{self, Kind};
use crate::sys::writers;

/// The work that the threads share.
#[derive(Debug)]
pub(super) struct Feed {
    algorithm: Algorithm,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    walk: Walk,
    /// The number of the next file.
    next: u64,
    /// Files before this one are done with.
    shown: u64,
    /// Files that are being opened: they may add blocks.
    opening: usize,
    /// Files whose blocks are being given out, and the next block.
    split: VecDeque<(Arc<Split>, u64)>,
}

/// The outcome of a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) result: io::Result<Checksum>,
    pub(super) notice: Option<String>,
}

#[derive(Debug)]
enum Work {
    File(u64, PathBuf),
    Unreadable(Found),
    Block(Arc<Split>, u64),
}

/// A regular file to be hashed.
#[derive(Debug)]
struct Opened {
    number: u64,
    path: PathBuf,
    file: File,
    meta: Meta,
    /// Whether a change from its opening on would show.
    is_steady: bool,
}

/// A file whose blocks several threads hash.
#[derive(Debug)]
struct Split {
    opened: Opened,
    values: Mutex<Vec<BlockValue>>,
    error: Mutex<Option<io::Error>>,
    left: AtomicU64,
}

/// The buffers of a thread.
struct Tools<'a> {
    store: Option<&'a Store>,
    progress: &'a Progress,
    results: &'a Sender<Found>,
    buffer: Buffer,
}

impl Feed {
    pub(super) fn new(walk: Walk, algorithm: Algorithm) -> Self {
        let state = State {
            walk,
            next: 0,
            shown: 0,
            opening: 0,
            split: VecDeque::new(),
        };
        Self {
            algorithm,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Works until nothing is left.
    pub(super) fn work(&self, store: Option<&Store>, progress: &Progress, results: &Sender<Found>) {
        let buffer = Buffer::new(PIECE_BYTES);
        let mut tools = Tools {
            store,
            progress,
            results,
            buffer,
        };
        while let Some(work) = self.take(progress) {
            match work {
                Work::Unreadable(found) => tools.send(found),
                Work::Block(split, block) => split.hash(block, &mut tools),
                Work::File(number, path) => self.hash_file(number, path, &mut tools),
            }
        }
    }

    /// Notes that files before `shown` are done with: threads run no further ahead than is good
    /// for the memory.
    pub(super) fn advance_to(&self, shown: u64) {
        let mut state = self.state();
        let had_room = state.has_room();
        state.shown = shown;
        if !had_room {
            self.changed.notify_all();
        }
    }

    fn take(&self, progress: &Progress) -> Option<Work> {
        let mut state = self.state();
        loop {
            if progress.is_cancelled() {
                return None;
            }
            if let Some(work) = state.next_block() {
                return Some(work);
            }
            if state.has_room() {
                if let Some((path, listed)) = state.walk.next() {
                    return Some(state.begin(path, listed));
                }
                if state.opening == 0 {
                    return None;
                }
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn hash_file(&self, number: u64, path: PathBuf, tools: &mut Tools<'_>) {
        let opened = open(number, &path);
        let (split, alone) = match opened {
            Ok(Some(opened)) if tools.kept(&opened, self.algorithm).is_none() => {
                match self.algorithm == Algorithm::Blake3 && opened.meta.len >= SPLIT_BYTES {
                    true => (Some(Arc::new(Split::new(opened))), None),
                    false => (None, Some(Ok(Some(opened)))),
                }
            }
            other => (None, Some(other)),
        };
        {
            let mut state = self.state();
            state.opening -= 1;
            let is_split = split.is_some();
            state.split.extend(split.map(|split| (split, 0)));
            if is_split || state.opening == 0 {
                self.changed.notify_all();
            }
        }
        let Some(opened) = alone else { return };
        let result = match opened {
            Ok(Some(opened)) => match tools.kept(&opened, self.algorithm) {
                Some(sum) => Ok(sum),
                None => return tools.hash_alone(opened, self.algorithm),
            },
            Ok(None) => tools.hash_stream(&path, self.algorithm),
            Err(error) => Err(error),
        };
        tools.send(Found::new(number, path, result));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.next < self.shown.saturating_add(MAX_AHEAD_BYTES)
    }

    fn next_block(&mut self) -> Option<Work> {
        let (split, next) = self.split.front_mut()?;
        let block = *next;
        *next += 1;
        let split = Arc::clone(split);
        if block + 1 == blocks::count(split.opened.meta.len) {
            self.split.pop_front();
        }
        Some(Work::Block(split, block))
    }

    fn begin(&mut self, path: PathBuf, listed: io::Result<()>) -> Work {
        let number = self.next;
        self.next += 1;
        if let Err(error) = listed {
            return Work::Unreadable(Found::new(number, path, Err(error)));
        }
        self.opening += 1;
        Work::File(number, path)
    }
}

impl Found {
    fn new(number: u64, path: PathBuf, result: io::Result<Checksum>) -> Self {
        Self {
            number,
            path,
            result,
            notice: None,
        }
    }
}

/// Opens a regular file with a length; `None` for all others, which are read to their end.
fn open(number: u64, path: &Path) -> io::Result<Option<Opened>> {
    if read::is_standard_input(path) {
        return Ok(None);
    }
    let file = File::open(path)?;
    let (kind, meta) = file::stat(&file)?;
    if kind != Kind::Regular || meta.len == 0 {
        return Ok(None);
    }
    let is_steady = meta.has_settled(file::clock()) && writers::has_writer(&file) != Some(true);
    Ok(Some(Opened {
        number,
        path: path.to_owned(),
        file,
        meta,
        is_steady,
    }))
}

impl Tools<'_> {
    fn send(&self, found: Found) {
        // Without a receiver the work has been cancelled.
        let _ = self.results.send(found);
    }

    fn kept(&self, opened: &Opened, algorithm: Algorithm) -> Option<Checksum> {
        let kept = self.store?.get(&Identity::from(&opened.meta));
        kept.get(algorithm)
    }

    fn hash_stream(&mut self, path: &Path, algorithm: Algorithm) -> io::Result<Checksum> {
        let hashed = &self.progress.hashed;
        if read::is_standard_input(path) {
            return read::stream(io::stdin().lock(), algorithm, &mut self.buffer, hashed);
        }
        read::stream(File::open(path)?, algorithm, &mut self.buffer, hashed)
    }

    fn hash_alone(&mut self, opened: Opened, algorithm: Algorithm) {
        let Some(wanted) = Wanted::only(algorithm) else {
            let result = self.hash_stream(&opened.path, algorithm);
            return self.send(Found::new(opened.number, opened.path, result));
        };
        let mut hasher = FileHasher::new(wanted, opened.meta.len);
        let progress = self.progress;
        let whole = (0, opened.meta.len);
        let read = read::extent(&opened.file, whole, &mut self.buffer, |piece| {
            hasher.update(piece);
            progress.add(piece.len());
        });
        let hashed = read.map(|()| hasher.finish().unwrap_or_default());
        self.finish(&opened, hashed, algorithm);
    }

    /// Delivers a file's digest, if the file is unchanged, and stores it.
    fn finish(
        &self,
        opened: &Opened,
        hashed: io::Result<(Digests, Option<BlockList>)>,
        algorithm: Algorithm,
    ) {
        let mut notice = None;
        let identity = Identity::from(&opened.meta);
        let result = hashed.and_then(|(digests, list)| {
            let now = file::stat(&opened.file)?.1;
            if Identity::from(&now) != identity {
                return Err(io::Error::other("it changed while it was read"));
            }
            let sum = digests.get(algorithm);
            let sum = sum.ok_or_else(|| io::Error::other("it has no digest"))?;
            let is_steady = opened.is_steady && writers::has_writer(&opened.file) != Some(true);
            if let Some(store) = self.store.filter(|_| is_steady) {
                let put = store.put(&identity, digests, list);
                notice = put.map(|notice| notice.to_string());
            }
            Ok(sum)
        });
        self.send(Found {
            notice,
            ..Found::new(opened.number, opened.path.clone(), result)
        });
    }
}

impl Split {
    fn new(opened: Opened) -> Self {
        let count = blocks::count(opened.meta.len);
        Self {
            opened,
            values: Mutex::new(vec![[0; 32]; usize::try_from(count).unwrap_or(0)]),
            error: Mutex::new(None),
            left: AtomicU64::new(count),
        }
    }

    /// Hashes a block; the last one ends the file.
    fn hash(&self, block: u64, tools: &mut Tools<'_>) {
        let len = self.opened.meta.len;
        let mut hasher = BlockHasher::new(block, len);
        let progress = tools.progress;
        let extent = blocks::extent(block, len);
        let read = read::extent(&self.opened.file, extent, &mut tools.buffer, |piece| {
            hasher.update(piece);
            progress.add(piece.len());
        });
        match read {
            Ok(()) => lock(&self.values)[block as usize] = hasher.finish(),
            Err(error) => *lock(&self.error) = Some(error),
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let hashed = match lock(&self.error).take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut *lock(&self.values))),
        };
        let hashed = hashed.map(|values| {
            let list = BlockList::new(len, values);
            let blake3 = list.as_ref().map(|list| *list.root());
            let digests = Digests {
                blake3,
                ..Digests::default()
            };
            (digests, list)
        });
        tools.finish(&self.opened, hashed, Algorithm::Blake3);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file this large is hashed by several threads.
const SPLIT_BYTES: u64 = 2 * BLOCK_BYTES;

/// Results wait for those of earlier names, in memory.
const MAX_AHEAD_BYTES: u64 = 1 << 16;
