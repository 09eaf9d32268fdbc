//! From a target to an open file or directory, beneath the root and nowhere else.
//!
//! The kernel confines every look-up (openat2(2)), and what was looked up is what is opened: no
//! path is checked first and opened later. The hot lane asks the kernel's name cache only; what
//! that cannot answer, and file systems that may wait for a network, are for the disk lane.

pub(crate) mod extent;
pub(crate) mod filesystem;
pub(crate) mod open_file;
pub(crate) mod open_file_cache;
mod registry;
mod residency_cache;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::http::policy::DotNames;
use crate::http::{Coding, Meta, Refusal, Target};
use crate::server::config::Precompressed;
use crate::server::files::filesystem::FileSystems;
use crate::server::files::open_file::Siblings;
pub(crate) use crate::server::files::open_file::{Closing, OpenFile};
use crate::server::files::open_file_cache::Age;
use crate::server::files::registry::Registry;
use crate::sys::file::{self, Handle, Kind, Patience};
use crate::sys::resources;

/// What a target leads to.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(Arc<OpenFile>),
    /// A directory, not opened yet.
    Directory(Handle),
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
    file_systems: FileSystems,
    registry: Registry,
    dot_names: DotNames,
    precompressed: Precompressed,
    closer: Sender<Closing>,
    /// The file system of the directory itself.
    device: u64,
}

impl Root {
    /// Opens the directory. Files whose close may wait are sent to `closer`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path, dot_names: DotNames, closer: Sender<Closing>) -> io::Result<Self> {
        let root = file::Root::open(path)?;
        let device = root.find(b"", Patience::Wait)?.meta.device;
        Ok(Self {
            root,
            file_systems: FileSystems::default(),
            registry: Registry::default(),
            dot_names,
            precompressed: Precompressed::Ignore,
            closer,
            device,
        })
    }

    /// With precompressed siblings looked for, or not.
    #[must_use]
    pub(crate) fn with_siblings(self, precompressed: Precompressed) -> Self {
        Self {
            precompressed,
            ..self
        }
    }

    /// The file system that a look-up of this path may wait for, as far as the kernel's name
    /// cache tells: that of the deepest directory on the way which is known. Mount points are
    /// always known, so names on a file system that hangs never pass for another's.
    #[must_use]
    pub fn device_towards(&self, path: &[u8]) -> u64 {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<_> = slashes.map(|(at, _)| at).chain([path.len()]).collect();
        // Most often it is the last name alone that is not known. Otherwise the last known
        // directory is found by halving: all that lies beneath an unknown one is unknown.
        let (mut known, mut unknown, mut tries) = (0, ends.len(), 0);
        let mut device = self.device;
        while known < unknown {
            let middle = match tries {
                0 | 1 => unknown - 1,
                _ => known + (unknown - known) / 2,
            };
            tries += 1;
            match self.root.find(&path[..ends[middle]], Patience::CachedOnly) {
                Ok(found) => (known, device) = (middle + 1, found.meta.device),
                Err(_) => unknown = middle,
            }
        }
        device
    }

    /// Looks a target up and opens it.
    #[must_use]
    pub fn look_up(&self, target: &Target, patience: Patience) -> LookUp {
        if self.dot_names == DotNames::Hidden && has_hidden_component(&target.path) {
            return LookUp::Refused(Refusal::NotFound);
        }
        match self.try_look_up(&target.path, patience) {
            Ok(Some(Found::File(_))) if target.trailing_slash => LookUp::Refused(Refusal::NotFound),
            Ok(Some(found)) => LookUp::Found(found),
            Ok(None) => LookUp::NotCached,
            Err(error) => LookUp::Refused(refusal_of(&error)),
        }
    }

    /// Whether a path that led to this file does so still, as far as can be told without waiting.
    #[must_use]
    pub(crate) fn leads_to(&self, path: &[u8], file: &OpenFile, age: Age) -> bool {
        if !file.file_system.is_overlay() {
            return age == Age::Fresh && file.is_unchanged().unwrap_or(false);
        }
        // An open file of a lower layer does not show that another one took its place.
        let found = self.root.find(path, Patience::CachedOnly);
        found.is_ok_and(|found| found.meta == file.meta)
            && (age == Age::Fresh
                || self.find_siblings(path, Patience::CachedOnly) == Some(file.siblings))
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
            Kind::Directory => Ok(Some(Found::Directory(handle))),
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
        if self.precompressed == Precompressed::Ignore
            || Coding::ALL
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
        let known = self.file_systems.known(handle.file_system);
        let file_system = match (known, patience) {
            (None, Patience::CachedOnly) => return Ok(None),
            // To open a file of an overlay may wait for any layer.
            (Some(known), Patience::CachedOnly) if known.is_remote() || known.is_overlay() => {
                return Ok(None);
            }
            (Some(known), _) => known,
            (None, Patience::Wait) => {
                let f_type = handle.file_system_type()?;
                self.file_systems.learn(handle.file_system, f_type)
            }
        };
        let file = handle.open()?;
        // A network file system may know better once the file is open.
        let meta = if file_system.is_remote() {
            file::stat(&file)?.1
        } else {
            handle.meta
        };
        let shared = (&self.registry, &self.closer);
        let open = OpenFile::new(file, meta, siblings, file_system, shared);
        Ok(Some(Found::File(Arc::new(open))))
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
