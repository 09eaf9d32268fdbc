//! Calls that a signal may interrupt.

use nix::errno::Errno;

/// Repeats a call for as long as signals interrupt it (`EINTR`, signal(7)).
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
