//! Waiting for a few descriptors, to read or to write (`poll(2)`).

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The event that a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Bytes, a connection, or the end.
    Read,
    /// Room, or the outcome of a connect.
    Write,
}

/// Waits until one of `sources` is ready, `timeout` is over, or a signal arrives; returns the
/// indices of the ready ones.
pub(crate) fn wait_ready(
    sources: &[(BorrowedFd<'_>, Direction)],
    timeout: Duration,
) -> io::Result<Vec<usize>> {
    let flags = |direction| match direction {
        Direction::Read => PollFlags::POLLIN,
        Direction::Write => PollFlags::POLLOUT,
    };
    let mut polled: Vec<_> = sources
        .iter()
        .map(|(source, direction)| PollFd::new(*source, flags(*direction)))
        .collect();
    // A fraction of a millisecond is rounded up, so that no caller spins.
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let ready = polled.iter().enumerate();
    Ok(ready
        .filter(|(_, polled)| polled.any().unwrap_or(true))
        .map(|(at, _)| at)
        .collect())
}

/// Reads up to `most` bytes, or to the end of the stream, which has to come within `timeout`: a
/// time-out of each read would let a peer that sends single bytes go on for ever.
///
/// # Errors
/// Of the stream; `TimedOut`.
pub fn read_within(
    mut stream: impl Read + AsFd,
    most: usize,
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    let begun = Instant::now();
    let (mut bytes, mut room) = (Vec::new(), [0; STEP_BYTES]);
    while bytes.len() < most {
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let why = format!("it took longer than {timeout:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        if wait_ready(&[(stream.as_fd(), Direction::Read)], left)?.is_empty() {
            continue;
        }
        let room = &mut room[..STEP_BYTES.min(most - bytes.len())];
        match stream.read(room) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

const STEP_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_stream_that_drips_ends_all_the_same() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let drip = thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let read = read_within(&ours, 1 << 20, Duration::from_millis(50));
        assert_eq!(read.expect_err("no end").kind(), io::ErrorKind::TimedOut);
        drop(ours);
        drip.join().expect("it ends");
    }

    #[test]
    fn the_end_or_the_most_is_enough() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"hello").expect("sent");
        let timeout = Duration::from_secs(10);
        assert_eq!(read_within(&ours, 3, timeout).expect("read"), b"hel");
        drop(theirs);
        assert_eq!(read_within(&ours, 3, timeout).expect("read"), b"lo");
    }
}
