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
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
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

/// Opens a regular file for reading and writing, never through a symbolic link: another user of
/// a shared directory may have put one there.
///
/// # Errors
/// Whatever `open(2)` says; `InvalidInput` for what is not a regular file.
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

/// Opens a regular file for reading alone, whatever links lead to it, without a wait for whoever
/// would write into a FIFO.
///
/// # Errors
/// Whatever `open(2)` says; `InvalidInput` for what is not a regular file.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    check_regular(&file)?;
    Ok(file)
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

/// The next bytes of a file from `at` on that are no hole (lseek(2)); a file system that does not
/// tell has no holes.
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

/// Reserves room for `length` bytes, so that a disk that is too small says so at the start, and
/// sets the file's length.
///
/// # Errors
/// `StorageFull` and whatever else `fallocate(2)` says. A file system without it gets a file with
/// holes.
pub(crate) fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return file.set_len(0);
    }
    // fallocate(2) takes what there is before it says that there is not enough.
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
/// `AlreadyExists`, and whatever else `renameat2(2)` or `link(2)` says.
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
        // Some network and user-space file systems do not know the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::hard_link(from, to) {
        Ok(()) => std::fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // No hard links either (FAT): what is left is looking first.
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(from, to),
    }
}

/// Makes a rename in `directory` last through a power failure.
///
/// # Errors
/// Whatever `fsync(2)` says; file systems that cannot sync a directory are not an error.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
