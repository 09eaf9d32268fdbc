//! A response's body, on its way from the connection to a file or a buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::chunked::{Decoder, Piece, Strictness};
use crate::http::client_response::{Framing, MAX_HEAD_BYTES, Malformed};
use crate::sys::buffer::Buffer;
use crate::sys::receive::SplicePipe;

use super::connection::{self, Connection, HEAD_FILL_BYTES, Pending};
use crate::get::client::cancellation::Cancellation;
use crate::get::error::{ErrorKind, GetError};

/// A body that is being received, with its framing.
#[derive(Debug)]
pub(crate) struct Body {
    connection: Connection,
    rest: Rest,
    /// The connection cannot carry another request after this body.
    closes: bool,
}

/// The rest of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Bytes(u64),
    Chunks(Decoder),
    UntilClose,
    Nothing,
}

/// How bytes get from the socket to the file, and how long the file took to take them.
#[derive(Debug)]
pub(crate) struct Mover {
    /// Splices inside the kernel, where the bytes need no decoding.
    pipe: Option<SplicePipe>,
    /// None until it is needed.
    buffer: Option<Buffer>,
    writing: Duration,
}

impl Mover {
    pub(crate) fn copy() -> Self {
        Self {
            pipe: None,
            buffer: None,
            writing: Duration::ZERO,
        }
    }

    pub(crate) fn splice() -> Self {
        Self {
            pipe: SplicePipe::new().ok(),
            ..Self::copy()
        }
    }

    /// Time spent writing to the file since the last call.
    pub(crate) fn take_writing(&mut self) -> Duration {
        std::mem::take(&mut self.writing)
    }
}

/// A connection after its response.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Set if the connection can carry another request.
    pub(crate) connection: Option<Connection>,
    /// More bytes arrived than the response had promised.
    pub(crate) has_excess: bool,
}

impl Body {
    pub(crate) fn new(connection: Connection, framing: Framing, closes: bool) -> Self {
        let rest = match framing {
            Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Bytes(length),
            Framing::Chunked => Rest::Chunks(Decoder::new(Strictness::Lenient)),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self {
            connection,
            rest,
            closes: closes || framing == Framing::UntilClose,
        }
    }

    /// Receives up to `limit_bytes` into `file` at `offset`; 0 means that the body is whole.
    ///
    /// # Errors
    /// Network or Incomplete, when the body breaks off; LocalFile, when `file`, which is called
    /// `path`, cannot take it.
    pub(crate) fn receive(
        &mut self,
        (file, path): (&File, &Path),
        offset: u64,
        limit_bytes: usize,
        mover: &mut Mover,
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let Mover {
            pipe,
            buffer,
            writing,
        } = mover;
        let mut timed = |write: &dyn Fn() -> io::Result<()>| {
            let began = Instant::now();
            let written = write();
            *writing += began.elapsed();
            written.map_err(|error| GetError::local("write", path, &error))
        };
        let raw = matches!(self.rest, Rest::Bytes(_) | Rest::UntilClose);
        if let Some(pipe) = pipe
            && raw
            && self.connection.input.is_empty()
            && let Some(stream) = self.connection.plain()
        {
            let limit_bytes = self.clamp(limit_bytes);
            let taken = connection::wait_for(cancellation, || pipe.take(stream, limit_bytes))?;
            timed(&|| pipe.give(file, offset, taken))?;
            return self.account(taken);
        }
        let buffer = buffer.get_or_insert_with(|| Buffer::new(COPY_BUFFER_BYTES));
        let limit_bytes = limit_bytes.min(buffer.len());
        let count = self.read(&mut buffer[..limit_bytes], cancellation)?;
        timed(&|| file.write_all_at(&buffer[..count], offset))?;
        Ok(count)
    }

    /// Receives up to `limit_bytes` and throws them away.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn skip(
        &mut self,
        limit_bytes: usize,
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let mut buffer = [0; 64 * 1024];
        let limit_bytes = limit_bytes.min(buffer.len());
        self.read(&mut buffer[..limit_bytes], cancellation)
    }

    /// Reads up to `buffer.len()` bytes of the body; 0 means that it is whole.
    ///
    /// # Errors
    /// Network or Incomplete, when the body breaks off.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        match self.rest {
            Rest::Nothing => Ok(0),
            Rest::Chunks(_) => self.read_chunked(buffer, cancellation),
            Rest::Bytes(_) | Rest::UntilClose => {
                let limit = self.clamp(buffer.len());
                let count = if self.connection.input.is_empty() {
                    self.connection.read(&mut buffer[..limit], cancellation)?
                } else {
                    self.connection.input.take(&mut buffer[..limit])
                };
                self.account(count)
            }
        }
    }

    /// The body has ended by its framing.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.rest, Rest::Chunks(decoder) if decoder.is_at_end())
    }

    /// Ends with a whole body: gives the connection back if it can carry another request.
    pub(crate) fn finish(mut self) -> Finished {
        let closed = |has_excess| Finished {
            connection: None,
            has_excess,
        };
        if !self.is_over() {
            return closed(false);
        }
        // A peer that announced a close closes at once: bytes until then still count.
        let patience = match self.closes {
            true => LAST_WORD,
            false => Duration::ZERO,
        };
        match self.connection.pending_within(patience) {
            Pending::Bytes => closed(true),
            Pending::End => closed(false),
            Pending::Nothing => Finished {
                connection: (!self.closes).then_some(self.connection),
                has_excess: false,
            },
        }
    }

    /// Ends a body that is not needed; returns the connection if it can carry another request. The
    /// body of a refusal or a redirect has mostly arrived with its head.
    pub(crate) fn into_connection(mut self) -> Option<Connection> {
        if let Rest::Bytes(left) = self.rest
            && let Ok(left) = usize::try_from(left)
            && left <= self.connection.input.unused().len()
        {
            self.connection.input.consume(left);
            self.rest = Rest::Nothing;
        }
        let is_usable = !self.closes && self.is_over() && self.connection.is_quiet();
        is_usable.then_some(self.connection)
    }

    fn is_over(&self) -> bool {
        self.rest == Rest::Nothing || self.is_whole()
    }

    fn clamp(&self, limit_bytes: usize) -> usize {
        match self.rest {
            Rest::Bytes(left) => {
                usize::try_from(left).map_or(limit_bytes, |left| left.min(limit_bytes))
            }
            _ => limit_bytes,
        }
    }

    /// Takes note of `count` raw bytes; 0 is the end of the stream.
    fn account(&mut self, count: usize) -> Result<usize, GetError> {
        match self.rest {
            Rest::Bytes(left) if count == 0 => Err(broke_off(&format!("{left} bytes are missing"))),
            Rest::Bytes(left) => {
                let left = left - count as u64;
                self.rest = if left == 0 {
                    Rest::Nothing
                } else {
                    Rest::Bytes(left)
                };
                Ok(count)
            }
            _ => {
                if count == 0 {
                    self.rest = Rest::Nothing;
                }
                Ok(count)
            }
        }
    }

    /// Chunks without their framing, as many as have arrived and fit.
    fn read_chunked(
        &mut self,
        buffer: &mut [u8],
        cancellation: &Cancellation,
    ) -> Result<usize, GetError> {
        let (mut filled, mut framing_bytes) = (0, 0);
        let fill_bytes = buffer.len().clamp(HEAD_FILL_BYTES, COPY_BUFFER_BYTES);
        let stall_timer = cancellation.stall_timer();
        let (Rest::Chunks(decoder), connection) = (&mut self.rest, &mut self.connection) else {
            return Ok(0);
        };
        loop {
            let piece = decoder
                .next(connection.input.unused(), buffer.len() - filled)
                .map_err(|_| malformed(&Malformed::Chunk))?;
            match piece {
                Piece::End => return Ok(filled),
                Piece::Framing(count) => {
                    connection.input.consume(count);
                    framing_bytes += count;
                    if framing_bytes > MAX_HEAD_BYTES {
                        return Err(malformed(&Malformed::Chunk));
                    }
                }
                Piece::Data(count) => {
                    filled += connection.input.take(&mut buffer[filled..filled + count]);
                    framing_bytes = 0;
                }
                Piece::Partial if filled > 0 => return Ok(filled),
                Piece::Partial => {
                    // Framing that drips in, byte by byte, brings nothing.
                    stall_timer.check()?;
                    if connection.fill(fill_bytes, cancellation)? == 0 {
                        return Err(broke_off("the last chunk is missing"));
                    }
                }
            }
            if filled == buffer.len() {
                return Ok(filled);
            }
        }
    }
}

fn broke_off(missing: &str) -> GetError {
    let text = format!("the connection closed before the end: {missing}");
    GetError::passing(ErrorKind::Incomplete, text)
}

/// A broken chunk may be a broken line; a head that makes no sense will not get better.
pub(crate) fn malformed(why: &Malformed) -> GetError {
    let text = format!("the server breaks the protocol: {why}");
    match why {
        Malformed::Chunk => GetError::passing(ErrorKind::Network, text),
        _ => GetError::new(ErrorKind::Network, text),
    }
}

const COPY_BUFFER_BYTES: usize = 256 * 1024;
/// How long an announced close may take before it is not waited for.
const LAST_WORD: Duration = Duration::from_secs(1);
