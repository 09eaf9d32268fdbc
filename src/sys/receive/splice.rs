//! Socket → pipe → file, inside the kernel (`splice(2)`).

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe of a thread's own, through which bytes go from a socket to a file without passing
/// through this process.
#[derive(Debug)]
pub(crate) struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity_bytes: usize,
}

impl SplicePipe {
    /// A pipe of 1 MiB, or what the system allows.
    ///
    /// # Errors
    /// Whatever `pipe2(2)` says.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Nothing is moved: it tells whether a filter refuses the call (seccomp(2)).
        splice(&reader, None, &writer, None, 0, SpliceFlags::empty())?;
        // Beyond the user's soft limit of pipe pages the pipe stays small, and works.
        let capacity_bytes =
            fcntl_setpipe_size(&writer, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&writer))?;
        Ok(Self {
            reader,
            writer,
            capacity_bytes,
        })
    }

    /// Takes up to `limit_bytes` from `socket`; 0 is the end of the stream. All of it has to be
    /// given before more is taken.
    ///
    /// # Errors
    /// Whatever `splice(2)` says of the socket, a time-out among it; the pipe is still empty.
    pub(crate) fn take(&self, socket: &TcpStream, limit_bytes: usize) -> io::Result<usize> {
        let limit_bytes = limit_bytes.min(self.capacity_bytes);
        loop {
            match splice(
                socket,
                None,
                &self.writer,
                None,
                limit_bytes,
                SpliceFlags::MOVE,
            ) {
                Err(Errno::INTR) => {}
                taken => return Ok(taken?),
            }
        }
    }

    /// Gives the `count` bytes that were taken to `file` at `offset`.
    ///
    /// # Errors
    /// Whatever `splice(2)` says of the file. What is left in the pipe is lost.
    pub(crate) fn give(&self, file: &File, offset: u64, count: usize) -> io::Result<()> {
        let (mut left, mut at) = (count, offset);
        while left > 0 {
            // The kernel moves `at` on by what it has written.
            match splice(
                &self.reader,
                None,
                file,
                Some(&mut at),
                left,
                SpliceFlags::MOVE,
            ) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => left -= moved,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The most an unprivileged process gets by default (`fs.pipe-max-size`).
const PIPE_BYTES: usize = 1024 * 1024;
