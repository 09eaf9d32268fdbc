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
pub struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity_bytes: usize,
}

/// Which end of [`SplicePipe::receive`] failed.
#[derive(Debug)]
pub enum SpliceError {
    /// Reading from the socket; the file is untouched.
    Socket(io::Error),
    /// Writing to the file; the bytes in the pipe are lost, and the connection with them.
    File(io::Error),
}

impl SplicePipe {
    /// A pipe of 1 MiB, or what the system allows.
    ///
    /// # Errors
    /// Whatever `pipe2(2)` says.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Beyond the user's soft limit of pipe pages the pipe stays small, and works.
        let capacity_bytes =
            fcntl_setpipe_size(&writer, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&writer))?;
        Ok(Self {
            reader,
            writer,
            capacity_bytes,
        })
    }

    /// Moves up to `limit_bytes` from `socket` into `file` at `offset`; 0 is the end of the stream.
    ///
    /// What has been taken from the socket is in the file when this returns without an error.
    ///
    /// # Errors
    /// [`SpliceError`] tells the socket's errors (a time-out among them) from the file's.
    pub fn receive(
        &self,
        socket: &TcpStream,
        file: &File,
        offset: u64,
        limit_bytes: usize,
    ) -> Result<usize, SpliceError> {
        let limit_bytes = limit_bytes.min(self.capacity_bytes);
        let taken = loop {
            match splice(
                socket,
                None,
                &self.writer,
                None,
                limit_bytes,
                SpliceFlags::MOVE,
            ) {
                Ok(taken) => break taken,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SpliceError::Socket(error.into())),
            }
        };
        let (mut left, mut at) = (taken, offset);
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
                Ok(0) => return Err(SpliceError::File(io::ErrorKind::WriteZero.into())),
                Ok(moved) => left -= moved,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SpliceError::File(error.into())),
            }
        }
        Ok(taken)
    }
}

/// The most an unprivileged process gets by default (`fs.pipe-max-size`).
const PIPE_BYTES: usize = 1024 * 1024;
