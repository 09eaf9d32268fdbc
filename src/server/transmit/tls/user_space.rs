//! A session whose records are sealed and opened here: bytes are sealed, then sent.
//!
//! Sealed bytes count as taken: their nonces are spent, so they are never sealed again. Records
//! that the socket has no room for are kept. The size of a batch follows what the peer takes at
//! once, so that little is kept for a peer that does not read.

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

/// A connection's session, and the pace of its peer.
#[derive(Debug)]
pub(crate) struct UserSpace {
    session: Session,
    /// The beginning of an incomplete record.
    partial: Vec<u8>,
    /// Plaintext bytes that are sealed at once.
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

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Received ciphertext that has not been opened.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Memory for a peer's incomplete record or message, the session included.
    pub(crate) fn held_bytes(&self) -> usize {
        SESSION_BYTES + self.partial.len() + self.session.kept()
    }

    /// Most bytes to read: none beyond the record that is incomplete, since its plaintext may have
    /// to wait.
    pub(crate) fn most_wanted(&self) -> usize {
        session::missing(&self.partial).unwrap_or(usize::MAX)
    }

    /// Drops the session. Returns the received bytes that were not opened.
    pub(crate) fn into_partial(self) -> Vec<u8> {
        self.partial
    }

    /// Adds received bytes.
    pub(crate) fn take_in(&mut self, ciphertext: &[u8]) {
        self.partial.reserve_exact(ciphertext.len());
        self.partial.extend_from_slice(ciphertext);
    }

    /// Opens the whole records, and appends their content to `plaintext`.
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

    /// Puts `close_notify` behind the unsent bytes.
    pub(crate) fn close(&mut self) {
        let before = self.unsent();
        self.session.close();
        self.closing += self.unsent() - before;
    }

    /// Bytes of `close_notify`, once it was sealed: they belong to no response.
    pub(crate) fn closing(&self) -> u64 {
        self.closing
    }

    /// Seals a few bytes behind the unsent ones.
    ///
    /// # Errors
    /// The session is not open.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.enqueue(bytes).map_err(io::Error::other)
    }

    /// Sealed bytes that the socket has not taken.
    pub(crate) fn unsent(&self) -> u64 {
        self.session.unsent().len() as u64
    }

    /// Sends the sealed bytes.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` if some of it is left.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.session.unsent().is_empty() {
            match socket::send(stream, self.session.unsent(), false) {
                Ok(sent) => self.session.note_sent(sent),
                Err(error) => {
                    // A known window bounds the next batch.
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

    /// The session for the kernel; `None` while sealed bytes are unsent, or received ones unopened.
    pub(crate) fn for_kernel(&self) -> Option<Handover> {
        self.session
            .for_kernel()
            .filter(|_| self.partial.is_empty())
    }

    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    /// Most bytes worth copying in order to send them in one call.
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
        // A head goes beside a full record, which would lose its last bytes to it.
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

    /// Plaintext bytes that may be sealed now, when all sealed before are sent. The limit bounds
    /// the memory that a peer can hold by not reading.
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

/// The largest batch of at most `bytes` that is made of full records.
fn whole_records(bytes: usize) -> usize {
    match bytes / RECORD_BYTES {
        0 => bytes / LEAST_BATCH * LEAST_BATCH,
        records => records * RECORD_BYTES,
    }
}

/// Bytes of a batch for a slow peer, whose only record may stay here for long.
const LEAST_BATCH: usize = 4 << 10;

/// Approximate memory of a session without any bytes.
pub(super) const SESSION_BYTES: usize = 8 << 10;
