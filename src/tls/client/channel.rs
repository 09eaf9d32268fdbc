//! A client's session over a stream. Records are decrypted in place, and their content is handed on
//! in large pieces.

use std::io::{self, Read, Write};

use super::explain::{Failure, Kind, explain};
use crate::sys::buffer::Buffer;
use crate::tls::session::{self, Session};

/// A session, and what has been received of it.
#[derive(Debug)]
pub(crate) struct Channel {
    session: Session,
    /// Received bytes that begin a record, or a message of the handshake.
    held: Vec<u8>,
    /// Decrypted bytes that had no room in a caller's buffer.
    plain: Vec<u8>,
    /// Bytes at the front of `plain` that were taken since.
    taken: usize,
    /// The failure that comes after `plain`.
    failure: Option<Failure>,
    /// The first bytes of the stream, which show a server without TLS.
    first: Vec<u8>,
}

/// Memory in which records are received and decrypted; channels may share one.
#[derive(Debug)]
pub(crate) struct Scratch(Buffer);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Buffer::new(HEADROOM + RECEIVE_BYTES))
    }
}

impl Channel {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            held: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            failure: None,
            first: Vec::new(),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether sealed bytes wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.session.unsent().is_empty()
    }

    /// Received bytes of a record that is not whole yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Continues the handshake: sends the sealed bytes, and receives once.
    ///
    /// # Errors
    /// The stream's, or a [`Failure`]; `UnexpectedEof` when the server closes.
    pub(crate) fn shake_hands(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        self.flush(stream)?;
        if self.is_handshaking() {
            self.receive(stream, scratch, &mut |_| 0)?;
            self.flush(stream)?;
        }
        Ok(())
    }

    /// Seals all of `bytes`, for [`Self::flush`] to send.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sealed = self.session.enqueue(bytes);
        sealed.map_err(|error| io::Error::other(self.explain(&error)))
    }

    /// Sends the sealed bytes.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.has_unsent() {
            match stream.write(self.session.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.session.note_sent(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads some of the content into `buffer`; 0 is its end, which the server has confirmed.
    ///
    /// # Errors
    /// The stream's, or a [`Failure`]; `UnexpectedEof` when the stream ends without that.
    /// `Interrupted` when what came was no content: more may have come.
    pub(crate) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut Scratch,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut filled = 0;
        self.pass(stream, scratch, &mut |piece| {
            let fits = piece.len().min(buffer.len() - filled);
            buffer[filled..filled + fits].copy_from_slice(&piece[..fits]);
            filled += fits;
            fits
        })
    }

    /// Discards up to `most` bytes of the content, and returns how many; otherwise as
    /// [`Self::read`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn discard(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut Scratch,
        most: usize,
    ) -> io::Result<usize> {
        let mut left = most;
        self.pass(stream, scratch, &mut |piece| {
            let count = piece.len().min(left);
            left -= count;
            count
        })
    }

    /// Sends `close_notify`, as far as the stream takes it.
    pub(crate) fn close(&mut self, stream: &mut impl Write) {
        if !self.is_handshaking() && self.failure.is_none() {
            self.session.close();
            // The connection is given up in any case.
            let _ = self.flush(stream);
        }
    }

    /// Passes content to `take`, which returns how much of each piece it has taken.
    fn pass(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> io::Result<usize> {
        let mut has_received = false;
        loop {
            if self.taken < self.plain.len() {
                let count = take(&self.plain[self.taken..]);
                self.taken += count;
                return Ok(count);
            }
            if let Some(failure) = &self.failure {
                return Err(io::Error::other(failure.clone()));
            }
            if self.session.is_closed_by_peer() {
                return Ok(0);
            }
            // Tickets may come without end: how long that may go on is the caller's choice.
            if has_received {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.receive(stream, scratch, take)?;
            // A key update may have been answered.
            self.flush(stream)?;
            if count > 0 {
                return Ok(count);
            }
            has_received = true;
        }
    }

    /// Receives once, decrypts whole records, and passes their content to `take`; the rest goes
    /// into `plain`.
    fn receive(
        &mut self,
        stream: &mut (impl Read + Write),
        Scratch(scratch): &mut Scratch,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> io::Result<usize> {
        // A fixed place in a page, since the kernel's copy costs more elsewhere.
        let count = stream.read(&mut scratch[HEADROOM..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.first.len() < FIRST_BYTES {
            let first = &scratch[HEADROOM..HEADROOM + count.min(FIRST_BYTES)];
            self.first.extend_from_slice(first);
        }
        let (start, end) = (HEADROOM - self.held.len(), HEADROOM + count);
        scratch[start..HEADROOM].copy_from_slice(&self.held);
        self.plain.clear();
        self.taken = 0;
        let (plain, mut passed) = (&mut self.plain, 0);
        let mut open = |piece: &[u8]| {
            let count = take(piece);
            passed += count;
            plain.extend_from_slice(&piece[count..]);
        };
        let opened = self.session.open(&mut scratch[start..end], &mut open);
        let failure = match opened {
            Ok(opened) => {
                let rest = &scratch[start + opened..end];
                self.held.clear();
                if rest.len() <= HEADROOM {
                    self.held.extend_from_slice(rest);
                    return Ok(passed);
                }
                Failure {
                    kind: Kind::Permanent,
                    text: "the server sends a TLS message that is too long".to_owned(),
                }
            }
            Err(error) => {
                // The server may be gone already, and the alert with it.
                let _ = self.flush(stream);
                self.explain(&error)
            }
        };
        // Bytes decrypted before the failure are authentic.
        self.failure = Some(failure.clone());
        match passed {
            0 if self.plain.is_empty() => Err(io::Error::other(failure)),
            _ => Ok(passed),
        }
    }

    fn explain(&self, error: &session::Error) -> Failure {
        explain(error, &self.first)
    }
}

/// Room for the beginning of a record, or of a message of the handshake in many records.
const HEADROOM: usize = 80 << 10;
/// Bytes that are received at once: few enough to stay in the processor's cache until they are
/// written.
const RECEIVE_BYTES: usize = 128 << 10;
const FIRST_BYTES: usize = 8;
