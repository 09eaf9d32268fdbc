//! The known digests, and the queue of files that wait to be hashed.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::diagnostics::say;
use crate::digest::store::Notice;
use crate::digest::{BlockList, Digests, Identity, Store, Wanted};
use crate::server::config::{DigestChoice, DigestPolicy};
use crate::server::digests::task::Task;
use crate::server::files::OpenFile;
use crate::server::semaphore::Semaphore;
use crate::sys::file::{Blocking, make_directory};

/// The state of the wanted digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DigestLookUp {
    /// None are given here.
    Off,
    /// All of them.
    Known(Digests),
    /// Some; the others may be there after so many seconds.
    Pending(Digests, u64),
    /// Only the store may have it, and reading that may wait for a disk.
    NotCached,
}

/// The digests of one server's files.
#[derive(Debug)]
pub(crate) struct DigestService {
    policy: DigestPolicy,
    state: Option<PathBuf>,
    store: OnceLock<Store>,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Block lists that are being sent, and take memory until they are.
    pub(crate) lists: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Queue {
    tasks: VecDeque<Task>,
    /// File systems with a read under way: one read each, so that a hung file system takes one
    /// thread.
    busy: HashSet<u64>,
    shut: bool,
}

impl DigestService {
    /// Without a thread so far; the store is opened when it is needed first.
    pub(crate) fn new(policy: DigestPolicy, state: Option<&Path>) -> Self {
        if let Some(state) = state.filter(|_| policy.choice != DigestChoice::Off) {
            // The sandbox covers only existing directories. A failure shows when the store is
            // opened.
            let _ = make_directory(state);
        }
        Self {
            policy,
            state: state.map(Path::to_owned),
            store: OnceLock::new(),
            queue: Mutex::default(),
            work: Condvar::new(),
            lists: Semaphore::new(LISTS_AT_ONCE),
        }
    }

    /// How digests are given.
    pub(crate) fn policy(&self) -> DigestPolicy {
        self.policy
    }

    /// The known digests of a file; begins to compute the others.
    pub(crate) fn find(
        &self,
        file: &Arc<OpenFile>,
        wanted: Wanted,
        blocking: Blocking,
    ) -> DigestLookUp {
        if self.policy.choice == DigestChoice::Off {
            return DigestLookUp::Off;
        }
        let slot = file.digests();
        let known = slot.known();
        if known.missing(wanted).is_empty() {
            return DigestLookUp::Known(known);
        }
        if !slot.was_looked_up() {
            if blocking == Blocking::Forbidden {
                return DigestLookUp::NotCached;
            }
            slot.note_looked_up(self.store().get(&Identity::from(&file.meta)));
            let known = slot.known();
            if known.missing(wanted).is_empty() {
                return DigestLookUp::Known(known);
            }
        }
        self.begin(file, wanted);
        DigestLookUp::Pending(slot.known(), self.seconds_for(file.meta.len))
    }

    /// The block list of a file, of which BLAKE3 is known. May wait for a disk.
    pub(crate) fn blocks(&self, file: &Arc<OpenFile>) -> Option<BlockList> {
        let found = self.store().blocks(&Identity::from(&file.meta));
        let found = found.filter(|list| list.len() == file.meta.len);
        if found.is_none() {
            // Memory holds a few lists only: this one made room for another.
            file.digests().forget_blake3();
        }
        found
    }

    /// Queues a file, unless it is queued or the queue is long; a later request queues it then.
    fn begin(&self, file: &Arc<OpenFile>, wanted: Wanted) {
        let Some(missing) = file.digests().begin(wanted) else {
            return;
        };
        let mut queue = self.queue();
        if queue.tasks.len() >= MAX_WAITING || queue.shut {
            file.digests().end(None);
            return;
        }
        // One read serves both algorithms; most clients want one of the two.
        let wanted = file.digests().known().missing(missing.and(Wanted::USUAL));
        queue.tasks.push_back(Task::new(Arc::clone(file), wanted));
        drop(queue);
        self.work.notify_one();
    }

    /// About the time that a file takes, if nothing else is in line.
    fn seconds_for(&self, len: u64) -> u64 {
        (len / self.policy.rate.max(1)).clamp(1, MAX_RETRY_AFTER)
    }

    /// Takes a task, waiting for one if need be; `None` at the end.
    pub(super) fn take(&self) -> Option<Task> {
        let mut queue = self.queue();
        loop {
            if queue.shut {
                return None;
            }
            let free = queue
                .tasks
                .iter()
                .position(|task| !queue.busy.contains(&task.device()));
            if let Some(task) = free.and_then(|at| queue.tasks.remove(at)) {
                queue.busy.insert(task.device());
                return Some(task);
            }
            let mut until_flush = None;
            if queue.tasks.is_empty()
                && let Some(store) = self.store.get()
            {
                // The store may wait for its disk, and requests need the queue.
                drop(queue);
                let (rest, notice) = store.flush_due();
                tell(notice);
                until_flush = rest;
                queue = self.queue();
                if !queue.tasks.is_empty() || queue.shut {
                    continue;
                }
            }
            queue = match until_flush {
                Some(rest) => {
                    let waited = self.work.wait_timeout(queue, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.work.wait(queue);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Releases a file system, and queues the rest of a task again.
    pub(super) fn put_back(&self, device: u64, rest: Option<Task>) {
        let mut queue = self.queue();
        queue.busy.remove(&device);
        queue.tasks.extend(rest);
        drop(queue);
        self.work.notify_all();
    }

    /// Whether another file of this file system is in line.
    pub(super) fn has_other(&self, device: u64) -> bool {
        let queue = self.queue();
        queue.tasks.iter().any(|task| task.device() == device)
    }

    /// Ends the threads, and stores the known digests.
    pub(crate) fn shut(&self) {
        self.queue().shut = true;
        self.work.notify_all();
        if let Some(store) = self.store.get() {
            tell(store.flush());
        }
    }

    /// Files that wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.queue().tasks.len()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.queue().shut
    }

    /// Releases the store on disk for the process that waits for it; later digests are not stored.
    pub(crate) fn close_store(&self) {
        if let Some(store) = self.store.get() {
            store.close();
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.get_or_init(|| {
            let (store, notice) = Store::open(self.state.as_deref());
            tell(notice);
            store
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn tell(notice: Option<Notice>) {
    if let Some(notice) = notice {
        say(format_args!("haul: {notice}"));
    }
}

/// Files that wait to be hashed; each is open.
const MAX_WAITING: usize = 256;

/// A list takes 8 bytes for each mebibyte of its file.
const LISTS_AT_ONCE: usize = 64;

/// The upper bound of `Retry-After`, in seconds.
const MAX_RETRY_AFTER: u64 = 600;
