//! Bytes of a file into a socket.

use std::fs::File;
use std::io;
use std::net::TcpStream;

/// Sends up to `count` bytes of `file` from `offset` without copying them (sendfile(2)), and
/// says how many. Zero means that the file ends at `offset`.
///
/// # Errors
/// `WouldBlock` when the send queue is full; `InvalidInput`, `Unsupported` or `ENOSYS` when the
/// file system cannot do it, see [`is_refusal`]; errors of the file or the network.
#[cfg(all(target_os = "linux", not(haul_portable)))]
pub fn send_file(socket: &TcpStream, file: &File, offset: u64, count: u64) -> io::Result<usize> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_COUNT);
    Ok(rustix::io::retry_on_intr(|| {
        let mut at = offset;
        rustix::fs::sendfile(socket, file, Some(&mut at), count)
    })?)
}

/// Always refused: only Linux has the sendfile(2) that haul was written for.
///
/// # Errors
/// `Unsupported`.
#[cfg(not(all(target_os = "linux", not(haul_portable))))]
pub fn send_file(_: &TcpStream, _: &File, _: u64, _: u64) -> io::Result<usize> {
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

/// Linux sends at most this much in one call (sendfile(2), NOTES).
#[cfg(all(target_os = "linux", not(haul_portable)))]
const MAX_COUNT: usize = 0x7fff_f000;
