//! Waiting for a few descriptors (`poll(2)`).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of `sources` is readable, `timeout` is over, or a signal has come.
///
/// # Errors
/// Those of `poll(2)`, `EINTR` excepted.
pub(crate) fn wait_readable(sources: &[impl AsFd], timeout: Duration) -> io::Result<()> {
    let mut polled: Vec<_> = sources
        .iter()
        .map(|source| PollFd::new(source, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
