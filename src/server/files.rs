//! From a target to an open file or directory, beneath the root and nowhere else.
//!
//! Every look-up is confined (`sys::beneath`) and opens what it found: no path is checked first and
//! opened later. Hot workers use the kernel's name cache only; other names, and file systems that
//! may wait for a network, go to the disk queue.

pub(crate) mod digest_slot;
pub(crate) mod extent;
pub(crate) mod filesystem;
#[cfg(all(test, feature = "models"))]
mod models;
pub(crate) mod open_file;
pub(crate) mod open_file_cache;
mod real_path;
mod registry;
mod residency_cache;
mod served;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crossbeam_channel::Sender;

use crate::http::policy::DotNames;
use crate::http::{Coding, Meta, Refusal, Target};
use crate::server::config::Precompressed;
use crate::server::files::filesystem::{FileSystem, FileSystems};
use crate::server::files::open_file::Siblings;
pub(crate) use crate::server::files::open_file::{Closing, OpenFile};
use crate::server::files::open_file_cache::Age;
pub(crate) use crate::server::files::real_path::RealPath;
use crate::server::files::registry::Registry;
pub use crate::server::files::served::FileFault;
pub(crate) use crate::server::files::served::Names;
use crate::server::files::served::{NamedFiles, Served};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sys::beneath::{self, PathHandle, Support};
use crate::sys::file::{self, Blocking, Kind};
use crate::sys::resources;

/// The file or directory of a target.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(Arc<OpenFile>),
    /// A directory, not opened yet.
    Directory(PathHandle),
    /// The files that are served by their names, in place of a directory.
    Names(Names),
}

/// The outcome of a look-up.
#[derive(Debug)]
pub enum LookUp {
    /// The target is there.
    Found(Found),
    /// The look-up takes a disk.
    NotCached,
    /// The target is refused.
    Refused(Refusal),
}

/// The served directory, or the files that are served by their names.
#[derive(Debug)]
pub struct Root {
    current: RwLock<Arc<Served>>,
    /// How often the path has led to another directory.
    generation: AtomicU64,
    file_systems: FileSystems,
    registry: Registry,
    dot_names: DotNames,
    precompressed: Precompressed,
    links: LinkChoice,
    closer: Sender<Closing>,
}

/// Whether the target of links matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkChoice {
    /// The real path does not matter, as long as it is beneath the root.
    #[default]
    Follow,
    /// The real path decides: a grant for a path need not cover the target of its links.
    Trace,
}

impl Root {
    /// Opens the directory, and those that links may lead into. Files whose close may wait are sent
    /// to `closer`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(
        path: &Path,
        links_into: &[PathBuf],
        dot_names: DotNames,
        closer: Sender<Closing>,
    ) -> io::Result<Self> {
        let served = Served::Tree(beneath::Root::open(path, links_into)?);
        Ok(Self::of(served, dot_names, closer))
    }

    /// Opens files that are served by their names alone. Links may keep their present targets, or
    /// lead into `links_into`. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// The file that cannot be served, and why.
    pub(crate) fn of_files(
        paths: &[PathBuf],
        links_into: &[PathBuf],
        closer: Sender<Closing>,
    ) -> Result<Self, (PathBuf, FileFault)> {
        let served = Served::Files(NamedFiles::open(paths, links_into)?);
        // A file on the command line is served even if its name has a dot.
        Ok(Self::of(served, DotNames::Shown, closer))
    }

    fn of(served: Served, dot_names: DotNames, closer: Sender<Closing>) -> Self {
        Self {
            current: RwLock::new(Arc::new(served)),
            generation: AtomicU64::new(0),
            file_systems: FileSystems::default(),
            registry: Registry::default(),
            dot_names,
            precompressed: Precompressed::Ignore,
            links: LinkChoice::default(),
            closer,
        }
    }

    /// With precompressed siblings looked for, or not.
    #[must_use]
    pub(crate) fn with_siblings(self, precompressed: Precompressed) -> Self {
        Self {
            precompressed,
            ..self
        }
    }

    /// With links traced, or not.
    #[must_use]
    pub(crate) fn with_links(self, links: LinkChoice) -> Self {
        Self { links, ..self }
    }

    /// Opens the root's path anew: a link may have been switched, the directory replaced or mounted
    /// over. If that fails, the old directory stays. Returns `false` if it stays because the
    /// sandbox does not cover the new one.
    pub(crate) fn refresh(&self) -> bool {
        let current = self.current();
        let Ok(found) = current.reopen() else {
            return true;
        };
        let is_same = current.is_same(&found);
        if !is_same && !found.is_covered() {
            return false;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        if !is_same {
            // After the directory: nothing of the old one is marked as of the new one.
            self.generation.fetch_add(1, Ordering::Release);
        }
        true
    }

    /// Whether the root's path still leads to the directory that the file was found in.
    #[must_use]
    pub fn is_current(&self, file: &OpenFile) -> bool {
        file.generation == self.generation.load(Ordering::Acquire)
    }

    /// The features of this system that look-ups use.
    pub(crate) fn support(&self) -> Support {
        self.current().support()
    }

    // A copy: a look-up that hangs must not hold up the lock's writers.
    fn current(&self) -> Arc<Served> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file system that a look-up of this path may wait for: that of the deepest directory on
    /// the way in the kernel's name cache. Mount points are always cached, so a name on a hung file
    /// system is never attributed to another one.
    #[must_use]
    pub fn device_towards(&self, path: &[u8]) -> u64 {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<_> = slashes.map(|(at, _)| at).chain([path.len()]).collect();
        // Mostly only the last name is uncached. Otherwise the last cached directory is found by
        // bisection: nothing beneath an uncached one is cached.
        let (mut known, mut unknown, mut tries) = (0, ends.len(), 0);
        let current = self.current();
        let Some(root) = current.root_of(path) else {
            return NAMES_DEVICE;
        };
        let mut device = root.device();
        while known < unknown {
            let middle = match tries {
                0 | 1 => unknown - 1,
                _ => known + (unknown - known) / 2,
            };
            tries += 1;
            match root.find(&path[..ends[middle]], Blocking::Forbidden) {
                Ok(found) => (known, device) = (middle + 1, found.meta.device),
                Err(_) => unknown = middle,
            }
        }
        device
    }

    /// Looks a target up and opens it.
    #[must_use]
    pub fn look_up(&self, target: &Target, blocking: Blocking) -> LookUp {
        if self.dot_names == DotNames::Hidden && has_hidden_component(&target.path) {
            return LookUp::Refused(Refusal::NotFound);
        }
        match self.try_look_up(&target.path, blocking) {
            Ok(Found::File(_)) if target.trailing_slash => LookUp::Refused(Refusal::NotFound),
            Ok(found) => LookUp::Found(found),
            Err(LookUpFailure::File(error)) if is_uncached(&error, blocking) => LookUp::NotCached,
            Err(LookUpFailure::File(error)) => LookUp::Refused(refusal_of(&error)),
            Err(LookUpFailure::Refused(refusal)) => LookUp::Refused(refusal),
        }
    }

    /// Whether the path still leads to this file, as far as that is cached.
    #[must_use]
    pub(crate) fn leads_to(&self, path: &[u8], file: &OpenFile, age: Age) -> bool {
        if !self.is_current(file) {
            return false;
        }
        if !file.file_system.is_overlay() {
            return age == Age::Fresh && file.is_unchanged().unwrap_or(false);
        }
        // An open file of a lower layer does not show that another one took its place.
        let root = self.current();
        let found = root.find(path, Blocking::Forbidden);
        found.is_ok_and(|found| found.meta == file.meta)
            && (age == Age::Fresh
                || (self.find_siblings(&root, path, Blocking::Forbidden))
                    .is_ok_and(|it| it == file.siblings))
    }

    /// The target of a link beneath the root. May wait.
    ///
    /// # Errors
    /// As [`beneath::Root::find`].
    pub(crate) fn follow_link(&self, path: &[u8]) -> io::Result<(Kind, Meta, RealPath)> {
        let root = self.current();
        let handle = root.find(path, Blocking::Allowed)?;
        let real_path = self.trace(&root, path, &handle);
        Ok((handle.kind, handle.meta, real_path))
    }

    /// The real path of a directory that was found at this path.
    #[must_use]
    pub(crate) fn real_path(&self, path: &[u8], handle: &PathHandle) -> RealPath {
        self.trace(&self.current(), path, handle)
    }

    /// The real path of a path.
    ///
    /// # Errors
    /// As a look-up; `WouldBlock` if the answer is not cached and `blocking` forbids to wait.
    pub(crate) fn resolve(&self, path: &[u8], blocking: Blocking) -> io::Result<RealPath> {
        let root = self.current();
        let handle = root.find(path, blocking)?;
        Ok(self.trace(&root, path, &handle))
    }

    fn trace(&self, root: &Served, path: &[u8], handle: &PathHandle) -> RealPath {
        match self.links {
            LinkChoice::Follow => RealPath::AsAsked,
            LinkChoice::Trace => match root.real_path(path, handle) {
                Ok(Some(found)) if found == path => RealPath::AsAsked,
                Ok(Some(found)) => RealPath::Other(found.into()),
                Ok(None) => RealPath::Outside,
                Err(_) => RealPath::Unknown,
            },
        }
    }

    fn try_look_up(&self, path: &[u8], blocking: Blocking) -> Result<Found, LookUpFailure> {
        let generation = self.generation.load(Ordering::Acquire);
        let root = self.current();
        if let Some(names) = root.names_at(path) {
            return Ok(Found::Names(names));
        }
        let handle = root.find(path, blocking)?;
        match handle.kind {
            Kind::Special => Err(LookUpFailure::Refused(Refusal::Forbidden(
                "it is not a regular file",
            ))),
            Kind::Directory => Ok(Found::Directory(handle)),
            Kind::Regular => {
                let siblings = self.find_siblings(&root, path, blocking)?;
                let real_path = self.trace(&root, path, &handle);
                let found = (siblings, generation, real_path);
                let file = self.open_file(&handle, found, blocking)?;
                Ok(Found::File(Arc::new(file)))
            }
        }
    }

    /// Which precompressed siblings there are.
    fn find_siblings(
        &self,
        root: &Served,
        path: &[u8],
        blocking: Blocking,
    ) -> io::Result<Siblings> {
        let mut siblings = Siblings::default();
        if self.precompressed == Precompressed::Ignore
            || Coding::ALL
                .iter()
                .any(|coding| path.ends_with(coding.suffix().as_bytes()))
        {
            return Ok(siblings);
        }
        for coding in Coding::ALL {
            let path = [path, coding.suffix().as_bytes()].concat();
            match root.find(&path, blocking) {
                Ok(handle) => siblings.codings[coding as usize] = handle.kind == Kind::Regular,
                Err(error) if is_uncached(&error, blocking) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(siblings)
    }

    /// The file system that something is on. May wait.
    fn file_system_of(&self, handle: &PathHandle) -> io::Result<Arc<FileSystem>> {
        if let Some(known) = self.file_systems.known(handle.file_system) {
            return Ok(known);
        }
        let f_type = handle.file_system_type()?;
        Ok(self.file_systems.learn(handle.file_system, f_type))
    }

    /// Whether any change of a directory from now on will show in its time stamps. May wait. A
    /// network file system may show an old state, and an overlay that of one layer.
    pub(crate) fn shows_changes(&self, directory: &PathHandle) -> bool {
        let file_system = self.file_system_of(directory);
        let is_certain = file_system.is_ok_and(|it| !it.is_remote() && !it.is_overlay());
        is_certain && directory.meta.has_settled(file::clock())
    }

    fn open_file(
        &self,
        handle: &PathHandle,
        found: (Siblings, u64, RealPath),
        blocking: Blocking,
    ) -> Result<OpenFile, LookUpFailure> {
        let file_system = match blocking {
            Blocking::Allowed => self.file_system_of(handle)?,
            Blocking::Forbidden => match self.file_systems.known(handle.file_system) {
                None => return Err(LookUpFailure::not_cached()),
                // To open a file of an overlay may wait for any layer.
                Some(known) if known.is_remote() || known.is_overlay() => {
                    return Err(LookUpFailure::not_cached());
                }
                Some(known) => known,
            },
        };
        if file_system.is_clogged() {
            return Err(LookUpFailure::Refused(Refusal::Overloaded));
        }
        let is_young = |meta: &Meta| !file_system.is_remote() && meta.is_young(file::clock());
        if blocking == Blocking::Forbidden && is_young(&handle.meta) {
            return Err(LookUpFailure::not_cached());
        }
        let file = handle.open(blocking)?;
        let mut meta = handle.meta;
        // A network file system may have newer metadata once the file is open.
        if file_system.is_remote() {
            meta = file::stat(&file)?.1;
            if !has_length(&file, meta.len, file_system.is_generated())? {
                return Err(LookUpFailure::Refused(Refusal::Internal(
                    "the file system does not say how long it is",
                )));
            }
        }
        // A change within the tick of the last one would not show. A file with continuous writes is
        // accepted after some tries.
        for _ in 0..MAX_TICKS {
            if blocking == Blocking::Forbidden || !is_young(&meta) {
                break;
            }
            std::thread::sleep(file::clock_tick());
            meta = file::stat(&file)?.1;
        }
        let shared = (&self.registry, &self.closer);
        Ok(OpenFile::new(file, meta, found, file_system, shared))
    }
}

/// Why a look-up found nothing.
#[derive(Debug)]
enum LookUpFailure {
    /// The error of the file system; `WouldBlock` if it would wait.
    File(io::Error),
    /// A rule of haul's.
    Refused(Refusal),
}

impl LookUpFailure {
    fn not_cached() -> Self {
        Self::File(io::ErrorKind::WouldBlock.into())
    }
}

impl From<io::Error> for LookUpFailure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

fn is_uncached(error: &io::Error, blocking: Blocking) -> bool {
    blocking == Blocking::Forbidden && error.kind() == io::ErrorKind::WouldBlock
}

/// Whether a file has the length of its metadata. Generated files often report 0 (proc(5)) or a
/// page (sysfs(5)).
fn has_length(file: &File, len: u64, is_generated: bool) -> io::Result<bool> {
    let last = match len.checked_sub(1) {
        None => 0,
        Some(last) if is_generated => last,
        Some(_) => return Ok(true),
    };
    Ok((file.read_at(&mut [0], last)? == 0) == (len == 0))
}

fn has_hidden_component(path: &[u8]) -> bool {
    path.first() == Some(&b'.') || path.windows(2).any(|pair| pair == b"/.")
}

fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        // Some file systems take no name with certain characters (EINVAL).
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => Refusal::NotFound,
        io::ErrorKind::PermissionDenied => Refusal::Forbidden("the server's user may not read it"),
        _ if resources::is_exhaustion(error) => Refusal::Overloaded,
        _ if file::is_escape(error) => Refusal::Forbidden("it leads out of the served directory"),
        _ => Refusal::Internal("the file system failed to look it up"),
    }
}

/// The key of a separate disk queue: the named files may lie on any file system.
pub(crate) const NAMES_DEVICE: u64 = 0;

/// So many ticks of the clock are waited for a file that is being written.
const MAX_TICKS: u32 = 2;
