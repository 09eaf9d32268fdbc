//! A session whose records are sealed and opened here: bytes are sealed, then sent.
//!
//! Sealed bytes count as taken: their nonces are spent, so they are never sealed again, and the
//! records that the socket has no room for are kept. A batch is as large as the peer has shown that
//! it takes at once, so that a peer that reads nothing has little kept for it.

use std::io;
use std::net::TcpStream;

use crate::server::shared::UNSENT_BYTES;
use crate::server::transmit::seal_buffers::{HEAD_BYTES, LARGEST_BATCH, SealBuffers};
use crate::server::transmit::sink::{
    FilePart, IoBuffers, More, SendError, blocked_or_network, read_at,
};
use crate::sys::socket;
use crate::tls::kernel::Handover;
use crate::tls::session::{self, Error, RECORD_BYTES, Session};

/// A connection's session, and what its peer takes.
#[derive(Debug)]
pub(crate) struct UserSpace {
    session: Session,
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    /// Bytes that are sealed at a time.
    batch: usize,
    /// Bytes of `close_notify`, once it was sealed.
    closing: u64,
}

impl UserSpace {
    /// A session before its first byte.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            partial: Vec::new(),
            batch: RECORD_BYTES,
            closing: 0,
        }
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Ciphertext that came and has not been opened.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Bytes that a peer which has sent part of something has kept for it, the session included.
    pub(crate) fn held_bytes(&self) -> usize {
        SESSION_BYTES + self.partial.len() + self.session.kept()
    }

    /// How much to read at the most: no part of a record behind the one that is on its way, since
    /// the plaintext of that one may have to wait.
    pub(crate) fn most_wanted(&self) -> usize {
        session::missing(&self.partial).unwrap_or(usize::MAX)
    }

    /// Gives the session up. Returns what came and was not opened.
    pub(crate) fn into_partial(self) -> Vec<u8> {
        self.partial
    }

    /// Notes what the socket gave.
    pub(crate) fn take_in(&mut self, ciphertext: &[u8]) {
        self.partial.reserve_exact(ciphertext.len());
        self.partial.extend_from_slice(ciphertext);
    }

    /// Opens the records that are whole; their plaintext goes to the end of `plaintext`.
    ///
    /// # Errors
    /// The session has failed; an alert is ready to be sent.
    pub(crate) fn open(&mut self, plaintext: &mut Vec<u8>) -> Result<(), Error> {
        let opened = self.session.open(&mut self.partial, &mut |bytes| {
            plaintext.reserve_exact(bytes.len());
            plaintext.extend_from_slice(bytes);
        });
        let done = opened.inspect_err(|_| self.partial = Vec::new())?;
        // An idle connection holds no buffer.
        self.partial = self.partial[done..].to_vec();
        Ok(())
    }

    /// Has `close_notify` follow what is to be sent.
    pub(crate) fn close(&mut self) {
        let before = self.unsent();
        self.session.close();
        self.closing += self.unsent() - before;
    }

    /// Bytes of `close_notify`, once it was sealed: no response has them.
    pub(crate) fn closing(&self) -> u64 {
        self.closing
    }

    /// Seals a few bytes behind what is to be sent.
    ///
    /// # Errors
    /// The session is not open.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.enqueue(bytes).map_err(io::Error::other)
    }

    /// Bytes that were sealed and that the socket has not taken.
    pub(crate) fn unsent(&self) -> u64 {
        self.session.unsent().len() as u64
    }

    /// Sends what is sealed.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` if some of it is left.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.session.unsent().is_empty() {
            match socket::send(stream, self.session.unsent(), false) {
                Ok(sent) => self.session.note_sent(sent),
                Err(error) => {
                    // Where the window is known, it bounds the next batch.
                    if error.kind() == io::ErrorKind::WouldBlock
                        && socket::window_left(stream, 0).is_none()
                    {
                        self.batch = LEAST_BATCH;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What the kernel would take over now, if it can: all that was sealed is in the socket, and all
    /// that came is opened.
    pub(crate) fn for_kernel(&self) -> Option<Handover> {
        self.session
            .for_kernel()
            .filter(|_| self.partial.is_empty())
    }

    /// Gives the session away.
    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    /// Bytes that are best given in one call.
    pub(crate) fn at_once(&self) -> usize {
        self.batch
    }

    /// As [`Sink::send`](crate::server::transmit::sink::Sink::send).
    pub(crate) fn send(
        &mut self,
        stream: &TcpStream,
        (bytes, more): (&[u8], More),
        buffers: &mut SealBuffers,
    ) -> io::Result<usize> {
        self.flush(stream)?;
        // A head before a full record should not cost the record its last bytes.
        let len = bytes.len().min(self.room(stream) + HEAD_BYTES);
        let more = match len < bytes.len() {
            true => More::Yes,
            false => more,
        };
        self.seal_and_send(stream, (&bytes[..len], more), &mut buffers.sealed)?;
        Ok(len)
    }

    /// As [`Sink::send_file`](crate::server::transmit::sink::Sink::send_file).
    pub(crate) fn send_file(
        &mut self,
        stream: &TcpStream,
        part: &FilePart<'_>,
        tools: &mut IoBuffers,
        buffers: &mut SealBuffers,
    ) -> Result<usize, SendError> {
        self.flush(stream).map_err(blocked_or_network)?;
        let len = usize::try_from(part.len).unwrap_or(usize::MAX);
        let len = len.min(self.room(stream)).min(tools.scratch.len());
        let count = read_at(part.file, &mut tools.scratch[..len], part.offset)?;
        if count == 0 {
            return Ok(0);
        }
        let more = match (count as u64) < part.len {
            true => More::Yes,
            false => part.more,
        };
        let plain = &tools.scratch[..count];
        self.seal_and_send(stream, (plain, more), &mut buffers.sealed)
            .map_err(blocked_or_network)?;
        Ok(count)
    }

    /// How much of a file may be sealed now; what came before has left. What was sealed and is not
    /// taken is memory, for as long as the peer likes.
    fn room(&self, stream: &TcpStream) -> usize {
        let batch = self.batch;
        if batch == LEAST_BATCH {
            return batch;
        }
        socket::window_left(stream, UNSENT_BYTES).map_or(batch, |left| {
            let left = usize::try_from(left).unwrap_or(batch);
            whole_records(left).clamp(LEAST_BATCH, batch)
        })
    }

    /// Seals all of `plain`, for which `sealed` has room, and sends as much as the socket takes.
    fn seal_and_send(
        &mut self,
        stream: &TcpStream,
        (plain, more): (&[u8], More),
        sealed: &mut [u8],
    ) -> io::Result<()> {
        let sealed_len = self.session.seal(plain, sealed).map_err(io::Error::other)?;
        let sent = match socket::send(stream, &sealed[..sealed_len], more == More::Yes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        if sent == sealed_len {
            if plain.len() >= self.batch {
                self.batch = (2 * self.batch).min(LARGEST_BATCH);
            }
            return Ok(());
        }
        self.session.keep(&sealed[sent..sealed_len]);
        self.batch = whole_records(sent).max(LEAST_BATCH);
        Ok(())
    }
}

/// The largest batch of so many bytes that wastes no record.
fn whole_records(bytes: usize) -> usize {
    match bytes / RECORD_BYTES {
        0 => bytes / LEAST_BATCH * LEAST_BATCH,
        records => records * RECORD_BYTES,
    }
}

/// Sealed for a peer that takes little: a record of its own, which may stay here for long.
const LEAST_BATCH: usize = 4 << 10;

/// About what a session takes that holds no bytes.
pub(super) const SESSION_BYTES: usize = 8 << 10;
