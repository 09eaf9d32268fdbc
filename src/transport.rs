//! A byte stream to a peer: the one place where file bytes enter a socket.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use crate::config::SendChoice;
use crate::sys::{send_file, socket};

/// Whether more bytes of the same response follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// They do: an incomplete segment may wait for them.
    More,
    /// They do not: send all there is.
    Nothing,
}

/// Where a plan's bytes go. Counts may be short; `WouldBlock` means that the peer must take some
/// first.
pub trait Sink {
    /// Sends bytes at hand.
    ///
    /// # Errors
    /// As send(2).
    fn send(&self, bytes: &[u8], follow: Follow) -> io::Result<usize>;

    /// Sends bytes of a file; zero means that the file ends at `offset`.
    ///
    /// # Errors
    /// [`SendError`] says whose fault it is.
    fn send_file(&self, part: FilePart<'_>, scratch: &mut [u8]) -> Result<usize, SendError>;

    /// Sends what waits for a full segment.
    ///
    /// # Errors
    /// As setsockopt(2).
    fn push(&self) -> io::Result<()>;
}

/// Bytes of a file, and how they are to be sent.
#[derive(Debug)]
pub struct FilePart<'a> {
    /// The file.
    pub file: &'a File,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Whether more bytes of the response follow.
    pub follow: Follow,
    /// Set to [`SendChoice::Copy`] once the file refused sendfile(2).
    pub choice: &'a mut SendChoice,
}

/// Why file bytes could not be sent.
#[derive(Debug)]
pub enum SendError {
    /// The send queue is full.
    Blocked,
    /// The peer or the network.
    Network(io::Error),
    /// The file.
    File(io::Error),
}

/// TCP without encryption: sendfile(2), or read and write.
impl Sink for TcpStream {
    #[inline]
    fn send(&self, bytes: &[u8], follow: Follow) -> io::Result<usize> {
        socket::send(self, bytes, follow == Follow::More)
    }

    fn send_file(&self, part: FilePart<'_>, scratch: &mut [u8]) -> Result<usize, SendError> {
        if *part.choice == SendChoice::Auto {
            match send_file::send_file(self, part.file, part.offset, part.len) {
                Ok(count) => return Ok(count),
                Err(error) if send_file::is_refusal(&error) => *part.choice = SendChoice::Copy,
                Err(error) => return Err(blame(error)),
            }
        }
        let len = usize::try_from(part.len)
            .unwrap_or(usize::MAX)
            .min(scratch.len());
        let count = read_at(part.file, &mut scratch[..len], part.offset)?;
        if count == 0 {
            return Ok(0);
        }
        // What the socket does not take is read again: the page cache has it.
        let follow = if (count as u64) < part.len {
            Follow::More
        } else {
            part.follow
        };
        self.send(&scratch[..count], follow)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => SendError::Blocked,
                _ => SendError::Network(error),
            })
    }

    fn push(&self) -> io::Result<()> {
        socket::push(self)
    }
}

/// Reads at an offset, over interruptions.
///
/// # Errors
/// [`SendError::File`].
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, SendError> {
    loop {
        match file.read_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SendError::File(error)),
            Ok(count) => return Ok(count),
        }
    }
}

/// sendfile(2) reports the file's errors and the socket's alike; the socket has these.
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
