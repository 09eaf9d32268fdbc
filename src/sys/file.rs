//! Files: opening beneath a directory, `fstat`, residency in the page cache.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::meta::{Meta, Timestamp};

#[allow(unreachable_pub)]
pub use self::beneath::Handle;
pub(crate) use self::beneath::Root;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A device, FIFO, socket or anything else that is not for serving.
    Special,
}

/// Whether a look-up may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Answer from the kernel's name cache, or say [`io::ErrorKind::WouldBlock`].
    CachedOnly,
    /// Wait for the disk.
    Wait,
}

/// What is known of an extent's presence in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Every page looked at is there and up to date.
    Resident,
    /// A page is missing or being read.
    Absent,
    /// This file system does not say.
    Unknown,
}

/// Tells file systems apart, also those that had the same device number one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSystemKey {
    /// `st_dev`.
    pub device: u64,
    /// The number of the mount, which is never given again (`STATX_MNT_ID_UNIQUE`, Linux 6.8).
    pub mount: Option<u64>,
    /// Whether the inode has flags (`STATX_ATTR_IMMUTABLE`). So it is on disks and in memory, and
    /// not with FUSE, NFS, SMB and 9P; an overlay passes on what is true of the layer.
    pub has_inode_flags: bool,
}

/// Whether a look-up failed because it would have left the root, or followed links in a circle
/// (`EXDEV`, `ELOOP`, openat2(2)).
#[must_use]
pub(crate) fn is_escape(error: &io::Error) -> bool {
    use nix::libc::{ELOOP, EXDEV};
    matches!(error.raw_os_error(), Some(ELOOP | EXDEV))
}

/// What `fstat` says of an open file.
///
/// # Errors
/// As fstat(2).
pub(crate) fn stat(file: &impl AsFd) -> io::Result<(Kind, Meta)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((kind_of(stat.st_mode as _), meta_of(&stat)))
}

/// The same as far as the kernel knows it without asking another host (`AT_STATX_DONT_SYNC`).
///
/// # Errors
/// As statx(2).
pub(crate) fn stat_cached(file: &impl AsFd) -> io::Result<Meta> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    return beneath::stat_cached(file.as_fd());
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    stat(file).map(|(_, meta)| meta)
}

/// Looks whether all bytes from `offset` on are in the page cache, without waiting and without
/// reading them in: one byte of each page is asked for with `preadv2(RWF_NOWAIT)`, which refuses
/// pages that are missing or still being read (readv(2)).
#[must_use]
pub fn residency(file: &File, offset: u64, len: u64) -> Residency {
    let rest = (offset / PAGE_BYTES + 1..).map(|page| page * PAGE_BYTES);
    probe_all(
        file,
        std::iter::once(offset)
            .chain(rest)
            .take_while(|at| *at < offset + len),
    )
}

/// The same at random places: enough to see that an extent which was all there has left. Fixed
/// places would be read in by a client first.
#[must_use]
pub(crate) fn sampled_residency(file: &File, offset: u64, len: u64) -> Residency {
    if len == 0 {
        return Residency::Resident;
    }
    let places = (0..SAMPLES).map(|_| fastrand::u64(offset..offset + len));
    probe_all(file, places)
}

fn probe_all(file: &File, mut places: impl Iterator<Item = u64>) -> Residency {
    let found = places.find_map(|at| match probe(file, at) {
        Residency::Resident => None,
        other => Some(other),
    });
    found.unwrap_or(Residency::Resident)
}

/// Without Linux's `RWF_NOWAIT` it cannot be known.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
fn probe(_: &File, _: u64) -> Residency {
    Residency::Unknown
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn probe(file: &File, offset: u64) -> Residency {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        // Zero is the end of the file, or a quirk of Linux 5.9 and 5.10: the send will tell.
        Ok(_) => Residency::Resident,
        Err(Errno::AGAIN) => Residency::Absent,
        Err(_) => Residency::Unknown,
    }
}

/// Reads what is in the page cache, without waiting (`preadv2(RWF_NOWAIT)`, readv(2)). `None` if
/// some of it is not there.
///
/// # Errors
/// As readv(2); `Unsupported` if the file system does not say.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn read_resident(
    file: &File,
    bytes: &mut [u8],
    offset: u64,
) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let wanted = bytes.len();
    let mut buffers = [io::IoSliceMut::new(bytes)];
    match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        // Short may be the end of the file or the end of what is resident: look again, slowly.
        Ok(count) if count < wanted => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Without Linux's `RWF_NOWAIT` it cannot be known.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) fn read_resident(_: &File, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes pages that were sent out of the page cache (`POSIX_FADV_DONTNEED`, posix_fadvise(2)).
pub fn drop_behind(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// Asks the kernel to read an extent in, without waiting for it (`POSIX_FADV_WILLNEED`).
pub(crate) fn will_need(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

fn kind_of(mode: rustix::fs::RawMode) -> Kind {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::RegularFile => Kind::Regular,
        _ => Kind::Special,
    }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // types differ between systems
fn meta_of(stat: &rustix::fs::Stat) -> Meta {
    Meta {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp {
            seconds: stat.st_mtime as i64,
            nanoseconds: stat.st_mtime_nsec as u32,
        },
        changed: Timestamp {
            seconds: stat.st_ctime as i64,
            nanoseconds: stat.st_ctime_nsec as u32,
        },
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod beneath {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
    use std::path::Path;

    use rustix::fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat,
        openat2, statx,
    };

    use super::{FileSystemKey, Kind, Meta, Patience, Timestamp};

    /// A directory that names are looked up beneath, never above.
    #[derive(Debug)]
    pub(crate) struct Root {
        directory: OwnedFd,
    }

    /// Something that was looked up but not opened, so that no device, FIFO or socket ever is.
    #[derive(Debug)]
    pub struct Handle {
        path: OwnedFd,
        /// What it is.
        pub kind: Kind,
        /// What the kernel knew of it; a network file system may not have been asked again.
        pub meta: Meta,
        /// The file system it is on.
        pub file_system: FileSystemKey,
    }

    impl Root {
        /// Opens the directory.
        ///
        /// # Errors
        /// As open(2); `NotADirectory` for anything else.
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self {
                directory: openat(CWD, path, flags, Mode::empty())?,
            })
        }

        /// Looks a relative name up, confined by the kernel: links that lead out of the root and
        /// magic links fail with `EXDEV` or `ELOOP` (openat2(2)).
        ///
        /// # Errors
        /// As openat2(2); `WouldBlock` if the answer is not cached and `patience` wants it so.
        pub(crate) fn find(&self, path: &[u8], patience: Patience) -> io::Result<Handle> {
            let path = if path.is_empty() { b"." } else { path };
            let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            if patience == Patience::CachedOnly {
                resolve |= ResolveFlags::CACHED;
            }
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let mut tries = 0;
            let path = loop {
                match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                    Ok(handle) => break handle,
                    Err(rustix::io::Errno::INTR) => {}
                    // EAGAIN without RESOLVE_CACHED: a rename or mount raced with a `..` in a
                    // link (openat2(2)). It passes; under a storm of renames it may take a few.
                    Err(rustix::io::Errno::AGAIN)
                        if patience == Patience::Wait && tries < MAX_RACES =>
                    {
                        tries += 1;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            };
            let mut flags = AtFlags::EMPTY_PATH;
            if patience == Patience::CachedOnly {
                flags |= AtFlags::STATX_DONT_SYNC;
            }
            let stat = statx(&path, c"", flags, StatxFlags::BASIC_STATS | MOUNT_ID)?;
            let meta = meta_of(&stat);
            let unique = stat.stx_mask & MOUNT_ID.bits() != 0;
            let flags = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
            let file_system = FileSystemKey {
                device: meta.device,
                mount: unique.then_some(stat.stx_mnt_id),
                has_inode_flags: stat.stx_attributes_mask.contains(flags),
            };
            let kind = super::kind_of(u32::from(stat.stx_mode));
            Ok(Handle {
                path,
                kind,
                meta,
                file_system,
            })
        }
    }

    impl Handle {
        /// Opens what was found, for reading.
        ///
        /// # Errors
        /// As open(2): permission, or the file system's own trouble.
        pub(crate) fn open(&self) -> io::Result<File> {
            // The look-up is over: this name is the kernel's for the very inode that was found.
            let magic = format!("/proc/self/fd/{}", self.path.as_raw_fd());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            Ok(File::from(openat(CWD, magic, flags, Mode::empty())?))
        }

        /// The file system's type (`f_type`, statfs(2)). May wait for a network file system.
        ///
        /// # Errors
        /// As fstatfs(2).
        pub(crate) fn file_system_type(&self) -> io::Result<u32> {
            #[allow(clippy::unnecessary_cast)] // the type differs between architectures
            Ok(rustix::fs::fstatfs(self.path.as_fd())?.f_type as u32)
        }
    }

    pub(super) fn stat_cached(file: BorrowedFd<'_>) -> io::Result<Meta> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = statx(file, c"", flags, StatxFlags::BASIC_STATS)?;
        Ok(meta_of(&stat))
    }

    fn meta_of(stat: &Statx) -> Meta {
        Meta {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            links: u64::from(stat.stx_nlink),
            len: stat.stx_size,
            modified: timestamp(stat.stx_mtime),
            changed: timestamp(stat.stx_ctime),
        }
    }

    fn timestamp(stamp: rustix::fs::StatxTimestamp) -> Timestamp {
        Timestamp {
            seconds: stamp.tv_sec,
            nanoseconds: stamp.tv_nsec,
        }
    }

    const MAX_RACES: u32 = 64;

    /// `STATX_MNT_ID_UNIQUE` (linux/stat.h).
    const MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod beneath {
    use std::fs::File;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use cap_std::ambient_authority;
    use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

    use super::{FileSystemKey, Kind, Meta, Patience};

    /// A directory that names are looked up beneath, never above (by `cap-std`).
    #[derive(Debug)]
    pub(crate) struct Root {
        directory: Dir,
    }

    /// Something that was looked up.
    #[derive(Debug)]
    pub struct Handle {
        file: File,
        /// What it is.
        pub kind: Kind,
        /// What `fstat` said of it.
        pub meta: Meta,
        /// The file system it is on.
        pub file_system: FileSystemKey,
    }

    impl Root {
        /// Opens the directory.
        ///
        /// # Errors
        /// As open(2); `NotADirectory` for anything else.
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self {
                directory: Dir::open_ambient_dir(path, ambient_authority())?,
            })
        }

        /// Looks a relative name up; links that lead out of the root fail. Only a `patience`
        /// that waits can be served: without Linux nobody knows what is cached.
        ///
        /// # Errors
        /// As open(2); `WouldBlock` if the caller cannot wait.
        pub(crate) fn find(&self, path: &[u8], patience: Patience) -> io::Result<Handle> {
            if patience == Patience::CachedOnly {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let path = if path.is_empty() { b"." } else { path };
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
            // A FIFO must not hang the opener, nor a terminal become ours.
            let mut options = OpenOptions::new();
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.read(true).custom_flags(flags.bits() as i32);
            let kind = self.directory.metadata(&path)?.file_type();
            if !kind.is_file() && !kind.is_dir() {
                let file = self.directory.open_with(".", &options)?.into_std();
                return Ok(Handle {
                    file,
                    kind: Kind::Special,
                    meta: Meta::default(),
                    file_system: key(0),
                });
            }
            let file = self.directory.open_with(&path, &options)?.into_std();
            let (kind, meta) = super::stat(&file)?;
            Ok(Handle {
                file,
                kind,
                meta,
                file_system: key(meta.device),
            })
        }
    }

    fn key(device: u64) -> FileSystemKey {
        FileSystemKey {
            device,
            mount: None,
            has_inode_flags: true,
        }
    }

    impl Handle {
        /// Opens what was found, for reading.
        ///
        /// # Errors
        /// As dup(2).
        pub(crate) fn open(&self) -> io::Result<File> {
            self.file.try_clone()
        }

        /// The file system's type is not asked for here.
        ///
        /// # Errors
        /// None.
        pub(crate) fn file_system_type(&self) -> io::Result<u32> {
            Ok(0)
        }
    }
}

/// The smallest page that Linux has.
const PAGE_BYTES: u64 = 4096;

/// Five random pages of an extent of which half has left find that out 31 times of 32.
const SAMPLES: usize = 5;
