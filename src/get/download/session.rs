//! A session, in which one version of a file is fetched: the state that its threads share, and its
//! ends.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::block_ledger::BlockLedger;
use super::plan::Plan;
use crate::digest::{Algorithm, Checksum};
use crate::get::checksum::contradiction;
use crate::get::client::Response;
use crate::get::part_file::validate::{Identity, Trust};
use crate::get::part_file::{PartFile, State};
use crate::get::shared::{Reporter, Shared};
use crate::http::client_response::Head;

/// A download's threads share this.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) reporter: &'a Reporter,
    pub(crate) part: &'a PartFile,
    /// The state file's content, but for the extents that are here.
    pub(crate) state: State,
    /// `None`: nothing proves that two responses are of one version, so there is only one.
    pub(crate) identity: Option<Identity>,
    /// The mirror, by index, whose version this is.
    pub(crate) source: usize,
    pub(crate) trust: Trust,
    pub(crate) checksums: &'a [Checksum],
    pub(crate) blocks: BlockLedger,
    /// The digest that a mirror gives, where nothing else proves the bytes.
    pub(crate) mirror_digest: OnceLock<Checksum>,
    pub(crate) plan: Mutex<Plan>,
    /// Nanoseconds that connections have spent writing to the file, all together.
    pub(crate) writing_nanos: AtomicU64,
}

/// How a session ended, if not in an error.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// Every byte is there, and the sums are right.
    Whole,
    /// The server cannot resume, and the response with the whole file broke off.
    Broken,
    /// The received bytes are void; `response` is a mirror's first response of a new session, if
    /// any.
    StartOver {
        why: String,
        response: Option<(usize, Box<Response>)>,
    },
}

impl Session<'_> {
    /// The proof that a response is of this file: with a list, each block in the end.
    pub(crate) fn trust(&self) -> Trust {
        match self.blocks.list() {
            Some(_) => Trust::Checksum,
            None => self.trust,
        }
    }

    /// Whether a list of blocks from the mirror with this response counts. Equal entity tags show
    /// that a mirror means the same file, not that what it says of the file is true; a mirror whose
    /// digest is not the expected one has the list of another file.
    pub(crate) fn believes_list_of(&self, mirror: usize, head: &Head) -> bool {
        let is_blake3 = |sum: &Checksum| sum.algorithm() == Algorithm::Blake3;
        let is_proven = mirror == self.source || self.checksums.iter().any(is_blake3);
        is_proven && contradiction(&[&head.digests(), self.checksums].concat()).is_none()
    }

    pub(crate) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
