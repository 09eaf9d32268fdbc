//! Waiting for a few descriptors, to read or to write (`poll(2)`).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

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
