//! Bytes of a file into a socket, without copying them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Sends up to `count` bytes of `file` from `offset` without copying them (sendfile(2)), and
/// returns how many. Zero means that the file ends at `offset`. Sending to `/dev/null` waits until
/// the page cache has them.
///
/// # Errors
/// `WouldBlock` when the send queue is full; `InvalidInput`, `Unsupported` or `ENOSYS` when the
/// file system cannot do it, see [`is_refusal`]; errors of the file or the network.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn send_file(to: &impl AsFd, file: &File, offset: u64, count: u64) -> io::Result<usize> {
    use nix::errno::Errno;
    use nix::sys::sendfile::sendfile64;

    use crate::sys::retry::retry;

    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_COUNT);
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    Ok(retry(|| {
        let mut at = offset;
        sendfile64(to, file, Some(&mut at), count)
    })?)
}

/// Always refused: only Linux has the sendfile(2) that haul was written for.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) fn send_file(_: &impl AsFd, _: &File, _: u64, _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Calls for sending without waits and copies that a seccomp(2) filter refuses, or the kernel does
/// not have.
#[must_use]
pub(crate) fn missing_calls() -> Vec<&'static str> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        use nix::errno::Errno;
        use nix::fcntl::{SpliceFFlags, splice};
        use nix::sys::sendfile::sendfile64;
        use rustix::io::{Errno as Refused, ReadWriteFlags, preadv2};

        let Ok(null) = File::open("/dev/null") else {
            return Vec::new();
        };
        // Each fails for other reasons where it is there.
        let is_there =
            |result: nix::Result<usize>| !matches!(result, Err(Errno::ENOSYS | Errno::EPERM));
        let mut byte = [0];
        let mut buffers = [io::IoSliceMut::new(&mut byte)];
        let read = preadv2(&null, &mut buffers, 0, ReadWriteFlags::NOWAIT);
        let says_residency = !matches!(read, Err(Refused::NOSYS | Refused::PERM));
        let splices = is_there(splice(&null, None, &null, None, 1, SpliceFFlags::empty()));
        let sends = is_there(sendfile64(&null, &null, None, 1));
        [
            (says_residency, "preadv2"),
            (sends, "sendfile"),
            (splices, "splice"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    Vec::new()
}

/// `/dev/null`, where bytes are discarded.
pub(crate) fn dev_null() -> io::Result<&'static File> {
    static DEV_NULL: OnceLock<File> = OnceLock::new();
    match DEV_NULL.get() {
        Some(dev_null) => Ok(dev_null),
        None => {
            let dev_null = File::options().write(true).open("/dev/null")?;
            Ok(DEV_NULL.get_or_init(|| dev_null))
        }
    }
}

/// Whether an error of [`send_file`] means that this file cannot be sent that way (`EINVAL`,
/// `ENOSYS`, `EOPNOTSUPP`; `EPERM` of a seccomp filter), so that it has to be copied.
#[must_use]
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, ENOSYS, EOPNOTSUPP, EPERM};
    matches!(
        error.raw_os_error(),
        Some(EINVAL | ENOSYS | EOPNOTSUPP | EPERM)
    ) || error.kind() == io::ErrorKind::Unsupported
}

/// The side whose error made [`SendPipe::send_file`] send nothing.
#[derive(Debug)]
pub enum Fault {
    /// The socket's; `WouldBlock` when the send queue is full.
    Socket(io::Error),
    /// The file's.
    File(io::Error),
}

/// Identifies bytes left in a [`SendPipe`] because their socket was full.
#[derive(Debug, PartialEq, Eq)]
pub struct PipeLease(u64);

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use self::pipe::{Loaded, SendPipe};

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod pipe {
    use std::fs::File;
    use std::io;
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
    use nix::unistd::pipe2;

    use super::{Fault, PipeLease};
    use crate::sys::retry::retry;

    /// A pipe of a thread's own, through which bytes go from a file to a socket (splice(2)).
    ///
    /// sendfile(2) uses a pipe of 64 KiB inside the kernel; a larger one takes a tenth less
    /// processor time. Bytes that the socket does not take stay in the pipe until another
    /// connection needs it, and are then discarded.
    #[derive(Debug)]
    pub(crate) struct SendPipe {
        outlet: OwnedFd,
        inlet: OwnedFd,
        dev_null: &'static File,
        contents: Contents,
    }

    /// The content of a pipe between two calls.
    #[derive(Debug)]
    enum Contents {
        Nothing,
        /// `len` bytes of a file from `offset` on, which are `owner`'s.
        Kept {
            owner: PipeLease,
            offset: u64,
            len: usize,
        },
        /// Bytes that could not be discarded.
        Spoilt,
    }

    impl SendPipe {
        /// Makes a pipe.
        ///
        /// # Errors
        /// As pipe2(2); the user's pipes have too many pages already (pipe(7)); there is no
        /// `/dev/null`.
        pub(crate) fn new() -> io::Result<Self> {
            let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&inlet, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as _))?;
            let dev_null = super::dev_null()?;
            Ok(Self {
                outlet,
                inlet,
                dev_null,
                contents: Contents::Nothing,
            })
        }

        /// Sends up to `count` bytes of `file` from `offset`, first at most `prefill`, then twice
        /// as many as were taken, and returns how many. Zero means that the file ends at `offset`.
        /// With `more` an incomplete segment may wait. Bytes that the socket does not take stay in
        /// the pipe as `lease`, and are sent first if they are still there.
        pub(crate) fn send_file(
            &mut self,
            socket: &TcpStream,
            file: &File,
            (offset, count): (u64, u64),
            (prefill, more): (usize, bool),
            lease: &mut Option<PipeLease>,
        ) -> Result<usize, Fault> {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let mut sent = 0;
            while sent < count {
                let at = offset + sent as u64;
                let kept = lease.take().and_then(|owner| self.resume(&owner, at));
                let loaded = match kept {
                    Some(len) => Ok(Loaded { pipe: self, len }),
                    // Never nothing: that would look like the end of the file.
                    None => self.load(file, at, prefill.max(sent).max(1).min(count - sent)),
                };
                match loaded {
                    Ok(loaded) if loaded.is_empty() => break,
                    Ok(mut loaded) => {
                        let (taken, fault) = loaded.empty_into(socket, count - sent, more);
                        sent += taken;
                        if matches!(fault, None | Some(Fault::Socket(_))) && !loaded.is_empty() {
                            *lease = Some(loaded.keep(at + taken as u64));
                        }
                        match fault {
                            None => {}
                            Some(fault) if sent == 0 => return Err(fault),
                            Some(_) => break,
                        }
                    }
                    Err(error) if sent == 0 => return Err(Fault::File(error)),
                    // The next call returns the error again.
                    Err(_) => break,
                }
            }
            Ok(sent)
        }

        /// Whether this is still in the pipe.
        pub(crate) fn holds(&self, lease: &PipeLease) -> bool {
            matches!(&self.contents, Contents::Kept { owner, .. } if owner == lease)
        }

        /// How many bytes from `at` on are still in the pipe for this owner. Another owner's may be
        /// older than its response.
        fn resume(&mut self, lease: &PipeLease, at: u64) -> Option<usize> {
            match self.contents {
                Contents::Kept { offset, len, .. } if self.holds(lease) && offset == at => {
                    self.contents = Contents::Nothing;
                    Some(len)
                }
                _ => None,
            }
        }

        /// Moves up to `wanted` bytes of `file` from `offset` into the pipe, as room allows.
        pub(crate) fn load(
            &mut self,
            file: &File,
            offset: u64,
            wanted: usize,
        ) -> io::Result<Loaded<'_>> {
            if let Contents::Kept { len, .. } = self.contents {
                self.discard(len);
            }
            if let Contents::Spoilt = self.contents {
                *self = Self::new()?;
            }
            let wanted = wanted.min(PIPE_BYTES);
            let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
            let len = retry(|| {
                let mut at = offset;
                let (inlet, flags) = (&self.inlet, SpliceFFlags::SPLICE_F_MOVE);
                splice(file, Some(&mut at), inlet, None, wanted, flags)
            })?;
            Ok(Loaded { pipe: self, len })
        }

        /// Discards the rest of the pipe.
        fn discard(&mut self, mut left: usize) {
            let flags = SpliceFFlags::SPLICE_F_MOVE;
            while left > 0 {
                let (outlet, dev_null) = (&self.outlet, self.dev_null);
                match retry(|| splice(outlet, None, dev_null, None, left, flags)) {
                    Ok(count) if count > 0 => left -= count,
                    _ => break,
                }
            }
            self.contents = match left {
                0 => Contents::Nothing,
                _ => Contents::Spoilt,
            };
        }
    }

    /// Bytes of a file in the pipe. Bytes that are not sent are discarded when it is dropped.
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

        /// Empties the pipe into the socket, and returns how many bytes were taken.
        ///
        /// # Errors
        /// An error includes the bytes taken before it.
        pub fn send(mut self, socket: &TcpStream, more: bool) -> Result<usize, (usize, Fault)> {
            match self.empty_into(socket, self.len, more) {
                (taken, None) => Ok(taken),
                (taken, Some(fault)) => Err((taken, fault)),
            }
        }

        /// Moves up to `most` bytes from the pipe into the socket; returns how many, and why not
        /// more.
        fn empty_into(
            &mut self,
            socket: &TcpStream,
            most: usize,
            more: bool,
        ) -> (usize, Option<Fault>) {
            let mut flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
            flags.set(SpliceFFlags::SPLICE_F_MORE, more);
            let mut taken = 0;
            while self.len > 0 && taken < most {
                let (outlet, left) = (&self.pipe.outlet, self.len.min(most - taken));
                let fault = match retry(|| splice(outlet, None, socket, None, left, flags)) {
                    // The page was taken out of the file before it was whole (truncate(2)).
                    Ok(0) => Fault::File(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => {
                        self.len -= count;
                        taken += count;
                        continue;
                    }
                    // Reading it failed; sockets have other errors.
                    Err(Errno::EIO) => Fault::File(Errno::EIO.into()),
                    Err(errno) => Fault::Socket(errno.into()),
                };
                return (taken, Some(fault));
            }
            (taken, None)
        }

        /// Keeps the rest, which begins at `offset`, in the pipe.
        fn keep(mut self, offset: u64) -> PipeLease {
            let number = NEXT_LEASE.fetch_add(1, Ordering::Relaxed);
            let len = std::mem::take(&mut self.len);
            self.pipe.contents = Contents::Kept {
                owner: PipeLease(number),
                offset,
                len,
            };
            PipeLease(number)
        }
    }

    impl Drop for Loaded<'_> {
        fn drop(&mut self) {
            if self.len > 0 {
                self.pipe.discard(self.len);
            }
        }
    }

    /// Connections go from pipe to pipe, so no two pipes use the same number.
    static NEXT_LEASE: AtomicU64 = AtomicU64::new(0);

    /// The most an unprivileged process gets by default (`fs.pipe-max-size`, proc(5)).
    const PIPE_BYTES: usize = 1 << 20;
}

/// Only Linux has splice(2).
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
#[derive(Debug)]
pub(crate) enum SendPipe {}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "as the pipe that Linux has"
)]
impl SendPipe {
    /// Always refused.
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called: there is no such pipe.
    pub(crate) fn send_file(
        &mut self,
        _: &std::net::TcpStream,
        _: &File,
        _: (u64, u64),
        _: (usize, bool),
        _: &mut Option<PipeLease>,
    ) -> Result<usize, Fault> {
        match *self {}
    }

    /// Never called.
    pub(crate) fn holds(&self, _: &PipeLease) -> bool {
        match *self {}
    }

    /// Never called.
    pub(crate) fn load(&mut self, _: &File, _: u64, _: usize) -> io::Result<Loaded<'_>> {
        match *self {}
    }
}

/// Never made.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
#[derive(Debug)]
pub struct Loaded<'a>(&'a SendPipe);

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
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
#[cfg(all(target_os = "linux", not(feature = "portable")))]
const MAX_COUNT: usize = 0x7fff_f000;

#[cfg(all(test, target_os = "linux", not(feature = "portable")))]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    const LEN: u64 = 16 << 20;

    /// A file, and a connection over which it goes.
    fn bench() -> (File, Vec<u8>, TcpStream, TcpStream) {
        let content: Vec<u8> = (0..LEN).map(|at| (at >> 8 ^ at) as u8).collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &content).expect("written");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (near, _) = listener.accept().expect("accepts");
        near.set_nonblocking(true).expect("a socket");
        (file.into_file(), content, near, far)
    }

    /// Sends the file in turns that end when the socket takes no more; `between` two turns another
    /// connection uses the pipe. Returns the received bytes, and how often a lease was still valid.
    fn send_in_turns(between: impl Fn(&mut SendPipe, &File)) -> (Vec<u8>, Vec<u8>, usize) {
        let (file, content, near, mut far) = bench();
        let mut pipe = SendPipe::new().expect("a pipe");
        let (mut arrived, mut lease, mut kept) = (Vec::new(), None, 0);
        let mut at = 0;
        while at < LEN {
            kept += usize::from(lease.as_ref().is_some_and(|owner| pipe.holds(owner)));
            let extent = (at, LEN - at);
            match pipe.send_file(&near, &file, extent, (1 << 20, false), &mut lease) {
                Ok(sent) => at += sent as u64,
                Err(Fault::Socket(error)) if error.kind() == ErrorKind::WouldBlock => {
                    let mut some = vec![0; 1 << 20];
                    let count = far.read(&mut some).expect("bytes wait");
                    arrived.extend_from_slice(&some[..count]);
                }
                Err(fault) => panic!("{fault:?}"),
            }
            between(&mut pipe, &file);
        }
        drop(near);
        far.read_to_end(&mut arrived).expect("an orderly end");
        (arrived, content, kept)
    }

    #[test]
    fn what_the_socket_did_not_take_is_sent_first() {
        let (arrived, content, kept) = send_in_turns(|_, _| ());
        assert!(arrived == content);
        assert!(kept > 0, "the socket took everything at once");
    }

    #[test]
    fn what_others_threw_away_is_read_again() {
        let (arrived, content, kept) = send_in_turns(|pipe, file| {
            let theirs = pipe.load(file, 4096, 4096).expect("read");
            assert_eq!(theirs.len(), 4096);
        });
        assert!(arrived == content);
        assert_eq!(kept, 0);
    }
}
