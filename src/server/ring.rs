//! The state that the threads of one server share, and the ways by which a connection goes round.

use std::sync::Arc;

use crate::server::disk_queue::DiskQueue;
use crate::server::dispatch::Dispatch;
use crate::server::eviction::Eviction;
use crate::server::shared::Shared;

/// The state that the workers of one server share.
#[derive(Debug)]
pub(super) struct Ring {
    /// The state that the connections share.
    pub service: Arc<Shared>,
    /// The way to the hot workers.
    pub dispatch: Dispatch,
    /// The request to close idle connections.
    pub eviction: Eviction,
    /// The way to the disk workers.
    pub disk: Arc<DiskQueue>,
}
