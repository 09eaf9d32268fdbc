//! A byte stream to a peer: the one place where file bytes enter a socket.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use crate::server::config::SendChoice;
use crate::server::transmit::seal_buffers::SealBuffers;
use crate::sys::buffer::Buffer;
use crate::sys::send_file::{self, Fault, Loaded, PipeLease, SendPipe};
use crate::sys::socket;

/// Whether more bytes of the same response follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Bytes follow: an incomplete segment may wait for them.
    Yes,
    /// No bytes follow: send all there are.
    No,
}

/// A destination of a plan's bytes. Counts may be short; `WouldBlock` means that the peer must take
/// some first.
pub trait Sink {
    /// Sends bytes at hand.
    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize>;

    /// Sends bytes of a file; zero means that the file ends at `offset`.
    fn send_file(&mut self, part: FilePart<'_>, tools: &mut IoBuffers) -> Result<usize, SendError>;

    /// The socket, if bytes go to the peer unchanged, so that the kernel can send a file's pages.
    fn socket(&self) -> Option<&TcpStream>;

    /// Most bytes worth copying in order to send them in one call.
    fn at_once(&self) -> usize;

    /// Sends bytes that were taken before and have not gone to the socket.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` if some of it is left.
    fn flush(&mut self) -> io::Result<()>;

    /// Sends bytes that wait for a full segment.
    fn push(&self) -> io::Result<()>;

    /// Bytes sent that the peer has not acknowledged, where the system tells.
    fn unacknowledged(&self) -> Option<u64>;
}

/// Bytes of a file, and the way to send them.
#[derive(Debug)]
pub struct FilePart<'a> {
    /// The file.
    pub file: &'a File,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Whether more bytes of the response follow.
    pub more: More,
    /// Bytes that go into the pipe before the peer takes them.
    pub prefill_bytes: usize,
    /// Bytes in the pipe that were prepared for this response and not taken.
    pub lease: &'a mut Option<PipeLease>,
    /// The way to send; [`SendChoice::Copy`] once the file refused sendfile(2).
    pub choice: &'a mut SendChoice,
}

/// The reason why file bytes could not be sent.
#[derive(Debug)]
pub enum SendError {
    /// The send queue is full.
    Blocked,
    /// The peer or the network.
    Network(io::Error),
    /// The file.
    File(io::Error),
}

/// The buffers and the pipe of a worker.
#[derive(Debug)]
pub struct IoBuffers {
    /// Memory for copying.
    pub(crate) scratch: Buffer,
    /// Memory for a request that is being received.
    pub(crate) request: Vec<u8>,
    /// Buffers of TLS, once a connection needed them.
    pub(crate) sealing: Option<SealBuffers>,
    pipe: Option<SendPipe>,
}

impl Default for IoBuffers {
    fn default() -> Self {
        Self {
            scratch: Buffer::new(SCRATCH_BYTES),
            request: Vec::new(),
            sealing: None,
            pipe: None,
        }
    }
}

impl IoBuffers {
    /// Buffers with a pipe, for large transfers. If the system has no pipe left, sending takes a
    /// little longer.
    #[must_use]
    pub fn with_pipe() -> Self {
        Self {
            pipe: SendPipe::new().ok(),
            ..Self::default()
        }
    }

    /// Whether the leased bytes are still in the pipe.
    #[must_use]
    pub fn holds(&self, lease: &PipeLease) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.holds(lease))
    }

    /// Moves bytes of a file into the pipe; `None` if there is no pipe, or it does not take all.
    pub fn load(&mut self, file: &File, offset: u64, len: usize) -> Option<Loaded<'_>> {
        let loaded = self.pipe.as_mut()?.load(file, offset, len).ok()?;
        (loaded.len() == len).then_some(loaded)
    }

    /// Reads bytes of a file into the page cache, and waits for them. Returns how many they are;
    /// zero means that the file ends at `offset`. Bytes are copied only where no pipe takes them.
    ///
    /// # Errors
    /// As reading the file.
    pub fn populate(&mut self, file: &File, offset: u64, len: u64) -> io::Result<usize> {
        // The pipe is made late, since a user's pipes are limited.
        self.pipe = self.pipe.take().or_else(|| SendPipe::new().ok());
        let taken = match (&mut self.pipe, send_file::dev_null()) {
            // The kernel reads as much ahead as one call asks for.
            (Some(pipe), _) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                pipe.load(file, offset, len).map(|loaded| loaded.len())
            }
            (None, Ok(dev_null)) => send_file::send_file(&dev_null, file, offset, len),
            (None, Err(_)) => Err(io::ErrorKind::Unsupported.into()),
        };
        match taken {
            Err(error) if send_file::is_refusal(&error) => {}
            taken => return taken,
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let len = len.min(self.scratch.len());
        match read_at(file, &mut self.scratch[..len], offset) {
            Err(SendError::File(error) | SendError::Network(error)) => Err(error),
            Err(SendError::Blocked) => Ok(0),
            Ok(count) => Ok(count),
        }
    }
}

/// TCP without encryption: splice(2) through a large pipe for large pieces, sendfile(2) for
/// others, or read and write where the file system knows neither.
impl Sink for &TcpStream {
    #[inline]
    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        socket::send(self, bytes, more == More::Yes)
    }

    fn send_file(
        &mut self,
        mut part: FilePart<'_>,
        tools: &mut IoBuffers,
    ) -> Result<usize, SendError> {
        if *part.choice == SendChoice::Auto {
            if let Some(sent) = send_through_pipe(self, &mut part, tools) {
                return sent;
            }
            match send_file::send_file(self, part.file, part.offset, part.len) {
                Ok(count) => return Ok(count),
                Err(error) if send_file::is_refusal(&error) => *part.choice = SendChoice::Copy,
                Err(error) => return Err(blame(error)),
            }
        }
        let scratch = &mut tools.scratch;
        let len = usize::try_from(part.len)
            .unwrap_or(usize::MAX)
            .min(scratch.len());
        let count = read_at(part.file, &mut scratch[..len], part.offset)?;
        if count == 0 {
            return Ok(0);
        }
        // Bytes that the socket does not take are read again from the page cache.
        let more = if (count as u64) < part.len {
            More::Yes
        } else {
            part.more
        };
        self.send(&scratch[..count], more)
            .map_err(blocked_or_network)
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    #[inline]
    fn at_once(&self) -> usize {
        SMALL_BYTES
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn push(&self) -> io::Result<()> {
        socket::push(self)
    }

    fn unacknowledged(&self) -> Option<u64> {
        socket::unacknowledged(self)
    }
}

/// Sends the loaded bytes, and discards those that the peer does not take. Zero means that the file
/// has shrunk since.
pub(super) fn send_loaded(stream: &TcpStream, loaded: Loaded<'_>) -> Result<usize, SendError> {
    match loaded.send(stream, false) {
        Ok(sent) => Ok(sent),
        Err((0, Fault::Socket(error))) => Err(blocked_or_network(error)),
        Err((0, Fault::File(error))) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err((0, Fault::File(error))) => Err(SendError::File(error)),
        Err((sent, _)) => Ok(sent),
    }
}

/// Sends through the worker's pipe if that is worth it. `None` leaves errors of the file to the
/// calls without it.
fn send_through_pipe(
    stream: &TcpStream,
    part: &mut FilePart<'_>,
    tools: &mut IoBuffers,
) -> Option<Result<usize, SendError>> {
    if part.lease.is_none() && part.len < PIPED_BYTES {
        return None;
    }
    let how = (part.prefill_bytes, part.more == More::Yes);
    let extent = (part.offset, part.len);
    let pipe = tools.pipe.as_mut()?;
    match pipe.send_file(stream, part.file, extent, how, part.lease) {
        Ok(sent) => Some(Ok(sent)),
        Err(Fault::Socket(error)) => Some(Err(blocked_or_network(error))),
        Err(Fault::File(_)) => None,
    }
}

/// Reads at an offset; interruptions do not end it.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, SendError> {
    loop {
        match file.read_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SendError::File(error)),
            Ok(count) => return Ok(count),
        }
    }
}

/// The error of send(2).
pub(crate) fn blocked_or_network(error: io::Error) -> SendError {
    match error.kind() {
        io::ErrorKind::WouldBlock => SendError::Blocked,
        _ => SendError::Network(error),
    }
}

/// The error of sendfile(2), which reports those of the file and of the socket alike.
fn blame(error: io::Error) -> SendError {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::WouldBlock => SendError::Blocked,
        Kind::BrokenPipe
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::NotConnected
        | Kind::TimedOut
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => SendError::Network(error),
        _ => SendError::File(error),
    }
}

/// Largest response, head included, that is gathered for one call. Copying more costs more than the
/// calls it saves.
const SMALL_BYTES: usize = 16 << 10;

/// Least part sent through the pipe: less goes as fast without.
const PIPED_BYTES: u64 = 128 << 10;

/// Bytes copied per call: many enough to outweigh the call, few enough for the processor's cache.
const SCRATCH_BYTES: usize = 256 << 10;
