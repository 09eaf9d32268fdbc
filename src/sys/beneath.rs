//! Look-ups beneath a directory: by openat2(2), or component by component where the kernel or a
//! seccomp filter refuses that, or a link leads on from outside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{AccessFlags, faccessat};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statat, statx};

use crate::meta::Meta;
use crate::sys::file::{self, Blocking, FileSystemKey, Kind};
use crate::sys::retry::retry;

/// A directory for look-ups, and the directories that links in it may lead into.
#[derive(Debug)]
pub(crate) struct Root {
    /// The directory itself is the first.
    bases: Vec<Base>,
    support: Support,
}

#[derive(Debug)]
struct Base {
    path: PathBuf,
    directory: OwnedFd,
    meta: Meta,
}

/// The features that this kernel, and a filter of its calls (seccomp(2)), allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    /// openat2(2): Linux 5.6.
    pub openat2: bool,
    /// `RESOLVE_CACHED`: Linux 5.12.
    pub cached: bool,
    /// statx(2): Linux 4.11.
    pub statx: bool,
    /// `/proc/self/fd`, by which an inode that was looked up is opened.
    pub proc: bool,
}

/// Something that was looked up but not opened, so that no device, FIFO or socket ever is.
#[derive(Debug)]
#[allow(unreachable_pub)] // part of what `internals` shows
pub struct PathHandle {
    path: OwnedFd,
    /// The directory and name of the file, for systems without `/proc`.
    place: Option<FoundAt>,
    /// The kind of file.
    pub kind: Kind,
    /// The kernel's metadata; of a network file system perhaps cached.
    pub meta: Meta,
    /// The file system it is on.
    pub file_system: FileSystemKey,
}

/// Where something was found.
#[derive(Debug)]
struct FoundAt {
    /// The directory and the name in it, to open it by.
    directory: OwnedFd,
    name: Vec<u8>,
    /// The path from the root's directory; `None` if it lies elsewhere.
    path: Option<Vec<u8>>,
}

impl Root {
    /// Opens the directory, and those that links may lead into.
    ///
    /// # Errors
    /// As open(2); `NotADirectory` for anything else.
    pub(crate) fn open(path: &Path, links_into: &[PathBuf]) -> io::Result<Self> {
        let paths = std::iter::once(path).chain(links_into.iter().map(PathBuf::as_path));
        let bases = paths.map(Base::open).collect::<io::Result<Vec<_>>>()?;
        let support = Support::probe(&bases[0].directory);
        Ok(Self { bases, support })
    }

    /// Opens the same paths again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn reopen(&self) -> io::Result<Self> {
        let bases = self.bases.iter().map(|base| Base::open(&base.path));
        let bases = bases.collect::<io::Result<_>>()?;
        let support = self.support;
        Ok(Self { bases, support })
    }

    /// Whether these are the same directories, none of them removed.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.bases.iter().zip(&other.bases);
        pairs.all(|(one, other)| {
            let links = |base: &Base| file::stat(&base.directory).map_or(0, |(_, meta)| meta.links);
            one.is_at(&other.meta) && links(one) > 0 && links(other) > 0
        })
    }

    /// Whether a sandbox lets these directories be read: landlock(7) refuses in open(2) what
    /// access(2) still grants.
    pub(crate) fn is_covered(&self) -> bool {
        self.bases.iter().all(|base| {
            let directory = base.directory.as_fd();
            faccessat(directory, ".", AccessFlags::R_OK, EFFECTIVE_USER).is_err()
                || openat(directory, ".", READ | OFlag::O_DIRECTORY, Mode::empty()).is_ok()
        })
    }

    /// The features of this system that look-ups use.
    pub(crate) fn support(&self) -> Support {
        self.support
    }

    /// The file system of the directory itself.
    pub(crate) fn device(&self) -> u64 {
        self.bases[0].meta.device
    }

    /// The path of a handle from the directory: `None` if it lies outside. From the kernel's name
    /// cache, without a wait.
    ///
    /// # Errors
    /// As readlink(2); `NotFound` for a removed file.
    pub(crate) fn real_path(&self, handle: &PathHandle) -> io::Result<Option<Vec<u8>>> {
        if let Some(place) = &handle.place {
            return Ok(place.path.clone());
        }
        let base = real_path_of(&self.bases[0].directory)?;
        let path = real_path_of(&handle.path)?;
        let base = base.strip_suffix(b"/").unwrap_or(&base);
        Ok(match path.strip_prefix(base) {
            Some([]) => Some(Vec::new()),
            Some([b'/', rest @ ..]) => Some(rest.to_vec()),
            _ => None,
        })
    }

    /// Looks a relative name up. Links that lead out fail with `EXDEV`, magic links with `ELOOP`.
    ///
    /// # Errors
    /// As openat2(2); `WouldBlock` if the answer is not cached and `blocking` forbids to wait.
    pub(crate) fn find(&self, path: &[u8], blocking: Blocking) -> io::Result<PathHandle> {
        if blocking == Blocking::Forbidden {
            return self.find_cached(path);
        }
        // Without /proc a file is opened by its last directory, which only the walk finds.
        if self.support.openat2 && self.support.proc {
            match self.open_path(path, ResolveFlag::empty()) {
                Ok(path) => return self.handle(path, None, AtFlags::empty()),
                // A rename or mount raced with a `..` in a link, or a link led out, perhaps to an
                // allowed place.
                Err(Errno::EAGAIN | Errno::EXDEV) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.walk(path)
    }

    fn find_cached(&self, path: &[u8]) -> io::Result<PathHandle> {
        if !self.support.finds_cached() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.open_path(path, RESOLVE_CACHED) {
            Ok(path) => self.handle(path, None, AtFlags::STATX_DONT_SYNC),
            // A link led out: where to takes a walk.
            Err(Errno::EXDEV) => Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn handle(
        &self,
        path: OwnedFd,
        place: Option<FoundAt>,
        sync: AtFlags,
    ) -> io::Result<PathHandle> {
        let (kind, meta, file_system) = match self.support.statx {
            true => examine(&path, sync)?,
            false => {
                let (kind, meta) = file::stat(&path)?;
                let file_system = FileSystemKey {
                    device: meta.device,
                    mount: None,
                    has_inode_flags: false,
                };
                (kind, meta, file_system)
            }
        };
        Ok(PathHandle {
            path,
            place,
            kind,
            meta,
            file_system,
        })
    }

    fn open_path(&self, path: &[u8], resolve: ResolveFlag) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let directory = &self.bases[0].directory;
        retry(|| openat2(directory, path, how(resolve)))
    }

    /// Looks a path up one component at a time, without a call that follows links: a link is read
    /// and its text walked, and `..` returns to the previous directory.
    fn walk(&self, path: &[u8]) -> io::Result<PathHandle> {
        let mut base = &self.bases[0];
        let mut passed: Vec<(Vec<u8>, OwnedFd, Kind)> = Vec::new();
        let mut ahead = Vec::new();
        push_components(path, &mut ahead);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == b".." {
                match passed.pop() {
                    Some((_, _, Kind::Directory)) => {}
                    Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                    None => {
                        ahead.push(name);
                        base = self.enter(base.directory.as_fd(), b"", &mut ahead)?;
                    }
                }
                continue;
            }
            let at = passed.last().map_or(&base.directory, |(_, fd, _)| fd);
            let flags = PATH | OFlag::O_NOFOLLOW;
            let found = retry(|| openat(at, name.as_slice(), flags, Mode::empty()))?;
            let stat = rustix::fs::fstat(&found)?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                let text = readlinkat(&found, c"")?.into_vec();
                push_components(&text, &mut ahead);
                if text.starts_with(b"/") {
                    base = self.enter(AT_FDCWD, b"/", &mut ahead)?;
                    passed.clear();
                }
                continue;
            }
            passed.push((name, found, file::kind_of(stat.st_mode)));
        }
        let names = passed.iter().map(|(name, _, _)| name.as_slice());
        let is_beneath = std::ptr::eq(base, &self.bases[0]);
        let way = is_beneath.then(|| names.collect::<Vec<_>>().join(&b'/'));
        let directory = match &passed[..] {
            [.., (_, directory, _), _] => directory,
            _ => &base.directory,
        };
        let directory = directory.try_clone()?;
        let (name, path) = match passed.pop() {
            Some((name, path, _)) => (name, path),
            None => (b".".to_vec(), base.directory.try_clone()?),
        };
        let place = (!self.support.proc).then_some(FoundAt {
            directory,
            name,
            path: way,
        });
        self.handle(path, place, AtFlags::empty())
    }

    /// Walks the components `ahead` from `start`, outside, up to the first directory that links may
    /// lead beneath; the rest of `ahead` is left.
    fn enter(
        &self,
        start: BorrowedFd<'_>,
        prefix: &[u8],
        ahead: &mut Vec<Vec<u8>>,
    ) -> io::Result<&Base> {
        let mut way = prefix.to_vec();
        loop {
            if !way.is_empty() {
                // The inode decides. The file is not opened by this name, which may be changed.
                let stat =
                    statat(start, way.as_slice(), AtFlags::empty()).map_err(|_| Errno::EXDEV)?;
                let meta = file::meta_of(&stat);
                if let Some(base) = self.bases.iter().find(|base| base.is_at(&meta)) {
                    return Ok(base);
                }
            }
            let component = ahead.pop().ok_or(Errno::EXDEV)?;
            way.extend_from_slice(&component);
            way.push(b'/');
        }
    }
}

impl Base {
    fn open(path: &Path) -> io::Result<Self> {
        let directory = openat(AT_FDCWD, path, PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        let (_, meta) = file::stat(&directory)?;
        let path = path.to_owned();
        Ok(Self {
            path,
            directory,
            meta,
        })
    }

    fn is_at(&self, meta: &Meta) -> bool {
        (self.meta.device, self.meta.inode) == (meta.device, meta.inode)
    }
}

impl Support {
    /// Whether a name is found without a wait if it is cached.
    pub(crate) fn finds_cached(self) -> bool {
        self.openat2 && self.cached && self.statx && self.proc
    }

    /// The features that are missing.
    pub(crate) fn missing(self) -> Vec<&'static str> {
        [
            (self.openat2, "openat2"),
            (self.cached || !self.openat2, "RESOLVE_CACHED"),
            (self.statx, "statx"),
            (self.proc, "/proc"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }

    fn probe(directory: &OwnedFd) -> Self {
        let beneath = |resolve| openat2(directory, c".", how(resolve));
        let is_linux_build = cfg!(not(feature = "portable"));
        let openat2 = is_linux_build && beneath(ResolveFlag::empty()).is_ok();
        // EAGAIN would be an answer: the flag is known.
        let cached = matches!(beneath(RESOLVE_CACHED), Ok(_) | Err(Errno::EAGAIN));
        let proc = openat(
            AT_FDCWD,
            magic(directory).as_str(),
            PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
        )
        .is_ok();
        Self {
            openat2,
            cached: openat2 && cached,
            statx: examine(directory, AtFlags::empty()).is_ok(),
            proc,
        }
    }
}

impl PathHandle {
    /// Opens the found file for reading. If another host or program holds a lease on it, that is
    /// `WouldBlock`, or waited for (fcntl(2), `F_SETLEASE`).
    ///
    /// # Errors
    /// As open(2): permission, or the file system's own trouble.
    pub(crate) fn open(&self, blocking: Blocking) -> io::Result<File> {
        let mut flags = READ;
        flags.set(OFlag::O_NONBLOCK, blocking == Blocking::Forbidden);
        let Some(FoundAt {
            directory, name, ..
        }) = &self.place
        else {
            // The look-up is over: this name is the kernel's for the very inode that was found.
            return open(AT_FDCWD, magic(&self.path).as_bytes(), flags);
        };
        let file = open(directory.as_fd(), name, flags | OFlag::O_NOFOLLOW)?;
        let (_, meta) = file::stat(&file)?;
        match (meta.device, meta.inode) == (self.meta.device, self.meta.inode) {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The file system's type (`f_type`, statfs(2)). May wait for a network file system.
    pub(crate) fn file_system_type(&self) -> io::Result<u32> {
        #[allow(clippy::unnecessary_cast)] // the type differs between architectures
        Ok(fstatfs(&self.path)?.filesystem_type().0 as u32)
    }
}

/// The metadata of statx(2).
fn examine(path: &OwnedFd, sync: AtFlags) -> io::Result<(Kind, Meta, FileSystemKey)> {
    let flags = AtFlags::EMPTY_PATH | sync;
    let stat = statx(path, c"", flags, StatxFlags::BASIC_STATS | MOUNT_ID)?;
    let meta = file::meta_of_statx(&stat);
    let unique = stat.stx_mask & MOUNT_ID.bits() != 0;
    let inode_flags = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let file_system = FileSystemKey {
        device: meta.device,
        mount: unique.then_some(stat.stx_mnt_id),
        has_inode_flags: stat.stx_attributes_mask.contains(inode_flags),
    };
    Ok((file::kind_of(u32::from(stat.stx_mode)), meta, file_system))
}

fn open(directory: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> io::Result<File> {
    let file = retry(|| openat(directory, name, flags, Mode::empty()))?;
    Ok(File::from(file))
}

fn magic(path: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", path.as_raw_fd())
}

fn real_path_of(path: &OwnedFd) -> io::Result<Vec<u8>> {
    let text = readlinkat(AT_FDCWD, magic(path).as_str())?.into_vec();
    // proc(5), which shows files in other mounts as `(unreachable)`.
    match text.starts_with(b"/") && !text.ends_with(b" (deleted)") {
        true => Ok(text),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Puts the components of a path on top, the first one uppermost.
fn push_components(path: &[u8], ahead: &mut Vec<Vec<u8>>) {
    let components = path.split(|byte| *byte == b'/');
    let components = components.filter(|component| !matches!(*component, b"" | b"."));
    ahead.extend(components.rev().map(<[u8]>::to_vec));
}

/// How openat2(2) looks a name up without leaving the root.
fn how(resolve: ResolveFlag) -> OpenHow {
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    OpenHow::new().flags(PATH).resolve(beneath | resolve)
}

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

const EFFECTIVE_USER: nix::fcntl::AtFlags = nix::fcntl::AtFlags::AT_EACCESS;

const READ: OFlag = OFlag::O_CLOEXEC
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_LARGEFILE);

/// Answers from the name cache or not at all (openat2(2), Linux 5.12); not named by `nix`.
const RESOLVE_CACHED: ResolveFlag = ResolveFlag::from_bits_retain(0x20);

/// `STATX_MNT_ID_UNIQUE` (linux/stat.h).
const MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// As the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_found_is_where_links_lead_with_proc_and_without() {
        let place = tempfile::tempdir().expect("a directory");
        let (root, outside) = (place.path().join("root"), place.path().join("outside"));
        for directory in [root.join("a/b"), outside.clone()] {
            std::fs::create_dir_all(directory).expect("directories");
        }
        std::fs::write(root.join("a/b/f"), "").expect("a file");
        std::fs::write(outside.join("g"), "").expect("a file");
        symlink("../a/b", root.join("a/link")).expect("a link");
        symlink(root.join("a"), root.join("absolute")).expect("a link");
        symlink(&outside, root.join("out")).expect("a link");
        let mut root = Root::open(&root, &[outside]).expect("a root");
        for proc in [true, false] {
            root.support.proc &= proc;
            for (path, real) in [
                ("", Some("")),
                ("a/b/f", Some("a/b/f")),
                ("a/link", Some("a/b")),
                ("a/link/f", Some("a/b/f")),
                ("absolute/link/f", Some("a/b/f")),
                ("out/g", None),
            ] {
                let handle = root.find(path.as_bytes(), Blocking::Allowed).expect(path);
                let found = root.real_path(&handle).expect(path);
                assert_eq!(found.as_deref(), real.map(str::as_bytes), "{path}, {proc}");
            }
        }
    }
}
