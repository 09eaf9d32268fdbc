//! Digests of served files: from the store, or computed by background threads. These use idle
//! processors (or the least share), read no disk that serves a reader, keep a rate limit, leave the
//! page cache as it was, and share no lock with requests.
//!
//! A file that is open for writing gets no digest: a shared mapping can change it without a new
//! time stamp. Writers are not visible for files of other users (without `CAP_LEASE`) nor to entity
//! tags, which rely on time stamps: dirty pages change under the old tag until they are written
//! back.
//!
//! A request never waits for a computation. A file's known digests are kept with its other facts
//! (`OpenFile::digests`); a look-up in the store is a disk job.

mod hash_thread;
mod service;
mod task;
mod tree;
mod watch;
mod worker;

pub(super) use hash_thread::HashThreads;
pub(super) use service::{DigestLookUp, DigestService};
pub(super) use tree::follow_tree;
pub(super) use worker::run_digest_worker;

/// Threads that hash, and as many that have them do it: a file system that hangs keeps one of them.
pub(super) const THREADS: usize = 2;
