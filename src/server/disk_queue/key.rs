//! Which queue a job belongs to.

use crate::server::access::PastGuesses;
use crate::server::connection::step::{DiskAction, DiskJob};
use crate::server::files::OpenFile;

/// The key of a queue, whose jobs may hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueueKey {
    /// The file system (`st_dev`).
    pub(super) device: u64,
    pub(super) kind: QueueKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueKind {
    /// A few at a time: they need no disk, but a core for a tenth of a second each. Clients without
    /// past guesses have turns of their own.
    Passwords(PastGuesses),
    LookUps,
    Listings,
    /// Signatures, which wait for no disk.
    Handshakes,
    /// Of extents, also where they are sent at the same time.
    Reads,
    /// Closes run one at a time: if closes hang, reads may still be well.
    Closes,
}

impl QueueKey {
    pub(super) fn of_job(job: DiskJob) -> Self {
        let kind = match job.action {
            DiskAction::CheckPassword(guesses) => QueueKind::Passwords(guesses),
            DiskAction::LookUp => QueueKind::LookUps,
            DiskAction::ProduceListing(_) => QueueKind::Listings,
            DiskAction::Handshake => QueueKind::Handshakes,
            DiskAction::Read(..) | DiskAction::Send => QueueKind::Reads,
        };
        let device = job.file_system;
        Self { device, kind }
    }

    pub(super) fn of_reads(file: &OpenFile) -> Self {
        let device = file.file_system.device();
        let kind = QueueKind::Reads;
        Self { device, kind }
    }
}
