//! A TCP connection to a server, with what has been read beyond the last answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::get::error::{Again, Blame, GetError};
use crate::get::watch::{TICK, Watch};

/// One connection. Reads wait at most a tick at a time, so that a stop is seen.
#[derive(Debug)]
pub(crate) struct Wire {
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

impl Wire {
    /// Connects to the first of the host's addresses that answers.
    pub(crate) fn connect(
        host: &str,
        port: u16,
        connect_timeout: Duration,
        watch: &Watch,
    ) -> Result<Self, GetError> {
        let (dialled, result) = crossbeam_channel::bounded(1);
        let (host, write_timeout) = (host.to_owned(), watch.stall_timeout());
        // Neither the resolver nor a connect looks up while it waits; a thread that nobody waits
        // for any more ends by itself.
        thread::spawn(move || dialled.send(dial(&host, port, connect_timeout, write_timeout)));
        loop {
            watch.check()?;
            match result.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(GetError::interrupted()),
                Ok(stream) => {
                    return stream.map(|stream| Self {
                        stream,
                        input: Input::default(),
                    });
                }
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        self.stream.write_all(bytes).map_err(|error| broken(&error))
    }

    /// Reads some bytes into `buffer`; 0 is the end of the stream. Unused input is not looked at.
    pub(crate) fn read(&mut self, buffer: &mut [u8], watch: &Watch) -> Result<usize, GetError> {
        let stream = &mut self.stream;
        wait_for(watch, || stream.read(buffer))
    }

    /// Reads up to `most` bytes behind the unused input; 0 is the end of the stream.
    pub(crate) fn fill(&mut self, most: usize, watch: &Watch) -> Result<usize, GetError> {
        let (stream, room) = (&mut self.stream, self.input.room(most));
        let count = wait_for(watch, || stream.read(room))?;
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

fn dial(
    host: &str,
    port: u16,
    connect_timeout: Duration,
    write_timeout: Duration,
) -> Result<TcpStream, GetError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (bare, port)
        .to_socket_addrs()
        .map_err(|error| unreached(format!("cannot find {host}: {error}")))?;
    let open = |address: SocketAddr| {
        let stream = TcpStream::connect_timeout(&address, connect_timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(write_timeout))?;
        Ok(stream)
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match open(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreached(format!(
        "cannot connect to {host}:{port}: {last}"
    )))
}

fn unreached(text: String) -> GetError {
    GetError::passing(Blame::Network, text).with_again(Again::Unreached)
}

/// See [`Wire::pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Bytes,
    /// The peer has closed, or the connection is broken.
    End,
}

/// Runs a read that waits a tick at most until it gives something, under `watch`.
pub(crate) fn wait_for(
    watch: &Watch,
    mut read: impl FnMut() -> io::Result<usize>,
) -> Result<usize, GetError> {
    let patience = watch.patience();
    loop {
        // A peer that never pauses must not keep anybody from stopping.
        watch.check()?;
        match read() {
            Ok(count) => return Ok(count),
            Err(error) if is_tick(&error) => patience.check()?,
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
    GetError::passing(Blame::Network, format!("the connection broke: {error}"))
}

/// What is read at once while a head is waited for.
pub(crate) const HEAD_FILL_BYTES: usize = 16 * 1024;
