//! The place of `splice(2)` where there is none: a pipe that cannot be had.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::TcpStream;

/// No pipe; see [`Self::new`].
#[derive(Debug)]
pub struct SplicePipe(Infallible);

/// Which end of [`SplicePipe::receive`] failed.
#[derive(Debug)]
pub enum SpliceError {
    /// Reading from the socket.
    Socket(io::Error),
    /// Writing to the file.
    File(io::Error),
}

impl SplicePipe {
    /// # Errors
    /// Always `Unsupported`.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// None: there is no pipe to receive through.
    pub fn receive(
        &self,
        _socket: &TcpStream,
        _file: &File,
        _offset: u64,
        _limit_bytes: usize,
    ) -> Result<usize, SpliceError> {
        match self.0 {}
    }
}
