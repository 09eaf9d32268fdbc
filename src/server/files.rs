//! From a target to an open file or directory, beneath the root and nowhere else.
//!
//! The kernel confines every look-up (openat2(2)), and what was looked up is what is opened: no
//! path is checked first and opened later. The hot lane asks the kernel's name cache only; what
//! that cannot answer, and file systems that may wait for a network, are for the disk lane.

pub(crate) mod filesystem;
pub(crate) mod open_file_cache;
pub(crate) mod residency_cache;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use crate::http::{Coding, Meta, Refusal, Strength, Target, Validators};
use crate::server::files::filesystem::{Devices, FileSystem};
use crate::server::files::residency_cache::ResidencyCache;
use crate::sys::file::{self, Handle, Kind, Patience};
use crate::sys::resources;

/// An open file, shared by all who are sending it.
#[derive(Debug)]
pub struct OpenFile {
    file: Option<File>,
    /// What it was when it was opened. Responses are made from it, and it is what a transfer
    /// that ends well must find again.
    pub meta: Meta,
    /// In which codings there is a precompressed sibling.
    pub siblings: Siblings,
    /// The file system it is on.
    pub device: Arc<FileSystem>,
    /// Transfers under way that draw from it.
    readers: AtomicUsize,
    /// A transfer has drawn from it.
    was_read: AtomicBool,
    /// The content, if it is small and is asked for again and again.
    content: OnceLock<Box<[u8]>>,
    /// The validators, once they are strong.
    validators: OnceLock<Validators>,
    /// Which of its extents were found in memory a moment ago.
    sightings: ResidencyCache,
    /// Where the file is closed if close(2) may wait.
    closer: Option<Sender<Closing>>,
}

/// A file whose close(2) may wait, on its way to the disk lane.
#[derive(Debug)]
pub struct Closing {
    /// The file.
    pub file: File,
    /// The file system it is on (`st_dev`).
    pub device: u64,
}

/// Codings, each in or out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    codings: [bool; Coding::ALL.len()],
}

impl Siblings {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.codings == [false; Coding::ALL.len()]
    }

    /// Whether there is one in this coding.
    #[must_use]
    pub fn contains(self, coding: Coding) -> bool {
        self.codings[coding as usize]
    }
}

/// What a target leads to.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(Arc<OpenFile>),
    /// A directory, open for reading.
    Directory(File),
}

/// What came of a look-up.
#[derive(Debug)]
pub enum LookUp {
    /// It is there.
    Found(Found),
    /// It takes a disk to tell.
    NotCached,
    /// It is not to be had.
    Refused(Refusal),
}

/// The served directory.
#[derive(Debug)]
pub struct Root {
    root: file::Root,
    devices: Devices,
    shown: Shown,
    closer: Sender<Closing>,
    /// The file system of the directory itself.
    device: u64,
}

/// Which names are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All but those with a component that begins with a dot.
    Visible,
    /// All.
    All,
}

impl Root {
    /// Opens the directory. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path, shown: Shown, closer: Sender<Closing>) -> io::Result<Self> {
        let root = file::Root::open(path)?;
        let device = root.find(b"", Patience::Wait)?.meta.device;
        Ok(Self {
            root,
            devices: Devices::default(),
            shown,
            closer,
            device,
        })
    }

    /// The file system that a look-up of this path may wait for, as far as the kernel's name
    /// cache tells: that of the deepest directory on the way which is known. Mount points are
    /// always known, so names on a file system that hangs never pass for another's.
    #[must_use]
    pub fn device_towards(&self, path: &[u8]) -> u64 {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(at, _)| at).chain([path.len()]);
        let found = ends.map_while(|end| self.root.find(&path[..end], Patience::CachedOnly).ok());
        found.last().map_or(self.device, |found| found.meta.device)
    }

    /// Looks a target up and opens it.
    #[must_use]
    pub fn look_up(&self, target: &Target, patience: Patience) -> LookUp {
        if self.shown == Shown::Visible && has_hidden_component(&target.path) {
            return LookUp::Refused(Refusal::NotFound);
        }
        match self.try_look_up(&target.path, patience) {
            Ok(Some(Found::File(_))) if target.trailing_slash => LookUp::Refused(Refusal::NotFound),
            Ok(Some(found)) => LookUp::Found(found),
            Ok(None) => LookUp::NotCached,
            Err(error) => LookUp::Refused(refusal_of(&error)),
        }
    }

    /// What a link beneath the root leads to, if that is beneath the root as well.
    #[must_use]
    pub fn stat_link(&self, path: &[u8]) -> Option<(Kind, Meta)> {
        let handle = self.root.find(path, Patience::Wait).ok()?;
        Some((handle.kind, handle.meta))
    }

    fn try_look_up(&self, path: &[u8], patience: Patience) -> io::Result<Option<Found>> {
        let handle = match self.root.find(path, patience) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return match patience {
                    Patience::CachedOnly => Ok(None),
                    Patience::Wait => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        match handle.kind {
            Kind::Special => Err(io::ErrorKind::InvalidInput.into()),
            // Whoever asks for a directory wants it listed, which is the disk lane's work.
            Kind::Directory if patience == Patience::CachedOnly => Ok(None),
            Kind::Directory => Ok(Some(Found::Directory(handle.open()?))),
            Kind::Regular => {
                let Some(siblings) = self.find_siblings(path, patience) else {
                    return Ok(None);
                };
                self.open_file(&handle, siblings, patience)
            }
        }
    }

    /// Which precompressed siblings there are; `None` if it takes a disk to tell.
    fn find_siblings(&self, path: &[u8], patience: Patience) -> Option<Siblings> {
        let mut siblings = Siblings::default();
        if Coding::ALL
            .iter()
            .any(|coding| path.ends_with(coding.suffix().as_bytes()))
        {
            return Some(siblings);
        }
        for coding in Coding::ALL {
            let path = [path, coding.suffix().as_bytes()].concat();
            match self.root.find(&path, patience) {
                Ok(handle) => siblings.codings[coding as usize] = handle.kind == Kind::Regular,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        Some(siblings)
    }

    fn open_file(
        &self,
        handle: &Handle,
        siblings: Siblings,
        patience: Patience,
    ) -> io::Result<Option<Found>> {
        let device = match (self.devices.known(handle.meta.device), patience) {
            (Some(device), Patience::CachedOnly) if device.may_wait() => return Ok(None),
            (None, Patience::CachedOnly) => return Ok(None),
            (Some(device), _) => device,
            (None, Patience::Wait) => self
                .devices
                .learn(handle.meta.device, handle.file_system()?),
        };
        let file = handle.open()?;
        // A network file system may know better once the file is open.
        let meta = if device.may_wait() {
            file::stat(&file)?.1
        } else {
            handle.meta
        };
        // To close the last descriptor of a large file that was removed is to free its blocks.
        let close_may_wait = device.may_wait() || meta.len >= LARGE_BYTES;
        let closer = close_may_wait.then(|| self.closer.clone());
        let open = OpenFile {
            file: Some(file),
            meta,
            siblings,
            device,
            readers: AtomicUsize::new(0),
            was_read: AtomicBool::new(false),
            content: OnceLock::new(),
            validators: OnceLock::new(),
            sightings: ResidencyCache::default(),
            closer,
        };
        Ok(Some(Found::File(Arc::new(open))))
    }
}

impl OpenFile {
    /// The file itself.
    ///
    /// # Panics
    /// Never: the file is taken out only when `self` is dropped.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("taken out by drop alone")
    }

    /// A transfer begins to draw from it. Returns whether one did so before.
    pub fn begin_reading(&self) -> bool {
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.was_read.swap(true, Ordering::Relaxed)
    }

    /// A transfer is through with it.
    pub fn end_reading(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Transfers that draw from it.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Which of its extents were found in memory a moment ago, by whichever reader.
    #[must_use]
    pub fn sightings(&self) -> &ResidencyCache {
        &self.sightings
    }

    /// Its validators, which are made once: but for weak ones, which become strong with time.
    pub fn validators(&self, make: impl FnOnce() -> Validators) -> Cow<'_, Validators> {
        if let Some(kept) = self.validators.get() {
            return Cow::Borrowed(kept);
        }
        let made = make();
        if made.etag.strength == Strength::Strong {
            let _ = self.validators.set(made.clone());
        }
        Cow::Owned(made)
    }

    /// The content, if it was kept: what it was when `meta` was true, whatever happened since.
    #[must_use]
    pub fn kept(&self) -> Option<&[u8]> {
        self.content.get().map(AsRef::as_ref)
    }

    /// Keeps the content, which was read before the file was found unchanged.
    pub fn keep(&self, content: &[u8]) {
        let _ = self.content.set(content.into());
    }

    /// Whether a change would show in the file's time stamps: one within the same tick of the
    /// clock that stamps it would not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let changed = self.meta.modified.seconds.max(self.meta.changed.seconds);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.is_ok_and(|now| now.as_secs() as i64 - changed >= SETTLED_SECONDS)
    }

    /// Whether nothing about the file has changed since it was opened, its names included, so
    /// that its name most likely leads to it still.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let (_, now) = file::stat(self.file())?;
        Ok(now == self.meta)
    }

    /// Whether the content that was promised is still the content, as far as fstat(2) can tell.
    ///
    /// A file that was removed or renamed over is what it was (its ctime and its link count say
    /// only that), and one that has grown is taken to begin as it did, so that logs can be
    /// fetched while they are written. Whatever else moves the times is a change.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn keeps_content(&self) -> io::Result<bool> {
        let (_, now) = file::stat(self.file())?;
        let same_times = now.modified == self.meta.modified
            && (now.changed == self.meta.changed || now.links < self.meta.links);
        Ok(now.len > self.meta.len || (now.len == self.meta.len && same_times))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let (Some(closer), Some(file)) = (&self.closer, self.file.take()) {
            let device = self.meta.device;
            // Without a disk lane (at the very end) the file is closed here and now.
            let _ = closer.send(Closing { file, device });
        }
    }
}

fn has_hidden_component(path: &[u8]) -> bool {
    path.first() == Some(&b'.') || path.windows(2).any(|pair| pair == b"/.")
}

fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Refusal::NotFound
        }
        io::ErrorKind::PermissionDenied => Refusal::Forbidden("the server's user may not read it"),
        io::ErrorKind::InvalidInput => Refusal::Forbidden("it is not a regular file"),
        _ if resources::is_exhaustion(error) => Refusal::Overloaded,
        _ if file::is_escape(error) => Refusal::Forbidden("it leads out of the served directory"),
        _ => Refusal::Internal("the file system failed to look it up"),
    }
}

/// Freeing the blocks of a removed file of this size takes longer than a worker may wait.
const LARGE_BYTES: u64 = 16 << 20;

/// Coarser than the time stamps of every file system in use.
const SETTLED_SECONDS: i64 = 3;
