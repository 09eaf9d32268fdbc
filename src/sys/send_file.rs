//! Bytes of a file into a socket, without copying them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Sends up to `count` bytes of `file` from `offset` without copying them (sendfile(2)), and
/// says how many. Zero means that the file ends at `offset`. Into `/dev/null` it is a way to wait
/// until the page cache has them.
///
/// # Errors
/// `WouldBlock` when the send queue is full; `InvalidInput`, `Unsupported` or `ENOSYS` when the
/// file system cannot do it, see [`is_refusal`]; errors of the file or the network.
#[cfg(all(target_os = "linux", not(haul_portable)))]
pub fn send_file(to: &impl AsFd, file: &File, offset: u64, count: u64) -> io::Result<usize> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_COUNT);
    Ok(rustix::io::retry_on_intr(|| {
        let mut at = offset;
        rustix::fs::sendfile(to, file, Some(&mut at), count)
    })?)
}

/// Always refused: only Linux has the sendfile(2) that haul was written for.
///
/// # Errors
/// `Unsupported`.
#[cfg(not(all(target_os = "linux", not(haul_portable))))]
pub fn send_file(_: &impl AsFd, _: &File, _: u64, _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether an error of [`send_file`] means that this file cannot be sent that way
/// (`EINVAL`, `ENOSYS`, `EOPNOTSUPP`) but may well be read and written.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, ENOSYS, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(EINVAL | ENOSYS | EOPNOTSUPP))
        || error.kind() == io::ErrorKind::Unsupported
}

/// Whose fault it is that [`SendPipe::send_file`] sent nothing.
#[derive(Debug)]
pub enum Fault {
    /// The socket's; `WouldBlock` when the send queue is full.
    Socket(io::Error),
    /// The file's.
    File(io::Error),
}

#[cfg(all(target_os = "linux", not(haul_portable)))]
pub use self::pipe::{Loaded, SendPipe};

#[cfg(all(target_os = "linux", not(haul_portable)))]
mod pipe {
    use std::fs::File;
    use std::io;
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;

    use rustix::io::{Errno, retry_on_intr};
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

    use super::Fault;

    /// A pipe of a thread's own, through which bytes go from a file to a socket (splice(2)).
    ///
    /// sendfile(2) does the same through a pipe of 64 KiB inside the kernel; a larger one takes
    /// a tenth less processor time. What the socket does not take is thrown away, so that the
    /// pipe is empty between two calls.
    #[derive(Debug)]
    pub struct SendPipe {
        outlet: OwnedFd,
        inlet: OwnedFd,
        /// `/dev/null`.
        waste: File,
        /// Bytes that could not be thrown away are in it.
        spoilt: bool,
    }

    impl SendPipe {
        /// Makes a pipe.
        ///
        /// # Errors
        /// As pipe2(2); the user's pipes have too many pages already (pipe(7)); there is no
        /// `/dev/null`.
        pub fn new() -> io::Result<Self> {
            let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setpipe_size(&inlet, PIPE_BYTES)?;
            let waste = File::options().write(true).open("/dev/null")?;
            Ok(Self {
                outlet,
                inlet,
                waste,
                spoilt: false,
            })
        }

        /// Sends up to `count` bytes of `file` from `offset`, at most `at_once` and then twice as
        /// many as were taken at a time, and says how many. Zero means that the file ends at
        /// `offset`. If `more` follows, an incomplete segment may wait for it.
        ///
        /// # Errors
        /// [`Fault`] says whose.
        pub fn send_file(
            &mut self,
            socket: &TcpStream,
            file: &File,
            (offset, count): (u64, u64),
            at_once: usize,
            more: bool,
        ) -> Result<usize, Fault> {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let mut sent = 0;
            while sent < count {
                let wanted = at_once.max(sent).min(count - sent);
                match self.load(file, offset + sent as u64, wanted) {
                    Ok(loaded) if loaded.is_empty() => break,
                    Ok(loaded) => match loaded.send(socket, more) {
                        Ok(taken) => sent += taken,
                        Err((taken, fault)) if sent + taken == 0 => return Err(fault),
                        Err((taken, _)) => return Ok(sent + taken),
                    },
                    Err(error) if sent == 0 => return Err(Fault::File(error)),
                    // It comes again with the next call.
                    Err(_) => break,
                }
            }
            Ok(sent)
        }

        /// Takes up to `wanted` bytes of `file` from `offset` into the pipe, as many as it has
        /// room for.
        ///
        /// # Errors
        /// Those of the file, and of a pipe that has to be replaced.
        pub fn load(&mut self, file: &File, offset: u64, wanted: usize) -> io::Result<Loaded<'_>> {
            if self.spoilt {
                *self = Self::new()?;
            }
            let wanted = wanted.min(PIPE_BYTES);
            let len = retry_on_intr(|| {
                let mut at = offset;
                let (inlet, flags) = (&self.inlet, SpliceFlags::MOVE);
                splice(file, Some(&mut at), inlet, None, wanted, flags)
            })?;
            Ok(Loaded { pipe: self, len })
        }

        /// Throws away what is left in the pipe.
        fn discard(&mut self, mut left: usize) {
            let flags = SpliceFlags::MOVE;
            while left > 0 {
                let (outlet, waste) = (&self.outlet, &self.waste);
                match retry_on_intr(|| splice(outlet, None, waste, None, left, flags)) {
                    Ok(count) if count > 0 => left -= count,
                    _ => break,
                }
            }
            self.spoilt = left > 0;
        }
    }

    /// Bytes of a file in the pipe. What is not sent is thrown away when it is dropped.
    #[derive(Debug)]
    pub struct Loaded<'a> {
        pipe: &'a mut SendPipe,
        len: usize,
    }

    impl Loaded<'_> {
        /// How many there are.
        #[must_use]
        pub fn len(&self) -> usize {
            self.len
        }

        /// Whether there are none: the file ends before them.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// Empties the pipe into the socket, and says how many bytes were taken.
        ///
        /// # Errors
        /// A fault comes with the bytes taken before it.
        pub fn send(mut self, socket: &TcpStream, more: bool) -> Result<usize, (usize, Fault)> {
            let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            flags.set(SpliceFlags::MORE, more);
            let all = self.len;
            while self.len > 0 {
                let (outlet, left) = (&self.pipe.outlet, self.len);
                let fault = match retry_on_intr(|| splice(outlet, None, socket, None, left, flags))
                {
                    // The page was taken out of the file before it was whole (truncate(2)).
                    Ok(0) => Fault::File(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => {
                        self.len -= count;
                        continue;
                    }
                    // Reading it failed; sockets have other errors.
                    Err(Errno::IO) => Fault::File(Errno::IO.into()),
                    Err(errno) => Fault::Socket(errno.into()),
                };
                return Err((all - self.len, fault));
            }
            Ok(all)
        }
    }

    impl Drop for Loaded<'_> {
        fn drop(&mut self) {
            self.pipe.discard(self.len);
        }
    }

    /// The most an unprivileged process gets by default (`fs.pipe-max-size`, proc(5)).
    const PIPE_BYTES: usize = 1 << 20;
}

/// Only Linux has splice(2).
#[cfg(not(all(target_os = "linux", not(haul_portable))))]
#[derive(Debug)]
pub enum SendPipe {}

#[cfg(not(all(target_os = "linux", not(haul_portable))))]
impl SendPipe {
    /// Always refused.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called: there is no such pipe.
    ///
    /// # Errors
    /// None.
    pub fn send_file(
        &mut self,
        _: &std::net::TcpStream,
        _: &File,
        _: (u64, u64),
        _: usize,
        _: bool,
    ) -> Result<usize, Fault> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn load(&mut self, _: &File, _: u64, _: usize) -> io::Result<Loaded<'_>> {
        match *self {}
    }
}

/// Never made.
#[cfg(not(all(target_os = "linux", not(haul_portable))))]
#[derive(Debug)]
pub struct Loaded<'a>(&'a SendPipe);

#[cfg(not(all(target_os = "linux", not(haul_portable))))]
impl Loaded<'_> {
    /// Never called.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self.0 {}
    }

    /// Never called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match *self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn send(self, _: &std::net::TcpStream, _: bool) -> Result<usize, (usize, Fault)> {
        match *self.0 {}
    }
}

/// Linux sends at most this much in one call (sendfile(2), NOTES).
#[cfg(all(target_os = "linux", not(haul_portable)))]
const MAX_COUNT: usize = 0x7fff_f000;
