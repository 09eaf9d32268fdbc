//! Block lists of servers that have them: which blocks of a file that is here are as they should be.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{Method, Request, Response};
use super::error::GetError;
use super::part_file::extents::Extents;
use super::part_file::validate::{Identity, Validator};
use super::shared::Shared;
use super::source::HttpUrl;
use crate::digest::blocks::{self, BlockHasher, MEDIA_TYPE};
use crate::digest::{Algorithm, BlockList, Checksum};

/// The block list of the file at `url` that `identity` tells of; `None` if the server has none, or
/// one of another version, or not within `patience`.
///
/// # Errors
/// Network: the server cannot be asked.
pub(super) fn list(
    shared: &Shared,
    url: &HttpUrl,
    identity: &Identity,
    patience: Duration,
) -> Result<Option<BlockList>, GetError> {
    // An address with a query of its own may be signed as it is.
    if url.url().query().is_some() {
        return Ok(None);
    }
    let Ok(address) = url.join("?blocks") else {
        return Ok(None);
    };
    let (asked, cancellation) = (Instant::now(), shared.cancellation());
    let mut pause = LEAST_PAUSE;
    loop {
        let request = Request {
            url: &address,
            method: Method::Get,
            accept: MEDIA_TYPE,
            range: None,
        };
        let response = shared.client.send(&request, &cancellation)?;
        let head = &response.head;
        let is_pending = match head.status {
            200 if head.content_type.as_deref() == Some(MEDIA_TYPE)
                && Validator::of(head) == identity.validator =>
            {
                return read(shared, response, identity.length);
            }
            503 => head.retry_after.is_some(),
            _ => false,
        };
        pause = (pause * 2).min(MOST_PAUSE);
        if !is_pending || asked.elapsed() + pause > patience {
            return Ok(None);
        }
        cancellation.sleep(pause)?;
    }
}

/// Reads a list, which is as long as the file's length says; anything else is none.
fn read(shared: &Shared, response: Response, length: u64) -> Result<Option<BlockList>, GetError> {
    let cancellation = shared.cancellation();
    let Response { mut body, .. } = response;
    let Ok(expected) = usize::try_from(BlockList::encoded_len(length)) else {
        return Ok(None);
    };
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = body.read(&mut buffer, &cancellation)?;
        bytes.extend_from_slice(&buffer[..count]);
        if count == 0 || bytes.len() > expected {
            break;
        }
    }
    let list = BlockList::decode(&bytes).ok();
    Ok(list.filter(|list| list.len() == length))
}

/// What of `file` is as the list says.
///
/// # Errors
/// LocalFile, or somebody asked to stop.
pub(super) fn good(
    shared: &Shared,
    (file, path): (&File, &Path),
    list: &BlockList,
) -> Result<Extents, GetError> {
    let local = |error| GetError::local("read", path, &error);
    let there = file.metadata().map_err(local)?.len();
    let mut good = Extents::default();
    let mut buffer = vec![0; PIECE_BYTES];
    for (number, value) in (0..).zip(list.values()) {
        shared.check()?;
        let (start, len) = blocks::extent(number, list.len());
        let end = start + len;
        if end > there {
            break;
        }
        let mut hasher = BlockHasher::new(number, list.len());
        let mut at = start;
        while at < end {
            let piece = (end - at).min(PIECE_BYTES as u64) as usize;
            let bytes = &mut buffer[..piece];
            file.read_exact_at(bytes, at).map_err(local)?;
            hasher.update(bytes);
            at += piece as u64;
        }
        if hasher.finish() == *value {
            good.insert(start, end);
        }
    }
    Ok(good)
}

/// The digest of the whole file that a list stands for.
pub(super) fn digest(list: &BlockList) -> Option<Checksum> {
    Checksum::new(Algorithm::Blake3, *list.root())
}

const PIECE_BYTES: usize = 128 << 10;
/// A server that is done early is seen early.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const MOST_PAUSE: Duration = Duration::from_secs(5);
