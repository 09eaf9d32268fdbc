//! The receiving side's system calls: socket → pipe → file, room for a file, and renaming that
//! never overwrites.

#[cfg_attr(
    not(all(target_os = "linux", not(feature = "portable"))),
    path = "receive/no_splice.rs"
)]
mod splice;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{ENXIO, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;

pub(crate) use splice::SplicePipe;

/// Whether a file that is missing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The call fails.
    Fail,
    /// The file is created, empty.
    Create,
}

/// Opens a regular file for reading and writing, never through a symbolic link: another user of a
/// shared directory may have placed one.
///
/// # Errors
/// As open(2); `InvalidInput` if it is no regular file.
pub(crate) fn open_regular(path: &Path, missing: Missing) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(missing == Missing::Create)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path)?;
    check_regular(&file)?;
    Ok(file)
}

/// Opens a regular file for reading, through links too, without waiting for the writer of a FIFO.
///
/// # Errors
/// As open(2); `InvalidInput` if it is no regular file.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    check_regular(&file)?;
    Ok(file)
}

/// Opens a device or FIFO for writing, without waiting here or at a write; `None` while a FIFO has
/// no reader. A regular file, as `/dev/fd/3` may be, is appended to.
///
/// # Errors
/// As open(2).
pub(crate) fn open_device(path: &Path) -> io::Result<Option<File>> {
    let kind = path.metadata()?.file_type();
    let mut options = File::options();
    options
        .write(true)
        .append(kind.is_file())
        .custom_flags(O_NONBLOCK);
    match options.open(path) {
        Err(error) if kind.is_fifo() && error.raw_os_error() == Some(ENXIO) => Ok(None),
        opened => opened.map(Some),
    }
}

fn check_regular(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

/// The next range of a file from `at` on that is no hole (lseek(2)). Without support by the file
/// system there are no holes.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<Range<u64>>> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;
        match seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                let end = seek(file, SeekFrom::Hole(start))?;
                return Ok(Some(start..end));
            }
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let end = file.metadata()?.len();
    Ok((at < end).then_some(at..end))
}

/// Reserves `length` bytes, so that a full disk is found at the start, and sets the file's length.
///
/// # Errors
/// As fallocate(2), with `StorageFull`. A file system without it gets a file with holes.
pub(crate) fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return file.set_len(0);
    }
    // fallocate(2) allocates the remaining blocks before it fails.
    if let Ok(system) = rustix::fs::fstatvfs(file)
        && system.f_blocks > 0
    {
        let blocks = match geteuid().is_root() {
            true => system.f_bfree,
            false => system.f_bavail,
        };
        if blocks.saturating_mul(system.f_frsize) < length {
            return Err(rustix::io::Errno::NOSPC.into());
        }
    }
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(length)
}

/// Renames `from` to `to`, which must not exist.
///
/// # Errors
/// As renameat2(2) or link(2), with `AlreadyExists`.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        rustix::fs::RenameFlags::NOREPLACE,
    ) {
        Ok(()) => return Ok(()),
        // Some network and user-space file systems do not support the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::hard_link(from, to) {
        Ok(()) => std::fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Without hard links (FAT) the check precedes the rename.
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(from, to),
    }
}

/// Makes a rename in `directory` last through a power failure.
///
/// # Errors
/// As fsync(2); file systems that cannot sync a directory are not an error.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
