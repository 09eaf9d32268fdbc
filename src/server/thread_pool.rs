//! Pools of threads that may not be had.

use std::io;

use threadpool::ThreadPool;

use crate::diagnostics::catch_quietly;

/// Starts the threads of a pool, which wait for work.
///
/// # Errors
/// `WouldBlock`, as clone(2): the system has no more threads for this process.
pub(super) fn start(name: &str, threads: usize) -> io::Result<ThreadPool> {
    // The crate panics at the first thread that cannot be had; those before it then end.
    let started = catch_quietly(|| ThreadPool::with_name(name.into(), threads));
    started.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}
