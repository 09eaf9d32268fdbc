//! Block lists of servers that have them: which blocks of a file that is here are as they should be.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::cancellation::Cancellation;
use super::client::{Method, Request, Response};
use super::error::GetError;
use super::part_file::extents::Extents;
use super::part_file::validate::{Identity, Validator};
use super::shared::Shared;
use super::shared::polling::Polling;
use super::source::HttpUrl;
use crate::digest::blocks::{self, BlockHasher, MEDIA_TYPE};
use crate::digest::{Algorithm, BlockList, Checksum};

/// The block list of the version `identity` of the file at `url`; `None` if the server has none,
/// one of another version, or none within `timeout`.
///
/// # Errors
/// Network: the request fails.
pub(super) fn list(
    shared: &Shared,
    url: &HttpUrl,
    identity: &Identity,
    timeout: Duration,
) -> Result<Option<BlockList>, GetError> {
    let (mut polling, cancellation) = (Polling::new(timeout), shared.cancellation());
    let version = (identity.length, identity.validator.as_ref());
    loop {
        match ask(shared, url, version, &cancellation)? {
            ListAnswer::List(list) => return Ok(Some(list)),
            ListAnswer::None => return Ok(None),
            ListAnswer::Pending => {}
        }
        if !polling.wait(&cancellation)? {
            return Ok(None);
        }
    }
}

/// A server's answer to the request for a list.
#[derive(Debug)]
pub(super) enum ListAnswer {
    List(BlockList),
    /// The server is still reading the file.
    Pending,
    /// The server has none of this version, or none that can be used.
    None,
}

/// Asks once for the list of the version of this length, under this validator.
///
/// # Errors
/// Network: the request fails.
pub(super) fn ask(
    shared: &Shared,
    url: &HttpUrl,
    (length, validator): (u64, Option<&Validator>),
    cancellation: &Cancellation,
) -> Result<ListAnswer, GetError> {
    // A signature may cover the query of the address, so it stays as it is.
    if url.url().query().is_some() {
        return Ok(ListAnswer::None);
    }
    let Ok(address) = url.join("?blocks") else {
        return Ok(ListAnswer::None);
    };
    let request = Request {
        url: &address,
        method: Method::Get,
        accept: MEDIA_TYPE,
        range: None,
    };
    let response = shared.client.send(&request, cancellation)?;
    let head = &response.head;
    if head.status == 200
        && head.content_type.as_deref() == Some(MEDIA_TYPE)
        && Validator::of(head).as_ref() == validator
    {
        return read(shared, response, length, cancellation);
    }
    let head = shared.client.release(response);
    match head.status {
        503 if head.retry_after.is_some() => Ok(ListAnswer::Pending),
        _ => Ok(ListAnswer::None),
    }
}

/// Reads a list of the length that the file's length implies; any other is invalid.
fn read(
    shared: &Shared,
    response: Response,
    length: u64,
    cancellation: &Cancellation,
) -> Result<ListAnswer, GetError> {
    let Response { mut body, url, .. } = response;
    let expected = usize::try_from(BlockList::encoded_len(length));
    let Some(expected) = expected.ok().filter(|bytes| *bytes <= MAX_LIST_BYTES) else {
        return Ok(ListAnswer::None);
    };
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let began = Instant::now();
    // A list that drips must not hold up a file that is whole.
    let longest = shared.config.stall_timeout + Duration::from_secs(expected as u64 / MIN_RATE);
    loop {
        let count = body.read(&mut buffer, cancellation)?;
        bytes.extend_from_slice(&buffer[..count]);
        if bytes.len() > expected || began.elapsed() > longest {
            return Ok(ListAnswer::None);
        }
        if count == 0 {
            break;
        }
    }
    if let Some(connection) = body.finish().connection {
        shared.client.keep(&url, connection);
    }
    let list = BlockList::decode(&bytes).ok();
    let list = list.filter(|list| list.len() == length);
    Ok(list.map_or(ListAnswer::None, ListAnswer::List))
}

/// The extents of `file` that match the list.
///
/// # Errors
/// LocalFile, or the run is stopped.
pub(super) fn good(
    shared: &Shared,
    (file, path): (&File, &Path),
    list: &BlockList,
) -> Result<Extents, GetError> {
    let local = |error| GetError::local("read", path, &error);
    let there = file.metadata().map_err(local)?.len();
    let mut good = Extents::default();
    let mut buffer = vec![0; PIECE_BYTES];
    for number in 0..blocks::count(list.len()) {
        shared.check()?;
        let (start, len) = blocks::extent(number, list.len());
        if start + len > there {
            break;
        }
        if is_good(file, list, number, &mut buffer).map_err(local)? {
            good.insert(start, start + len);
        }
    }
    Ok(good)
}

/// Whether a block of `file`, all of which is present, matches the list. The buffer is not empty.
pub(super) fn is_good(
    file: &File,
    list: &BlockList,
    number: u64,
    buffer: &mut [u8],
) -> io::Result<bool> {
    let (mut at, len) = blocks::extent(number, list.len());
    let end = at + len;
    let mut hasher = BlockHasher::new(number, list.len());
    while at < end {
        let piece = (end - at).min(buffer.len() as u64) as usize;
        let bytes = &mut buffer[..piece];
        file.read_exact_at(bytes, at)?;
        hasher.update(bytes);
        at += piece as u64;
    }
    let value = usize::try_from(number)
        .ok()
        .and_then(|at| list.values().get(at));
    Ok(value == Some(&hasher.finish()))
}

/// The digest of the whole file, from the list.
pub(super) fn digest(list: &BlockList) -> Option<Checksum> {
    Checksum::new(Algorithm::Blake3, *list.root())
}

/// Whether no BLAKE3 digest among these is another one than the list's.
pub(super) fn agrees(list: &BlockList, checksums: &[Checksum]) -> bool {
    let mut known = checksums.iter();
    let blake3 = known.find(|sum| sum.algorithm() == Algorithm::Blake3);
    blake3.is_none_or(|blake3| digest(list).as_ref() == Some(blake3))
}

/// The least rate of a list, in bytes a second: that of its file is 131,072 times as high.
const MIN_RATE: u64 = 16 << 10;
/// The list of a file of 32 TiB. The length is the server's word, and the list is kept in memory.
const MAX_LIST_BYTES: usize = 256 << 20;
/// A piece that stays in the processor's second cache between being read and being hashed.
pub(super) const PIECE_BYTES: usize = 128 << 10;
