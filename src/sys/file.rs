//! Files: what fstat(2) and statx(2) say of them, rights to them, the clock that stamps them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};
use rustix::fs::{Access, AtFlags, CWD, Statx, StatxFlags, StatxTimestamp, accessat};

use crate::meta::{Meta, Timestamp};

/// The kind of a file.
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
pub enum Blocking {
    /// Answer from the kernel's name cache, or fail with [`io::ErrorKind::WouldBlock`].
    Forbidden,
    /// Wait for the disk.
    Allowed,
}

/// A file system's number as /proc/self/mountinfo has it, `MAJOR:MINOR`.
#[must_use]
pub(crate) fn device_number(device: u64) -> String {
    use nix::sys::stat::{major, minor};
    format!("{}:{}", major(device), minor(device))
}

/// Tells file systems apart, also those that had the same device number one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSystemKey {
    /// `st_dev`.
    pub device: u64,
    /// The number of the mount, which is never given again (`STATX_MNT_ID_UNIQUE`, Linux 6.8).
    pub mount: Option<u64>,
    /// Whether the file system has inode flags (`STATX_ATTR_IMMUTABLE`): those on disks and in
    /// memory have, FUSE, NFS, SMB and 9P have not; an overlay reports the layer's.
    pub has_inode_flags: bool,
}

/// Whether a look-up failed because it would have left the root, or followed links in a circle
/// (`EXDEV`, `ELOOP`, openat2(2)).
#[must_use]
pub(crate) fn is_escape(error: &io::Error) -> bool {
    use nix::libc::{ELOOP, EXDEV};
    matches!(error.raw_os_error(), Some(ELOOP | EXDEV))
}

/// The metadata of an open file, by `fstat`.
pub(crate) fn stat(file: &impl AsFd) -> io::Result<(Kind, Meta)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((kind_of(stat.st_mode as _), meta_of(&stat)))
}

/// The metadata that the kernel has cached, without a request to another host
/// (`AT_STATX_DONT_SYNC`).
pub(crate) fn stat_cached(file: &impl AsFd) -> io::Result<Meta> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(file, c"", flags, StatxFlags::BASIC_STATS)?;
    Ok(meta_of_statx(&stat))
}

/// Opens or creates a private file (mode 0600) for reading and writing. No link is followed.
///
/// # Errors
/// As open(2); `PermissionDenied` if it is another user's, or no regular file.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A FIFO in its place is not waited for.
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_file() && is_own && found.mode() & 0o022 == 0 {
        return Ok(file);
    }
    let why = "it is another user's, or others may write it, or it is no regular file";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// The whole content of a file of at most `most` bytes; a device or FIFO may have no end.
///
/// # Errors
/// As open(2) and read(2); `FileTooLarge`.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_to_end_bounded(&File::open(path)?, most)
}

fn read_to_end_bounded(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(most.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let most = bytesize::ByteSize(most).display().iec();
        let why = format!("it has more than {most}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

/// The same of a file of text.
///
/// # Errors
/// As [`read_bounded`]; `InvalidData` if it is not in UTF-8.
pub fn read_text_bounded(path: &Path, most: u64) -> io::Result<String> {
    as_text(read_bounded(path, most)?)
}

fn as_text(content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not in UTF-8"))
}

/// The clock that stamps files (`CLOCK_REALTIME_COARSE`, clock_gettime(2)).
#[must_use]
pub(crate) fn clock() -> Timestamp {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).expect("Linux has it since 2.6.32");
    Timestamp {
        seconds: now.tv_sec(),
        nanoseconds: now.tv_nsec() as u32,
    }
}

/// The time from one tick of that clock to the next.
#[must_use]
pub(crate) fn clock_tick() -> Duration {
    let tick = clock_getres(ClockId::CLOCK_REALTIME_COARSE);
    tick.expect("Linux has it since 2.6.32").into()
}

/// Opens a descriptor's file again, for reading: with a separate offset and read-ahead state
/// (proc_pid_fd(5)).
///
/// # Errors
/// As open(2); where /proc is not mounted, `NotFound`.
pub(crate) fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Disables the kernel's read-ahead for this descriptor (`POSIX_FADV_RANDOM`).
pub(crate) fn will_read_at_random(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

pub(super) fn kind_of(mode: rustix::fs::RawMode) -> Kind {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::RegularFile => Kind::Regular,
        _ => Kind::Special,
    }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // types differ between systems
pub(super) fn meta_of(stat: &rustix::fs::Stat) -> Meta {
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

pub(super) fn meta_of_statx(stat: &Statx) -> Meta {
    let timestamp = |stamp: StatxTimestamp| Timestamp {
        seconds: stamp.tv_sec,
        nanoseconds: stamp.tv_nsec,
    };
    Meta {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        links: u64::from(stat.stx_nlink),
        len: stat.stx_size,
        modified: timestamp(stat.stx_mtime),
        changed: timestamp(stat.stx_ctime),
    }
}

/// Makes a directory for this user alone, unless it is there.
///
/// # Errors
/// As mkdir(2).
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// As [`read_text_bounded`], of a file that nobody but this user, or root, can have written.
///
/// # Errors
/// As [`read_text_bounded`]; `PermissionDenied` if others may write it, or it is no regular file.
pub(crate) fn read_trusted(path: &Path, most: u64) -> io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options()
        .read(true)
        // A FIFO in its place is not waited for.
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || !is_trusted(&found) {
        let why = "it is another user's, or others may write it, or it is no regular file";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    as_text(read_to_end_bounded(&file, most)?)
}

/// Whether only this user, or root, can replace what lies in a directory.
///
/// # Errors
/// As stat(2); `PermissionDenied` if others can.
pub(crate) fn check_directory(directory: &Path) -> io::Result<()> {
    if is_trusted(&directory.metadata()?) {
        return Ok(());
    }
    let why = format!(
        "{} is another user's, or others may write to it",
        directory.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

fn is_trusted(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::geteuid().as_raw();
    (found.uid() == own || found.uid() == ROOT) && found.mode() & 0o022 == 0
}

const ROOT: u32 = 0;

/// Whether a file can be written to, by the effective user.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// Whether files can be made in a directory, by the effective user.
///
/// # Errors
/// As faccessat(2); `NotADirectory`.
pub(crate) fn may_enter(directory: &Path) -> io::Result<()> {
    match directory.is_dir() {
        true => {
            let wanted = Access::WRITE_OK | Access::EXEC_OK;
            Ok(accessat(CWD, directory, wanted, AtFlags::EACCESS)?)
        }
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}
