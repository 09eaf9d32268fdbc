//! A connection to a server, plain or secure, with the bytes read beyond the last response.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::dial::{DialError, Dialer};
use crate::get::client::cancellation::{Cancellation, TICK};
use crate::get::error::{ErrorKind, GetError, Retry};
use crate::sys::poll::{Direction, wait_ready};
use crate::tls::client::{Channel, Failure, Kind, Scratch};
use crate::tls::session::Session;

/// A connection to a server or a proxy. Reads wait at most a tick at a time, so that a cancellation
/// is noticed.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Between the socket and everything else, on a secure connection.
    secure: Option<Box<Secure>>,
    /// Received bytes that are not consumed.
    pub(crate) input: Input,
}

/// A session with the server, and where its records are decrypted.
#[derive(Debug)]
struct Secure {
    channel: Channel,
    scratch: Scratch,
}

/// A queue of received bytes; consumed ones are not moved away one by one.
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
    /// Connects to `host`, by the first of its addresses that accepts.
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
            secure: None,
            input: Input::default(),
        })
    }

    /// Makes all later bytes pass through `session`, with `place`, within `timeout`.
    ///
    /// # Errors
    /// Untrusted: the server's certificate is refused. Network: no TLS there, or the line broke.
    pub(crate) fn secure(
        &mut self,
        session: Session,
        place: &str,
        timeout: Duration,
        cancellation: &Cancellation,
    ) -> Result<(), GetError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut channel = Channel::new(session);
        let (stream, mut scratch) = (&mut self.stream, Scratch::new());
        while channel.is_handshaking() || channel.has_unsent() {
            let shaken = wait_for(cancellation, || {
                // A server that never pauses has no more time than one that is silent.
                if has_passed(deadline) {
                    let kind = Kind::Passing;
                    let text = "the TLS handshake takes too long (--connect-timeout)".to_owned();
                    return Err(io::Error::other(Failure { kind, text }));
                }
                channel.shake_hands(stream, &mut scratch).map(|()| 0)
            });
            shaken.map_err(|error| error.at(place))?;
        }
        self.secure = Some(Box::new(Secure { channel, scratch }));
        Ok(())
    }

    /// The socket, if its bytes need no decryption and may be spliced to a file.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        self.secure.is_none().then_some(&self.stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        let sent = match &mut self.secure {
            None => self.stream.write_all(bytes),
            Some(secure) => secure
                .channel
                .enqueue(bytes)
                .and_then(|()| secure.channel.flush(&mut self.stream)),
        };
        sent.map_err(|error| broken(&error))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end_requests(&self) {
        // The next read reports a peer that has closed.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads some bytes into `buffer`; 0 is the end of the stream. Unused input is not looked at.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        receive(
            &mut self.stream,
            self.secure.as_deref_mut(),
            buffer,
            cancellation,
        )
    }

    /// Reads up to `most` bytes behind the unused input; 0 is the end of the stream.
    pub(crate) fn fill(
        &mut self,
        most: usize,
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let room = self.input.room(most);
        let secure = self.secure.as_deref_mut();
        let count = receive(&mut self.stream, secure, room, cancellation)?;
        self.input.end += count;
        Ok(count)
    }

    /// Whether the connection can carry another request: no stray byte was received, and the peer
    /// has not closed.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && matches!(self.pending(), Pending::Nothing)
    }

    /// Bytes that have arrived on this connection, or arrive within `timeout`.
    pub(crate) fn pending_within(&mut self, timeout: Duration) -> Pending {
        let deadline = Instant::now() + timeout;
        loop {
            let pending = self.pending();
            let left = deadline.saturating_duration_since(Instant::now());
            if pending != Pending::Nothing || left.is_zero() {
                return pending;
            }
            if wait_ready(&[(self.stream.as_fd(), Direction::Read)], left).is_err() {
                return Pending::End;
            }
        }
    }

    /// The state of the receive queue, without waiting. A byte of a TLS connection may be lost;
    /// stray bytes are of no use.
    pub(crate) fn pending(&mut self) -> Pending {
        if !self.input.is_empty() {
            return Pending::Bytes;
        }
        if self.stream.set_nonblocking(true).is_err() {
            return Pending::End;
        }
        let peeked = match &mut self.secure {
            None => self.stream.peek(&mut [0]),
            Some(secure) => secure.read(&mut self.stream, &mut [0]),
        };
        if self.stream.set_nonblocking(false).is_err() {
            return Pending::End;
        }
        match peeked {
            Ok(0) => Pending::End,
            Ok(_) => Pending::Bytes,
            Err(error) if is_tick(&error) => Pending::Nothing,
            Err(_) => Pending::End,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(secure) = &mut self.secure
            && self.stream.set_nonblocking(true).is_ok()
        {
            secure.channel.close(&mut self.stream);
        }
    }
}

impl Secure {
    fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        self.channel.read(stream, &mut self.scratch, buffer)
    }
}

fn receive(
    stream: &mut TcpStream,
    secure: Option<&mut Secure>,
    buffer: &mut [u8],
    cancellation: &Cancellation,
) -> Result<usize, GetError> {
    let Some(secure) = secure else {
        return wait_for(cancellation, || stream.read(buffer));
    };
    let mut stall_timer = cancellation.stall_timer();
    let mut most_held = secure.channel.held_bytes();
    loop {
        cancellation.check()?;
        match secure.read(stream, buffer) {
            Ok(count) => return Ok(count),
            Err(error) if is_tick(&error) => {
                // A slow line takes long for a record. Of records without content only the first counts.
                if secure.channel.held_bytes() > most_held {
                    most_held = secure.channel.held_bytes();
                    stall_timer.extend();
                }
                stall_timer.check()?;
            }
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
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

/// Runs a read that waits a tick at most until it gives something, under `cancellation`.
pub(crate) fn wait_for(
    cancellation: &Cancellation,
    mut read: impl FnMut() -> io::Result<usize>,
) -> Result<usize, GetError> {
    let stall_timer = cancellation.stall_timer();
    loop {
        // A peer that never pauses must not keep the user from stopping.
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
    let failure = error.get_ref().and_then(|it| it.downcast_ref::<Failure>());
    if let Some(failure) = failure {
        return insecure(failure);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return GetError::passing(ErrorKind::Incomplete, CUT_OFF);
    }
    GetError::passing(ErrorKind::Network, format!("the connection broke: {error}"))
}

/// The failure of a session.
pub(crate) fn insecure(Failure { kind, text }: &Failure) -> GetError {
    match kind {
        Kind::Untrusted => GetError::new(ErrorKind::Untrusted, text.clone()),
        Kind::Refused => GetError::new(ErrorKind::NotFound, text.clone()),
        Kind::Permanent => GetError::new(ErrorKind::Network, text.clone()),
        Kind::Passing => GetError::passing(ErrorKind::Network, text.clone()),
    }
}

/// An attacker can end a TCP connection; TLS' `close_notify` proves that the server did.
const CUT_OFF: &str = "the connection was cut off: it ended without TLS's close_notify";
/// Bytes that are read at once while a head is waited for.
pub(crate) const HEAD_FILL_BYTES: usize = 16 * 1024;
