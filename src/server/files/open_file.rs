//! An open file, and whether a call on it may wait.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::http::{Coding, Strength, Validators};
use crate::meta::Meta;
use crate::server::files::digest_slot::DigestSlot;
use crate::server::files::extent::Extent;
use crate::server::files::filesystem::FileSystem;
use crate::server::files::real_path::RealPath;
use crate::server::files::registry::{FileVersion, Registry};
use crate::server::files::residency_cache::UNASKED_FOR;
use crate::sys::file;
use crate::sys::page_cache::{self, Residency};

/// An open file, shared by the connections that send it.
#[derive(Debug)]
pub struct OpenFile {
    file: Option<File>,
    /// The metadata when the file was opened. Responses are made from it, and it is what a transfer
    /// that ends well must find again.
    pub meta: Meta,
    /// The codings with a precompressed sibling.
    pub siblings: Siblings,
    /// The file system it is on.
    pub file_system: Arc<FileSystem>,
    /// Which of the directories at the root's path it was found beneath.
    pub(super) generation: u64,
    /// Its real path, if links led to it.
    pub(crate) real_path: RealPath,
    /// The facts that all holders of the file share.
    version: Arc<FileVersion>,
    /// Where the file is closed if close(2) may wait.
    closer: Option<Sender<Closing>>,
}

/// A file whose close(2) may wait, on its way to the disk queue. Dropping it closes the file.
#[derive(Debug)]
pub struct Closing {
    file: Option<File>,
    file_system: Arc<FileSystem>,
}

impl Closing {
    fn new(file: File, file_system: Arc<FileSystem>) -> Self {
        file_system.begin_close();
        Self {
            file: Some(file),
            file_system,
        }
    }

    /// The file system it is on (`st_dev`).
    #[must_use]
    pub fn device(&self) -> u64 {
        self.file_system.device()
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        drop(self.file.take());
        self.file_system.end_close();
    }
}

/// Codings, each in or out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    pub(super) codings: [bool; Coding::ALL.len()],
}

impl Siblings {
    /// Whether there is no sibling.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.codings == [false; Coding::ALL.len()]
    }

    /// Whether there is a sibling in this coding.
    #[must_use]
    pub fn contains(self, coding: Coding) -> bool {
        self.codings[coding as usize]
    }
}

impl OpenFile {
    pub(super) fn new(
        file: File,
        meta: Meta,
        (siblings, generation, real_path): (Siblings, u64, RealPath),
        file_system: Arc<FileSystem>,
        (registry, closer): (&Registry, &Sender<Closing>),
    ) -> Self {
        // The last close of a large removed file frees its blocks.
        let close_may_wait =
            file_system.is_remote() || file_system.is_overlay() || meta.len >= LARGE_BYTES;
        Self {
            file: Some(file),
            meta,
            siblings,
            file_system,
            generation,
            real_path,
            version: registry.version(meta),
            closer: close_may_wait.then(|| closer.clone()),
        }
    }

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
        self.version.inode.readers.fetch_add(1, Ordering::Relaxed);
        self.version.was_read.swap(true, Ordering::Relaxed)
    }

    /// The known digests of the file.
    pub(crate) fn digests(&self) -> &DigestSlot {
        &self.version.digests
    }

    /// Whether a transfer draws from it.
    pub(crate) fn is_being_read(&self) -> bool {
        self.version.inode.readers.load(Ordering::Relaxed) > 0
    }

    /// A transfer is through with it.
    pub fn end_reading(&self) {
        self.version.inode.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether sending these bytes of one extent may wait for a disk or another host: the one place
    /// of that decision.
    ///
    /// Where a file system does not report residency, extents that were lately read in or sent
    /// without a wait count as resident.
    #[must_use]
    pub fn may_wait(&self, part: Extent, now: Instant) -> bool {
        if self.file_system.is_memory() || self.file_system.is_remote() {
            return self.file_system.is_remote();
        }
        let age = self.version.residency.age(part, now);
        if age.is_some_and(|age| age < UNASKED_FOR) {
            return false;
        }
        let known = age.is_some();
        let found = page_cache::residency(self.file(), part.offset, part.len);
        let is_there = found == Residency::Resident || (known && found == Residency::Unknown);
        if is_there {
            self.version.residency.note(part, now);
        } else if known {
            self.version.residency.forget(part);
        }
        !is_there
    }

    /// Reads bytes that are in memory; `None` if to read them may wait.
    ///
    /// # Errors
    /// As reading the file.
    pub fn read_resident(
        &self,
        bytes: &mut [u8],
        offset: u64,
        now: Instant,
    ) -> io::Result<Option<usize>> {
        if self.file_system.is_remote() {
            return Ok(None);
        }
        if !self.file_system.is_memory() {
            match page_cache::read_resident(self.file(), bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                read => return read,
            }
            let len = bytes.len() as u64;
            if self.may_wait(Extent { offset, len }, now) {
                return Ok(None);
            }
        }
        self.read(bytes, offset).map(Some)
    }

    /// Reads bytes at an offset, over interruptions.
    ///
    /// # Errors
    /// As reading the file.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file().read_at(bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Whether all these bytes of one extent were in memory a moment ago.
    #[must_use]
    pub fn was_resident(&self, part: Extent, now: Instant) -> bool {
        self.version.residency.age(part, now).is_some()
    }

    /// Notes that a disk worker has read all these bytes of one extent.
    pub fn note_resident(&self, part: Extent) {
        self.version.residency.note(part, Instant::now());
    }

    /// Drops the record of resident extents: pages were evicted, or a hot worker had to wait.
    pub fn forget_residency(&self) {
        self.version.residency.clear();
    }

    /// Takes what the only reader was sent out of the page cache, all before `end`; with other
    /// readers it stays.
    pub fn drop_behind(&self, end: u64) {
        if self.version.inode.readers.load(Ordering::Relaxed) <= 1 {
            self.forget_residency();
            page_cache::drop_behind(self.file(), 0, end);
        }
    }

    /// Its validators, which are made once: but for weak ones, which become strong with time.
    pub fn validators(&self, make: impl FnOnce() -> Validators) -> Cow<'_, Validators> {
        if let Some(kept) = self.version.validators.get() {
            return Cow::Borrowed(kept);
        }
        let made = make();
        if [made.etag.strength, made.date_strength] == [Strength::Strong; 2] {
            let _ = self.version.validators.set(made.clone());
        }
        Cow::Owned(made)
    }

    /// The cached content, as of `meta`, whatever happened since.
    #[must_use]
    pub fn kept(&self) -> Option<&[u8]> {
        self.version.content.get().map(AsRef::as_ref)
    }

    /// Keeps the content, which was read before the file was found unchanged.
    pub fn keep(&self, content: &[u8]) {
        let _ = self.version.content.set(content.into());
    }

    /// Whether a change from now on would show in the file's time stamps. The clock of another
    /// host may be a little behind.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        let mut now = file::clock();
        if self.file_system.is_remote() {
            now.seconds -= CLOCK_SKEW_SECONDS;
        }
        self.meta.has_settled(now)
    }

    /// Whether the file and its links are unchanged since it was opened, so that its name most
    /// likely still leads to it.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn is_unchanged(&self) -> io::Result<bool> {
        Ok(self.stat()? == self.meta)
    }

    /// Whether its content is unchanged since it was opened, as far as its time stamps and length
    /// show: a file that has grown is another one.
    pub(crate) fn has_same_content(&self) -> io::Result<bool> {
        let links = self.meta.links;
        Ok(Meta {
            links,
            ..self.stat()?
        } == self.meta)
    }

    /// The metadata now. An overlay may forward the call to a lower layer, which may wait for
    /// another host; layers do not change.
    fn stat(&self) -> io::Result<Meta> {
        match self.file_system.is_overlay() {
            true => file::stat_cached(self.file()),
            false => file::stat(self.file()).map(|(_, meta)| meta),
        }
    }

    /// Whether the promised content is unchanged, as far as fstat(2) shows.
    ///
    /// A removed or replaced file keeps its content (only ctime and link count change), and one
    /// that has grown is taken to begin as before, so that logs can be fetched while they are
    /// written. Any other change of the times counts.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn keeps_content(&self) -> io::Result<bool> {
        let now = self.stat()?;
        let same_times = now.modified == self.meta.modified
            && (now.changed == self.meta.changed || now.links < self.meta.links);
        Ok(now.len > self.meta.len || (now.len == self.meta.len && same_times))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let (Some(closer), Some(file)) = (&self.closer, self.file.take()) {
            // Without a disk queue (at the end of the server) the file is closed here.
            let _ = closer.send(Closing::new(file, Arc::clone(&self.file_system)));
        }
    }
}

/// Freeing the blocks of a removed file of this size takes longer than a worker may wait.
const LARGE_BYTES: u64 = 16 << 20;

/// The clocks of two hosts may differ by so much.
const CLOCK_SKEW_SECONDS: i64 = 2;
