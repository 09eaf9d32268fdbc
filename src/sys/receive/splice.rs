//! Socket → pipe → file, inside the kernel (`splice(2)`).

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use crate::sys::retry::retry;

/// A pipe of one thread, through which bytes go from a socket to a file without a copy to user
/// space.
#[derive(Debug)]
pub(crate) struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity_bytes: usize,
}

impl SplicePipe {
    /// A pipe of 1 MiB, or what the system allows.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        // A splice of zero bytes shows whether a filter refuses the call (seccomp(2)).
        splice(&reader, None, &writer, None, 0, SpliceFFlags::empty())?;
        // Beyond the user's soft limit of pipe pages the pipe stays small, and works.
        let capacity = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))
            .or_else(|_| fcntl(&writer, FcntlArg::F_GETPIPE_SZ))?;
        Ok(Self {
            reader,
            writer,
            capacity_bytes: usize::try_from(capacity).unwrap_or(0),
        })
    }

    /// Moves up to `limit_bytes` from `socket` into the pipe; 0 is the end of the stream. All of it
    /// has to be moved on before the next call.
    ///
    /// # Errors
    /// As splice(2) for the socket, with time-outs; the pipe is still empty.
    pub(crate) fn take(&self, socket: &TcpStream, limit_bytes: usize) -> io::Result<usize> {
        let limit_bytes = limit_bytes.min(self.capacity_bytes);
        let flags = SpliceFFlags::SPLICE_F_MOVE;
        Ok(retry(|| {
            splice(socket, None, &self.writer, None, limit_bytes, flags)
        })?)
    }

    /// Gives the `count` bytes that were taken to `file` at `offset`.
    ///
    /// # Errors
    /// As splice(2) for the file. Bytes left in the pipe are lost.
    pub(crate) fn give(&self, file: &File, offset: u64, count: usize) -> io::Result<()> {
        let mut left = count;
        let mut at = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        let flags = SpliceFFlags::SPLICE_F_MOVE;
        while left > 0 {
            // The kernel advances `at` by the written bytes.
            match retry(|| splice(&self.reader, None, file, Some(&mut at), left, flags))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                moved => left -= moved,
            }
        }
        Ok(())
    }
}

/// The most an unprivileged process gets by default (`fs.pipe-max-size`).
const PIPE_BYTES: i32 = 1024 * 1024;
