//! The steps that end a connection's turn, and the context of a turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::access::PastGuesses;
use crate::server::files::OpenFile;
use crate::server::files::open_file_cache::OpenFileCache;
use crate::server::listing::ScanNumber;
use crate::server::shared::Shared;
use crate::server::telemetry::CloseReason;
use crate::server::transmit::sink::IoBuffers;
use crate::server::transmit::{EXTENT_BYTES, Extent};
use crate::sys::poller::Interest;
use crate::sys::process::WaitWatch;

/// Where a connection has to go after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The quantum is spent: other connections have their turn first.
    Yield,
    /// The socket has to become ready, or the deadline to pass.
    Park(Interest),
    /// The connection rests until its deadline, whatever the socket reports: its rate is used up.
    Delay,
    /// The next names or bytes are not in memory: a disk worker has to run this job.
    Disk(DiskJob),
    /// The connection has ended.
    Close(CloseReason),
}

/// A job for a disk worker, with all parameters of the disk queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskJob {
    /// The file system that the job may wait for (`st_dev`).
    pub file_system: u64,
    pub action: DiskAction,
}

impl DiskJob {
    /// To look at a password. The job waits for no file system, only for other password checks.
    pub(crate) fn check_password(guesses: PastGuesses) -> Self {
        Self {
            file_system: 0,
            action: DiskAction::CheckPassword(guesses),
        }
    }
}

/// A disk worker's action for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskAction {
    /// Look at a password, which takes time on purpose.
    CheckPassword(PastGuesses),
    /// Look the target up, and open the directory if it is one.
    LookUp,
    /// Read an extent into the page cache.
    Read(Extent, ExtentKey),
    /// Send from the disk worker: the bytes do not stay in memory, or the file system may wait for
    /// a network even so, or the last bytes have to be read.
    Send,
    /// Produce more of a listing, which may wait for a scan that others wait for as well.
    ProduceListing(Option<ScanNumber>),
    /// Sign, with a key that takes its time.
    Handshake,
}

/// The identity of an extent of a file in the disk queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExtentKey {
    device: u64,
    inode: u64,
    number: u64,
}

impl ExtentKey {
    /// The file system the extent is on (`st_dev`).
    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    /// The key of the aligned extent that holds the first byte of this one.
    pub(crate) fn new(file: &OpenFile, extent: Extent) -> Self {
        Self {
            device: file.meta.device,
            inode: file.meta.inode,
            number: extent.offset / EXTENT_BYTES,
        }
    }
}

/// Whether a connection is within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The connection is within the limits.
    Admitted,
    /// The connection is beyond a limit: its first request is answered with a refusal.
    Rejected,
}

/// The longest wait for the request of a rejected connection, which holds one of few permits.
pub(super) const REJECTED_WAIT: Duration = Duration::from_secs(2);

/// The context of a turn.
#[derive(Debug)]
pub(crate) struct TurnContext<'a> {
    pub service: &'a Shared,
    /// The time at which the turn began, or a later request was parsed. Files checked since then
    /// are fresh for a request that arrived before.
    pub now: Instant,
    /// The worker's open files.
    pub names: &'a mut OpenFileCache,
    /// The worker's buffers and pipe.
    pub tools: &'a mut IoBuffers,
    /// Sees waits that should not be.
    pub watch: &'a mut WaitWatch,
    /// Bytes of service that the turn has given; a quantum at the most.
    pub served: u64,
}

/// A looked-up file with its path, on the way from a disk worker to the cache of the hot worker
/// that gets the connection.
pub(super) type Resolved = (Vec<u8>, Arc<OpenFile>);
