//! The rest of a response of unknown length: a listing, produced piece by piece by disk workers and
//! framed for the wire.

use std::io;

use crate::http::chunked;
use crate::http::respond::StreamFraming;
use crate::server::access::{Grant, beneath};
use crate::server::listing::{Followed, Listing, Memory, Progress, ScanNumber};
use crate::server::shared::Shared;
use crate::sys::directory::{EntryFacts, EntryKind};
use crate::sys::file::{Kind, is_escape};

/// A listing that disk workers produce while the response is sent.
#[derive(Debug)]
pub(super) struct StreamedBody {
    listing: Listing,
    framing: StreamFraming,
    /// The directory's path from the root, for following its links.
    path: Vec<u8>,
    /// The grant that the links' targets have to be within.
    grant: Grant,
    /// The file system the directory is on.
    device: u64,
}

/// Some of a listing.
#[derive(Debug)]
pub(super) struct BodyChunk {
    /// As it goes over the wire.
    pub(super) bytes: Vec<u8>,
    /// Whether the listing ends with it.
    pub(super) is_last: bool,
}

impl StreamedBody {
    /// The listing of the directory at `path`, on file system `device`.
    pub(super) fn new(
        listing: Listing,
        framing: StreamFraming,
        (path, grant): (Vec<u8>, Grant),
        device: u64,
    ) -> Self {
        Self {
            listing,
            framing,
            path,
            grant,
            device,
        }
    }

    /// Gives back memory for a peer that does not read.
    pub(super) fn give_back(&mut self) {
        self.listing.give_back();
    }

    /// Whether there is memory to release.
    pub(super) fn memory(&self) -> Memory {
        self.listing.memory()
    }

    /// Whether the close alone marks the end of the body.
    pub(super) fn ends_by_close(&self) -> bool {
        self.framing == StreamFraming::UntilClose
    }

    /// The file system that [`Self::fill`] may wait for.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// The scan that [`Self::fill`] waits for with other connections.
    pub(super) fn awaited_scan(&self) -> Option<ScanNumber> {
        self.listing.awaited_scan()
    }

    /// Whether [`Self::fill`] has taken a shared scan a step further.
    pub(super) fn scan_is_under_way(&self) -> bool {
        self.listing.scan_is_under_way()
    }

    /// Whether [`Self::fill`] should be called after some time: others use up the memory.
    pub(super) fn take_turned_away(&mut self) -> bool {
        self.listing.take_turned_away()
    }

    /// Produces more, if only by looking at some names: others wait for the disk as well. May
    /// wait for a disk.
    pub(super) fn fill(&mut self, service: &Shared) -> io::Result<BodyChunk> {
        let mut content = Vec::new();
        let follow = |name: &[u8]| follow(&beneath(&self.path, name), &self.grant, service);
        let progress = self.listing.fill(&mut content, &follow)?;
        let is_last = progress == Progress::Done;
        if self.framing != StreamFraming::Chunked {
            return Ok(BodyChunk {
                bytes: content,
                is_last,
            });
        }
        let mut bytes = Vec::with_capacity(content.len() + 16);
        if !content.is_empty() {
            chunked::write_chunk(&mut bytes, &content);
        }
        if is_last {
            bytes.extend_from_slice(chunked::LAST_CHUNK);
        }
        Ok(BodyChunk { bytes, is_last })
    }
}

/// The target of a link at this path, within the grant.
fn follow(path: &[u8], grant: &Grant, service: &Shared) -> Followed {
    let (kind, meta, real_path) = match service.root.follow_link(path) {
        Ok(found) => found,
        Err(error) if is_escape(&error) => return Followed::Outside,
        Err(_) => return Followed::Nothing,
    };
    let access = service.access.as_ref();
    if access.is_some_and(|access| !access.permits(grant, path, &real_path)) {
        return Followed::Nothing;
    }
    let kind = match kind {
        Kind::Directory => EntryKind::Directory,
        Kind::Regular => EntryKind::File,
        Kind::Special => return Followed::Nothing,
    };
    Followed::Inside(EntryFacts {
        kind,
        len: meta.len,
        modified: meta.modified,
        inode: (meta.device, meta.inode),
    })
}
