//! The state that the connections of one thread share.

use std::sync::Arc;
use std::time::Instant;

use crate::sys::buffer::Buffer;
use crate::sys::poller::Poller;
use crate::tls::client::{Connector, Scratch};

use super::config::LoadConfig;
use super::phase::ConnectionCounts;
use super::tally::Tally;
use super::target::Target;

/// The state that the connections of one thread share.
#[derive(Debug)]
pub(super) struct ThreadContext<'run> {
    pub(super) config: &'run LoadConfig,
    pub(super) targets: &'run [Target],
    pub(super) poller: Arc<Poller>,
    pub(super) tally: Tally,
    /// The targets' whole lengths, from their first range.
    pub(super) lengths: Vec<Option<u64>>,
    pub(super) now: Instant,
    pub(super) counts: ConnectionCounts,
    /// Where heads and verified content are received. Content that is discarded is not written
    /// here, so most of it is never touched.
    pub(super) room: Buffer,
    pub(super) request: Vec<u8>,
    pub(super) connector: &'run Connector,
    /// Where records are decrypted.
    pub(super) scratch: Scratch,
}
