//! TLS over a blocking socket: records are decrypted where they were received, and their content
//! is handed on in large pieces.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::sys::buffer::Buffer;
use crate::tls::client::{self, Failure, Kind};
use crate::tls::session::{self, Session};

/// A session, and what has been received of it.
#[derive(Debug)]
pub(crate) struct Secure {
    session: Session,
    /// Received bytes go behind the first [`HEADROOM`] ones, so that the kernel always copies to
    /// the same place in a page; the beginning of a record goes in front of them.
    buffer: Buffer,
    /// The bytes in front of [`HEADROOM`] that begin a record.
    held: usize,
    /// Decrypted bytes that nobody had room for.
    plain: Vec<u8>,
    /// So many of them were taken since.
    taken: usize,
    /// What comes after `plain`.
    failure: Option<Failure>,
    /// The first bytes that ever came: they tell what speaks no TLS.
    first: Vec<u8>,
}

impl Secure {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            buffer: Buffer::new(HEADROOM + RECEIVE_BYTES),
            held: 0,
            plain: Vec::new(),
            taken: 0,
            failure: None,
            first: Vec::new(),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Something has to be sent before anything else.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.session.unsent().is_empty()
    }

    /// Goes on with the handshake: sends what is to be sent, and receives once.
    ///
    /// # Errors
    /// The socket's, or a [`Failure`]; `UnexpectedEof` when the server closes.
    pub(crate) fn shake_hands(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.flush(stream)?;
        if self.is_handshaking() {
            self.receive(stream, &mut [])?;
            self.flush(stream)?;
        }
        Ok(())
    }

    /// Seals all of `bytes` and sends them.
    ///
    /// # Errors
    /// The socket's, or a [`Failure`].
    pub(crate) fn send(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let sealed = self.session.enqueue(bytes);
        sealed.map_err(|error| io::Error::other(self.explain(&error)))?;
        self.flush(stream)
    }

    /// Reads some of the content into `buffer`; 0 is its end, which the server has confirmed.
    ///
    /// # Errors
    /// The socket's, or a [`Failure`]; `UnexpectedEof` when the stream ends without that.
    pub(crate) fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = &self.plain[self.taken..];
            if !left.is_empty() {
                let count = left.len().min(buffer.len());
                buffer[..count].copy_from_slice(&left[..count]);
                self.taken += count;
                return Ok(count);
            }
            if let Some(failure) = &self.failure {
                return Err(io::Error::other(failure.clone()));
            }
            if self.session.is_closed_by_peer() {
                return Ok(0);
            }
            let count = self.receive(stream, buffer)?;
            // The answer to a key update, perhaps.
            self.flush(stream)?;
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// Says that nothing more will be sent, if the socket takes it at once.
    pub(crate) fn close(&mut self, stream: &mut TcpStream) {
        if !self.is_handshaking() && stream.set_nonblocking(true).is_ok() {
            self.session.close();
            // The connection is given up in any case.
            let _ = self.flush(stream);
        }
    }

    /// Receives once and decrypts what is whole: into `buffer`, and what it has no room for into
    /// `plain`.
    fn receive(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let count = stream.read(&mut self.buffer[HEADROOM..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.first.len() < FIRST_BYTES {
            let first = &self.buffer[HEADROOM..HEADROOM + count.min(FIRST_BYTES)];
            self.first.extend_from_slice(first);
        }
        self.plain.clear();
        self.taken = 0;
        let (plain, mut filled) = (&mut self.plain, 0);
        let mut take = |piece: &[u8]| {
            let fits = piece.len().min(buffer.len() - filled);
            buffer[filled..filled + fits].copy_from_slice(&piece[..fits]);
            filled += fits;
            plain.extend_from_slice(&piece[fits..]);
        };
        let (start, end) = (HEADROOM - self.held, HEADROOM + count);
        let opened = self.session.open(&mut self.buffer[start..end], &mut take);
        let rest = match opened {
            Ok(opened) => start + opened..end,
            Err(error) => {
                // The alert says to the server what is wrong; it may be gone already.
                let _ = self.flush(stream);
                let failure = self.explain(&error);
                // What came before it is as true as ever.
                self.failure = Some(failure.clone());
                return match filled {
                    0 => Err(io::Error::other(failure)),
                    _ => Ok(filled),
                };
            }
        };
        if rest.len() > HEADROOM {
            let text = "the server sends a TLS message of more than 80 KiB".to_owned();
            let kind = Kind::Permanent;
            return Err(io::Error::other(Failure { kind, text }));
        }
        self.held = rest.len();
        self.buffer.copy_within(rest, HEADROOM - self.held);
        Ok(filled)
    }

    fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while !self.session.unsent().is_empty() {
            match stream.write(self.session.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.session.note_sent(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn explain(&self, error: &session::Error) -> Failure {
        client::explain(error, &self.first)
    }
}

/// Room for the beginning of a record, or of a message of the handshake in many records.
const HEADROOM: usize = 80 << 10;
/// What is received at once: so much that it still is in the processor's cache when it is
/// decrypted and written.
const RECEIVE_BYTES: usize = 128 << 10;
const FIRST_BYTES: usize = 8;
