//! The state of a download, which its sessions share.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::digest::{BlockList, Checksum};
use crate::get::download::block_ledger::ListSource;
use crate::get::download::expected::Expected;
use crate::get::download::holdings::Holdings;
use crate::get::download::mirrors::Mirrors;
use crate::get::download::proof::Proof;
use crate::get::error::GetError;
use crate::get::part_file::validate::Trust;
use crate::get::shared::attempts::Attempts;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::{HttpUrl, Source};

/// A file that is being downloaded over HTTP.
pub(crate) struct Transfer<'a> {
    pub(super) shared: &'a Shared,
    pub(super) reporter: &'a Reporter,
    pub(super) url: &'a HttpUrl,
    pub(super) mirrors: Mirrors,
    pub(super) target: &'a Path,
    pub(super) source: &'a Source,
    pub(super) expected: Expected,
    /// The sums or digests that the content has to have.
    pub(super) proof: Proof<'a>,
    pub(super) trust: Trust,
    pub(super) attempts: Attempts,
    pub(super) began: Instant,
    pub(super) received: u64,
    pub(super) holdings: Holdings,
    /// The list of the current version's blocks, and the sources that have one.
    pub(super) list: Option<Arc<BlockList>>,
    pub(super) list_source: Option<ListSource>,
    /// The digest of a mirror that brought bytes.
    pub(super) mirror_digest: Option<Checksum>,
    /// The server named mirrors, and a digest.
    pub(super) has_proven_mirrors: bool,
    /// Responses that looked like a passing fault, in a row, and the bytes kept at the last one.
    pub(super) suspicions: (u32, u64),
    /// Times that the file was replaced on the server meanwhile.
    pub(super) versions: u32,
    /// The wrong sum for which one address is asked alone.
    pub(super) mismatch: Option<GetError>,
}

impl Transfer<'_> {
    /// Keeps the server's digest, for later runs to verify the file by.
    pub(super) fn keep_digest(&mut self) {
        if let (Some(held), Some(digest)) = (&mut self.holdings.current, self.proof.offered()) {
            held.state.note_digest(digest);
        }
    }
}
