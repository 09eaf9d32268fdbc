//! Waiting for a few descriptors (`poll(2)`).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `sources` is readable, `timeout` is over, or a signal has come; gives the
/// indices of those that are.
pub(crate) fn wait_readable(sources: &[impl AsFd], timeout: Duration) -> io::Result<Vec<usize>> {
    wait(sources, PollFlags::POLLIN, timeout)
}

/// Waits until one of `sources` is writable, or its connect is decided, as [`wait_readable`] does.
pub(crate) fn wait_writable(sources: &[impl AsFd], timeout: Duration) -> io::Result<Vec<usize>> {
    wait(sources, PollFlags::POLLOUT, timeout)
}

fn wait(sources: &[impl AsFd], flags: PollFlags, timeout: Duration) -> io::Result<Vec<usize>> {
    let mut polled: Vec<_> = sources
        .iter()
        .map(|source| PollFd::new(source.as_fd(), flags))
        .collect();
    // A fraction of a millisecond is rounded up, so that nobody spins.
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
