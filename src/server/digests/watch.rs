//! Changes beneath the root, by inotify(7).
//!
//! A directory is watched before it is read, so that no change is lost in between. Changes that
//! watches miss are found by another scan of the tree: beyond the system's limit of watches, from
//! other hosts (network file systems), and after an overflow of events.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Watches directories of a tree.
#[derive(Debug)]
pub(super) struct Watch {
    /// The root's path, as events report it.
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    changes: Receiver<PathBuf>,
    has_lost: Arc<AtomicBool>,
    is_complete: bool,
}

/// A change.
#[derive(Debug)]
pub(super) enum Change {
    /// This, by its path beneath the root, is there or changed.
    At(Vec<u8>),
    /// More than was taken in, or the root itself.
    Lost,
    /// Nothing until then.
    Nothing,
    /// The server ends.
    Stopped,
}

impl Watch {
    /// Of the tree at `root`; of nothing without.
    pub(super) fn new(root: Option<&Path>) -> Self {
        let (sender, changes) = crossbeam_channel::bounded(MAX_WAITING);
        let has_lost = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&has_lost);
        let root = root.and_then(|root| root.canonicalize().ok());
        let own_root = root.clone().unwrap_or_default();
        let take = move |event| take(event, &own_root, &sender, &lost);
        let watcher = root
            .as_ref()
            .and_then(|_| notify::recommended_watcher(take).ok());
        Self {
            root: root.unwrap_or_default(),
            watcher,
            changes,
            has_lost,
            is_complete: false,
        }
    }

    /// A scan begins: it finds the changes that were lost before.
    pub(super) fn begin(&mut self) {
        while self.changes.try_recv().is_ok() {}
        self.has_lost.store(false, Ordering::Relaxed);
        self.is_complete = self.watcher.is_some();
    }

    /// Watches the directory at `path` beneath the root.
    pub(super) fn add(&mut self, path: &[u8]) {
        let path = self.root.join(OsStr::from_bytes(path));
        if let Some(watcher) = &mut self.watcher {
            self.is_complete &= watcher.watch(&path, RecursiveMode::NonRecursive).is_ok();
        }
    }

    /// A part of the tree can change unnoticed.
    pub(super) fn note_remote(&mut self) {
        self.is_complete = false;
    }

    /// Whether every change is reported.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next change, until `end`.
    pub(super) fn next(&self, end: Instant, stopped: &Receiver<()>) -> Change {
        loop {
            if self.has_lost.load(Ordering::Relaxed) {
                return Change::Lost;
            }
            crossbeam_channel::select! {
                recv(stopped) -> _ => return Change::Stopped,
                recv(self.changes) -> path => match path {
                    Ok(path) => match path.strip_prefix(&self.root) {
                        Ok(path) => return Change::At(path.as_os_str().as_bytes().to_vec()),
                        Err(_) => continue,
                    },
                    // There is no watcher.
                    Err(_) => {
                        let stop = stopped.recv_deadline(end);
                        let is_over = stop.is_err_and(|error| error.is_timeout());
                        return if is_over { Change::Nothing } else { Change::Stopped };
                    }
                },
                default(end.saturating_duration_since(Instant::now())) => return Change::Nothing,
            }
        }
    }
}

/// Queues the changed paths; never waits.
fn take(event: notify::Result<Event>, root: &Path, changes: &Sender<PathBuf>, lost: &AtomicBool) {
    let Ok(event) = event else {
        return lost.store(true, Ordering::Relaxed);
    };
    let is_root = |path: &PathBuf| path == root;
    let is_gone = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    if event.need_rescan() || (is_gone && event.paths.iter().any(is_root)) {
        return lost.store(true, Ordering::Relaxed);
    }
    // A file that is still being written is reported again when it is closed; one that a link has
    // put there is not.
    let is_wanted = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Modify(ModifyKind::Name(RenameMode::To) | ModifyKind::Metadata(_))
    );
    if !is_wanted {
        return;
    }
    for path in event.paths {
        if let Err(TrySendError::Full(_)) = changes.try_send(path) {
            lost.store(true, Ordering::Relaxed);
        }
    }
}

/// Changes that wait to be looked at.
const MAX_WAITING: usize = 16_384;
