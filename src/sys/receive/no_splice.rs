//! The replacement of `splice(2)` on systems without it: a pipe that cannot be made.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::TcpStream;

/// No pipe; see [`Self::new`].
#[derive(Debug)]
pub(crate) struct SplicePipe(Infallible);

impl SplicePipe {
    /// # Errors
    /// Always `Unsupported`.
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// None: there is no pipe to take into.
    pub(crate) fn take(&self, _socket: &TcpStream, _limit_bytes: usize) -> io::Result<usize> {
        match self.0 {}
    }

    /// # Errors
    /// None: there is no pipe to give from.
    pub(crate) fn give(&self, _file: &File, _offset: u64, _count: usize) -> io::Result<()> {
        match self.0 {}
    }
}
