//! Bytes from the socket, plain or opened by a session, that are not yet used.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;

use crate::name_protocol;
use crate::server::semaphore::{Permit, Semaphore};
use crate::server::transmit::tls::{Incoming, KernelStream, Layer, TlsStream, UserSpace};
use crate::sys::poller::Readiness;

/// Bytes that were received and not yet used.
#[derive(Debug)]
pub(super) struct RequestBuffer {
    bytes: Vec<u8>,
    /// The socket may be readable: set by the poller, cleared by a short read.
    readable: bool,
    /// The end of the stream has been reported, and is still to be read.
    hung_up: bool,
    /// The peer has closed its side.
    ended: bool,
    /// The right to more than [`LARGE_BYTES`].
    large: Option<Permit>,
}

impl Default for RequestBuffer {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            readable: true,
            hung_up: false,
            ended: false,
            large: None,
        }
    }
}

/// The socket that bytes are received from, with its session.
pub(super) struct ByteSource<'a> {
    pub(super) stream: &'a TcpStream,
    /// The session that opens the bytes.
    pub(super) tls: Option<&'a mut TlsStream>,
}

impl<'a> ByteSource<'a> {
    pub(super) fn new(stream: &'a TcpStream, tls: &'a mut Option<Box<TlsStream>>) -> Self {
        let tls = tls.as_deref_mut();
        Self { stream, tls }
    }
}

/// The received bytes up to the first line end: later ones may hold credentials.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = &bytes[..end.min(MAX_LOGGED)];
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl RequestBuffer {
    /// Notes what the poller saw.
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.hung_up |= readiness.hung_up;
    }

    /// The bytes at hand.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the buffer is empty, and the socket as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.readable
    }

    /// Whether the peer has closed its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the received bytes may wait for the rest of their request, beside the memory of a
    /// session: long requests have a limited budget.
    pub(super) fn may_wait(&mut self, session: usize, permits: &Arc<Semaphore>) -> bool {
        let is_large = self.bytes.len() + session > LARGE_BYTES;
        self.large = match self.large.take() {
            _ if !is_large => None,
            None => permits.try_acquire(),
            permit => permit,
        };
        is_large == self.large.is_some()
    }

    /// Moves the bytes into `memory`, a worker's, for as long as a request is looked for.
    pub(super) fn move_into(&mut self, mut memory: Vec<u8>) {
        memory.extend_from_slice(&self.bytes);
        self.bytes = memory;
    }

    /// Moves the bytes that are left out of the worker's memory. Returns that memory, empty.
    pub(super) fn move_out(&mut self) -> Vec<u8> {
        let rest = self.bytes.as_slice().to_vec();
        let mut memory = std::mem::replace(&mut self.bytes, rest);
        memory.clear();
        memory
    }

    /// Takes a request off, whose bytes lie in a worker's memory.
    pub(super) fn take_off(&mut self, len: usize) {
        self.large = None;
        self.bytes.drain(..len);
    }

    /// Discards the first bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.large = None;
        if len >= self.bytes.len() {
            // An idle connection holds no buffer.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..len);
        }
    }

    /// Gives back memory beyond what the bytes at hand need.
    pub(super) fn shrink(&mut self) {
        // A copy, since shrinking in place leaves a hole that nothing of the size fits.
        if self.bytes.capacity() > self.bytes.len() {
            self.bytes = self.bytes.as_slice().to_vec();
        }
    }

    /// Discards all bytes.
    pub(super) fn clear(&mut self) {
        self.large = None;
        self.bytes = Vec::new();
    }

    /// The bytes up to the first line end, for the log.
    pub(super) fn first_line(&self) -> Box<[u8]> {
        first_line(&self.bytes).into()
    }

    /// Replaces the received bytes.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Notes that the peer has closed its side.
    pub(super) fn note_end(&mut self) {
        self.ended = true;
        self.readable = false;
    }

    /// The bytes, for a session to append plaintext.
    pub(super) fn plaintext(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Receives once. `true` if that brought bytes, or the end of the stream.
    pub(super) fn receive(
        &mut self,
        source: &mut ByteSource<'_>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        match source.tls.as_mut().map(|tls| tls.layer()) {
            None => self.receive_plain(source.stream, scratch),
            Some(Layer::UserSpace(tls)) => self.receive_sealed(source.stream, tls, scratch),
            Some(Layer::Kernel(tls)) => self.receive_opened(source.stream, tls, scratch),
            Some(Layer::Lost) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// As [`Self::receive`], for bytes that are not used any more.
    pub(super) fn discard(
        &mut self,
        source: &mut ByteSource<'_>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let received = match source.tls.as_mut().map(|tls| tls.layer()) {
            _ if self.ended => return Ok(false),
            // The kernel opens the records, and may find a message.
            Some(Layer::Kernel(tls)) => self.receive_opened(source.stream, tls, scratch),
            _ => self.receive_plain(source.stream, scratch),
        };
        match received {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.note_end();
                Ok(true)
            }
            received => received,
        }
    }

    fn receive_plain(&mut self, stream: &TcpStream, scratch: &mut [u8]) -> io::Result<bool> {
        match self.read(stream, scratch, usize::MAX)? {
            None => return Ok(false),
            Some(0) => self.ended = true,
            Some(count) => self.append(&scratch[..count]),
        }
        Ok(true)
    }

    /// Receives bytes that the kernel has opened. Only the session tells that the peer has closed
    /// its side: an attacker can end the TCP stream.
    fn receive_opened(
        &mut self,
        stream: &TcpStream,
        tls: &mut KernelStream,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        match tls.receive(stream, &mut scratch[..READ_BYTES]) {
            // Messages divide the stream: a short count does not mean that the socket is empty.
            Ok(Incoming::Bytes(count)) => self.append(&scratch[..count]),
            Ok(Incoming::Message) => {}
            Ok(Incoming::End) => self.note_end(),
            Ok(Incoming::Truncated) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn append(&mut self, received: &[u8]) {
        // Doubling would take twice what a long head needs.
        self.bytes.reserve_exact(received.len());
        self.bytes.extend_from_slice(received);
    }

    /// Receives records and opens them. Only the session tells that the peer has closed its side:
    /// an attacker can end the TCP stream.
    fn receive_sealed(
        &mut self,
        stream: &TcpStream,
        tls: &mut UserSpace,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let Some(count) = self.read(stream, scratch, tls.most_wanted())? else {
            return Ok(false);
        };
        let received = &scratch[..count];
        if received.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.take_in(received);
        let opened = tls.open(&mut self.bytes);
        if tls.unsent() > 0 {
            // An alert or a key update: bytes that the socket does not take precede the next
            // response.
            let _ = tls.flush(stream);
        }
        opened.map_err(io::Error::other)?;
        if tls.session().is_closed_by_peer() {
            self.note_end();
        }
        Ok(true)
    }

    /// Reads once into the front of `scratch`, at most `most` bytes; 0 is the end of the stream,
    /// `None` means that no bytes are there.
    pub(super) fn read(
        &mut self,
        mut stream: &TcpStream,
        scratch: &mut [u8],
        most: usize,
    ) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        let buffer = &mut scratch[..READ_BYTES.min(most)];
        loop {
            match stream.read(buffer) {
                Ok(count) => {
                    // A short count means an empty socket (epoll(7)): later bytes are reported
                    // again.
                    self.readable = count == buffer.len() || self.hung_up && count > 0;
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Bytes per receive call: at most this much is kept for a peer that pipelines requests and reads
/// no response.
const READ_BYTES: usize = 4 << 10;

/// Longest beginning of a request without a permit of `Shared::long_requests`: longer ones are
/// rare.
const LARGE_BYTES: usize = 18 << 10;

/// Bytes of a malformed request that go to the log.
const MAX_LOGGED: usize = name_protocol::MAX_NAME_BYTES;
