//! `--digests all`: every file beneath the root, and what becomes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::digest::Wanted;
use crate::http::Target;
use crate::server::digests::service::DigestService;
use crate::server::digests::watch::{Change, Watch};
use crate::server::files::{Found, LookUp, OpenFile, Root};
use crate::sys::directory::{Directory, EntryKind};
use crate::sys::file::Blocking;
use crate::sys::process;

/// Queues all files of the tree at `path` whose digests are not known, until `stopped`. Links are
/// not followed: their targets are hashed on request.
pub(crate) fn follow_tree(
    service: &DigestService,
    root: &Root,
    path: Option<&Path>,
    stopped: &Receiver<()>,
) {
    process::have_least_disk_priority();
    let mut follower = Follower {
        service,
        root,
        stopped,
        working_since: Instant::now(),
        watch: Watch::new(path),
    };
    while follower.follow().is_some() {}
}

/// The state of one followed tree.
struct Follower<'a> {
    service: &'a DigestService,
    root: &'a Root,
    stopped: &'a Receiver<()>,
    working_since: Instant,
    watch: Watch,
}

impl Follower<'_> {
    /// Scans the tree, then follows its changes until another scan is needed; `None` at the end of
    /// the server.
    fn follow(&mut self) -> Option<()> {
        self.watch.begin();
        self.walk_from(Vec::new())?;
        let rescan = match self.watch.is_complete() {
            true => RESCAN_WATCHED,
            false => RESCAN,
        };
        let end = Instant::now() + rescan;
        loop {
            match self.watch.next(end, self.stopped) {
                Change::At(path) => self.look_at(path)?,
                Change::Nothing => return Some(()),
                Change::Stopped => return None,
                Change::Lost => {
                    let stop = self.stopped.recv_timeout(AFTER_LOSS);
                    return (stop == Err(RecvTimeoutError::Timeout)).then_some(());
                }
            }
        }
    }

    fn look_at(&mut self, path: Vec<u8>) -> Option<()> {
        match look_up(self.root, &path) {
            LookUp::Found(Found::File(file)) => {
                // It may have been open for writing before.
                file.digests().forget_failure();
                self.have_digest(&file)
            }
            LookUp::Found(Found::Directory(_)) => self.walk_from(path),
            _ => Some(()),
        }
    }

    fn walk_from(&mut self, path: Vec<u8>) -> Option<()> {
        let mut directories = vec![path];
        while let Some(path) = directories.pop() {
            self.walk(&path, &mut directories)?;
        }
        Some(())
    }

    /// Goes through one directory; `None` at the end of the server.
    fn walk(&mut self, path: &[u8], directories: &mut Vec<Vec<u8>>) -> Option<()> {
        let handle = match look_up(self.root, path) {
            LookUp::Found(Found::Directory(handle)) => handle,
            LookUp::Found(Found::Names(names)) => {
                let mut names = names.iter();
                return names.try_for_each(|name| self.look_at(name.to_vec()));
            }
            _ => return Some(()),
        };
        self.watch.add(path);
        let opened = handle.open(Blocking::Allowed);
        let Ok(mut directory) = opened.and_then(|file| Directory::new(file.into())) else {
            return Some(());
        };
        while let Some(Ok(entry)) = directory.next_entry() {
            let below = match path {
                [] => entry.name.clone(),
                _ => [path, b"/", &entry.name].concat(),
            };
            let kind = match entry.kind {
                EntryKind::Unknown => directory.stat(&entry.name).map(|facts| facts.kind),
                kind => Ok(kind),
            };
            match kind {
                Ok(EntryKind::Directory) => directories.push(below),
                Ok(EntryKind::File) => self.look_at(below)?,
                _ => {}
            }
        }
        Some(())
    }

    /// Has a file hashed; `None` at the end of the server.
    fn have_digest(&mut self, file: &Arc<OpenFile>) -> Option<()> {
        if file.file_system.is_remote() {
            self.watch.note_remote();
        }
        self.service.find(file, Wanted::USUAL, Blocking::Allowed);
        self.wait_for_room()?;
        self.rest()
    }

    /// Leaves the processor to others most of the time. A lower priority would do so too, but
    /// opening a file takes locks that hot workers wait for.
    fn rest(&mut self) -> Option<()> {
        if self.working_since.elapsed() >= WORK {
            if self.stopped.recv_timeout(REST) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            self.working_since = Instant::now();
        }
        Some(())
    }

    /// Leaves room in the queue for requested files.
    fn wait_for_room(&self) -> Option<()> {
        while self.service.waiting() >= FEW_WAITING {
            if self.stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
        }
        (!self.service.is_shut()).then_some(())
    }
}

fn look_up(root: &Root, path: &[u8]) -> LookUp {
    let target = Target {
        path: path.to_vec(),
        trailing_slash: false,
    };
    root.look_up(&target, Blocking::Allowed)
}

/// The interval of scans where the watches do not report all changes.
const RESCAN: Duration = Duration::from_secs(15 * 60);
/// How often it is where they are: for files that could not be hashed when they changed.
const RESCAN_WATCHED: Duration = Duration::from_secs(6 * 60 * 60);
/// A storm of changes is given a moment to end.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// A tenth of a processor: a million files whose digests are known take some minutes.
const WORK: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_millis(9);
const FEW_WAITING: usize = 4;
const LOOK: Duration = Duration::from_millis(20);
