//! A body that is read whole, for what it says of files: a listing, a metalink, a list of sums.

use std::io::{Seek, Write};
use std::time::SystemTime;

use tempfile::SpooledTempFile;

use crate::http::client_response::Head;

use super::client::cancellation::Cancellation;
use super::client::refusal;
use super::client::{Method, Request, Response};
use super::error::{ErrorKind, GetError};
use super::shared::attempts::Attempts;
use super::shared::{Reporter, Shared};
use super::source::HttpUrl;

/// A response and its body, on disk if it is long: a listing of a million names has a hundred
/// megabytes.
pub(super) struct Document {
    pub(super) head: Head,
    /// The address that answered.
    pub(super) url: HttpUrl,
    pub(super) text: SpooledTempFile,
}

impl Document {
    /// Goes back to the start of the text.
    pub(super) fn rewind(&mut self) -> Result<&mut SpooledTempFile, GetError> {
        self.text.rewind().map_err(|error| spool(&error))?;
        Ok(&mut self.text)
    }
}

/// A document to be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) url: &'a HttpUrl,
    pub(super) accept: &'a str,
    /// The longest body that is read.
    pub(super) max_bytes: usize,
}

/// Fetches a document, again after passing failures; reads the body if `wanted` is true.
pub(super) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    document: Wanted<'_>,
    wanted: impl Fn(&Head, &HttpUrl) -> bool,
) -> Result<Document, GetError> {
    let cancellation = shared.cancellation();
    let mut attempts = Attempts::new(shared.config.retry);
    loop {
        match fetch_once(shared, document, &wanted, &cancellation) {
            Ok(document) => return Ok(document),
            Err(error) => reporter.wait(&mut attempts, error, 0, &cancellation)?,
        }
    }
}

fn fetch_once(
    shared: &Shared,
    document: Wanted<'_>,
    wanted: &impl Fn(&Head, &HttpUrl) -> bool,
    cancellation: &Cancellation,
) -> Result<Document, GetError> {
    let request = Request {
        url: document.url,
        method: Method::Get,
        accept: document.accept,
        range: None,
    };
    let response = shared.client.send(&request, cancellation)?;
    let mut text = SpooledTempFile::new(MAX_MEMORY_BYTES);
    if response.head.status != 200 || !wanted(&response.head, &response.url) {
        let url = response.url.clone();
        let head = shared.client.release(response);
        return match head.status {
            200 => Ok(Document { head, url, text }),
            _ => Err(refusal::of_response(&head, &url, SystemTime::now())),
        };
    }
    let Response {
        head,
        mut body,
        url,
    } = response;
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        let count = body.read(&mut buffer, cancellation)?;
        if count == 0 {
            break;
        }
        length += count;
        if length > document.max_bytes {
            let text = format!("{url}: a list with more than {} bytes", document.max_bytes);
            return Err(GetError::new(ErrorKind::Network, text));
        }
        let written = text.write_all(&buffer[..count]);
        written.map_err(|error| spool(&error))?;
    }
    if let Some(connection) = body.into_connection() {
        shared.client.keep(&url, connection);
    }
    Ok(Document { head, url, text })
}

fn spool(error: &std::io::Error) -> GetError {
    GetError::local("keep a listing in", &std::env::temp_dir(), error)
}

const MAX_MEMORY_BYTES: usize = 1024 * 1024;
