//! Digests of what is served: found in the store, or computed by threads that have the least
//! right to everything: idle processors, or the least share, no disk while readers of it want
//! it, a bounded rate, no page of the page cache that was not there, and no lock that others wait
//! for.
//!
//! A file that is open for writing gets none: through a shared mapping it can change without a
//! time stamp that moves. Where the system does not say who writes (files of other users, without
//! `CAP_LEASE`), and for entity tags, time stamps are all there is: pages that are dirty already
//! change under the old tag until they are written back.
//!
//! A request never waits for a digest to be computed. Known digests of a file stand beside its
//! other facts (`OpenFile::digests`); a look into the store takes the disk lane.

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
