//! Digests of what is served: found in the store, or computed by threads that have the least
//! right to everything: the lowest priority of processor and disk, no disk while readers of the
//! same file system want it, a bounded rate, and no page of the page cache that was not there.
//!
//! A request never waits for a digest to be computed. What is known of a file stands beside what
//! else is known of it (`OpenFile::digests`); what only the store knows takes the disk lane.

mod service;
mod task;
mod tree;
mod worker;

pub(super) use service::{Answer, DigestService};
pub(super) use tree::follow_tree;
pub(super) use worker::run_digest_worker;

/// Threads that hash: a file system that hangs keeps one of them.
pub(super) const THREADS: usize = 2;
