//! A TCP connection to a server, with what has been read beyond the last response.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::dial::{DialError, Dialer};
use crate::get::client::cancellation::{Cancellation, TICK};
use crate::get::error::{ErrorKind, GetError, Retry};

/// One connection. Reads wait at most a tick at a time, so that a stop is seen.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// Bytes that came and have not been used.
    pub(crate) input: Input,
}

/// Bytes in the order in which they came; those that were used are not moved away one by one.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn unused(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first `count` bytes are used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves as many bytes into `buffer` as there are and fit.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.unused().len());
        buffer[..count].copy_from_slice(&self.unused()[..count]);
        self.consume(count);
        count
    }

    /// Room for `count` more bytes, behind those that are here.
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < count {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.bytes.resize(self.bytes.len().max(self.end + count), 0);
        }
        &mut self.bytes[self.end..self.end + count]
    }
}

impl Connection {
    /// Connects to `host`, whichever of its addresses stands first.
    pub(crate) fn connect(
        dialer: &Dialer,
        host: &str,
        port: u16,
        connect_timeout: Duration,
        cancellation: &Cancellation,
    ) -> Result<Self, GetError> {
        let stops = || cancellation.check().is_err();
        let stream = match dialer.connect(host, port, connect_timeout, stops) {
            Ok(stream) => stream,
            Err(DialError::Stopped) => {
                return Err(cancellation
                    .check()
                    .err()
                    .unwrap_or_else(GetError::interrupted));
            }
            Err(DialError::Unresolvable(error)) => {
                return Err(unreached(format!("cannot find {host}: {error}")));
            }
            Err(error) => {
                return Err(unreached(format!(
                    "cannot connect to {host}:{port}: {error}"
                )));
            }
        };
        let set_up = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(TICK)))
            .and_then(|()| stream.set_write_timeout(Some(cancellation.stall_timeout())));
        set_up.map_err(|error| broken(&error))?;
        Ok(Self {
            stream,
            input: Input::default(),
        })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        self.stream.write_all(bytes).map_err(|error| broken(&error))
    }

    /// Reads some bytes into `buffer`; 0 is the end of the stream. Unused input is not looked at.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let stream = &mut self.stream;
        wait_for(cancellation, || stream.read(buffer))
    }

    /// Reads up to `most` bytes behind the unused input; 0 is the end of the stream.
    pub(crate) fn fill(
        &mut self,
        most: usize,
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let (stream, room) = (&mut self.stream, self.input.room(most));
        let count = wait_for(cancellation, || stream.read(room))?;
        self.input.end += count;
        Ok(count)
    }

    /// Nothing has come that nobody asked for, and the peer has not closed: the connection can
    /// carry another request.
    pub(crate) fn is_quiet(&self) -> bool {
        self.input.is_empty() && matches!(self.pending(), Pending::Nothing)
    }

    /// What the kernel holds for this connection, without waiting and without taking it.
    pub(crate) fn pending(&self) -> Pending {
        if !self.input.is_empty() {
            return Pending::Bytes;
        }
        if self.stream.set_nonblocking(true).is_err() {
            return Pending::End;
        }
        let peeked = self.stream.peek(&mut [0]);
        if self.stream.set_nonblocking(false).is_err() {
            return Pending::End;
        }
        match peeked {
            Ok(0) => Pending::End,
            Ok(_) => Pending::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
            Err(_) => Pending::End,
        }
    }
}

fn unreached(text: String) -> GetError {
    GetError::passing(ErrorKind::Network, text).with_retry(Retry::Unreached)
}

/// See [`Connection::pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Bytes,
    /// The peer has closed, or the connection is broken.
    End,
}

/// Runs a read that waits a tick at most until it gives something, under `watch`.
pub(crate) fn wait_for(
    cancellation: &Cancellation,
    mut read: impl FnMut() -> io::Result<usize>,
) -> Result<usize, GetError> {
    let stall_timer = cancellation.stall_timer();
    loop {
        // A peer that never pauses must not keep anybody from stopping.
        cancellation.check()?;
        match read() {
            Ok(count) => return Ok(count),
            Err(error) if is_tick(&error) => stall_timer.check()?,
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn is_tick(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn broken(error: &io::Error) -> GetError {
    GetError::passing(ErrorKind::Network, format!("the connection broke: {error}"))
}

/// What is read at once while a head is waited for.
pub(crate) const HEAD_FILL_BYTES: usize = 16 * 1024;
