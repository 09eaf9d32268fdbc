//! The receiving side's system calls: socket → pipe → file, room for a file, and renaming that
//! never overwrites.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// A pipe of a thread's own, through which bytes go from a socket to a file without passing
/// through this process (`splice(2)`).
#[derive(Debug)]
pub struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity_bytes: usize,
}

impl SplicePipe {
    /// A pipe of [`SPLICE_PIPE_BYTES`], or what the system allows.
    ///
    /// # Errors
    /// Whatever `pipe2(2)` says, and `Unsupported` where there is no `splice`.
    #[cfg(all(target_os = "linux", not(haul_portable)))]
    pub fn new() -> io::Result<Self> {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Beyond the user's soft limit of pipe pages the pipe stays small, and works.
        let capacity_bytes = fcntl_setpipe_size(&writer, SPLICE_PIPE_BYTES)
            .or_else(|_| fcntl_getpipe_size(&writer))?;
        Ok(Self {
            reader,
            writer,
            capacity_bytes,
        })
    }

    /// A pipe of [`SPLICE_PIPE_BYTES`], or what the system allows.
    ///
    /// # Errors
    /// `Unsupported`: there is no `splice` here.
    #[cfg(not(all(target_os = "linux", not(haul_portable))))]
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Moves up to `limit_bytes` from `socket` into `file` at `offset`; 0 is the end of the stream.
    ///
    /// What has been taken from the socket is in the file when this returns without an error.
    ///
    /// # Errors
    /// [`SpliceError`] tells the socket's errors (a time-out among them) from the file's.
    #[cfg(all(target_os = "linux", not(haul_portable)))]
    pub fn receive(
        &self,
        socket: &std::net::TcpStream,
        file: &File,
        offset: u64,
        limit_bytes: usize,
    ) -> Result<usize, SpliceError> {
        use rustix::pipe::{SpliceFlags, splice};
        let limit_bytes = limit_bytes.min(self.capacity_bytes);
        let flags = SpliceFlags::MOVE;
        let taken = retry(|| splice(socket, None, &self.writer, None, limit_bytes, flags))
            .map_err(SpliceError::Socket)?;
        let (mut left, mut at) = (taken, offset);
        while left > 0 {
            // The kernel moves `at` on by what it has written.
            match splice(&self.reader, None, file, Some(&mut at), left, flags) {
                Ok(0) => return Err(SpliceError::File(io::ErrorKind::WriteZero.into())),
                Ok(moved) => left -= moved,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(SpliceError::File(error.into())),
            }
        }
        Ok(taken)
    }

    /// Moves up to `limit_bytes` from `socket` into `file` at `offset`.
    ///
    /// # Errors
    /// Always: there is no `splice` here, and [`Self::new`] gives no pipe.
    #[cfg(not(all(target_os = "linux", not(haul_portable))))]
    pub fn receive(
        &self,
        _socket: &std::net::TcpStream,
        _file: &File,
        _offset: u64,
        _limit_bytes: usize,
    ) -> Result<usize, SpliceError> {
        Err(SpliceError::File(io::ErrorKind::Unsupported.into()))
    }
}

/// Which end of [`SplicePipe::receive`] failed.
#[derive(Debug)]
pub enum SpliceError {
    /// Reading from the socket; the file is untouched.
    Socket(io::Error),
    /// Writing to the file; the bytes in the pipe are lost, and the connection with them.
    File(io::Error),
}

/// Whether a file that is missing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Fail,
    /// It is created, empty.
    Create,
}

/// Opens a regular file for reading and writing, never through a symbolic link: another user of
/// a shared directory may have put one there.
///
/// # Errors
/// Whatever `openat(2)` says; `InvalidInput` for what is not a regular file.
pub fn open_regular(path: &Path, missing: Missing) -> io::Result<File> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    if missing == Missing::Create {
        flags |= OFlags::CREATE;
    }
    let fd = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::from_raw_mode(0o666))?;
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file)
}

/// Reserves room for `length` bytes, so that a disk that is too small says so at the start, and
/// sets the file's length.
///
/// # Errors
/// `StorageFull` and whatever else `fallocate(2)` says. A file system without it gets a file with
/// holes.
pub fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return file.set_len(0);
    }
    #[cfg(all(target_os = "linux", not(haul_portable)))]
    match retry(|| rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length)) {
        Ok(()) => return file.set_len(length),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error),
    }
    file.set_len(length)
}

/// Renames `from` to `to`, which must not exist.
///
/// # Errors
/// `AlreadyExists`, and whatever else `renameat2(2)` or `link(2)` says.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(all(target_os = "linux", not(haul_portable)))]
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
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// The pipe's size in bytes that is asked for: the most an unprivileged process gets by default.
pub const SPLICE_PIPE_BYTES: usize = 1024 * 1024;
