//! The digest that a server gives of its file, in answer to HEAD: as soon as it is computed.

use std::time::Duration;

use super::client::cancellation::Cancellation;
use super::client::{Method, Request};
use super::config::DigestChoice;
use super::error::{ErrorKind, GetError};
use super::shared::Shared;
use super::shared::polling::Polling;
use super::source::HttpUrl;
use crate::digest::Checksum;
use crate::http::client_response::Head;

/// What the server says of the file.
///
/// # Errors
/// Network: the request fails.
pub(super) fn head(
    shared: &Shared,
    url: &HttpUrl,
    cancellation: &Cancellation,
) -> Result<Head, GetError> {
    let request = Request {
        url,
        method: Method::Head,
        accept: "*/*",
        range: None,
    };
    let response = shared.client.send(&request, cancellation)?;
    Ok(shared.client.release(response))
}

/// The best digest of the version that `is_wanted`, as soon as the server has it; `None` if it has
/// none, has another version, or none within `timeout`.
///
/// # Errors
/// Network: a request fails.
pub(super) fn wait_for(
    shared: &Shared,
    url: &HttpUrl,
    is_wanted: impl Fn(&Head) -> bool,
    timeout: Duration,
) -> Result<Option<Checksum>, GetError> {
    let (mut polling, cancellation) = (Polling::new(timeout), shared.cancellation());
    loop {
        let head = head(shared, url, &cancellation)?;
        if head.status != 200 || !is_wanted(&head) {
            return Ok(None);
        }
        if let Some(digest) = head.digests().into_iter().next() {
            return Ok(Some(digest));
        }
        if head.retry_after.is_none() || !polling.wait(&cancellation)? {
            return Ok(None);
        }
    }
}

/// How long to wait for the digest of a file whose download took so long.
pub(super) fn timeout(choice: DigestChoice, took: Duration) -> Duration {
    match choice {
        DigestChoice::Required => REQUIRED_TIMEOUT,
        DigestChoice::Offered => (took / 10).clamp(MIN_TIMEOUT, MAX_TIMEOUT),
    }
}

/// The failure where a digest is required, and there is none.
pub(super) fn missing(url: &impl std::fmt::Display) -> GetError {
    let text = format!("{url}: the server gives no digest of the file");
    GetError::new(ErrorKind::Verification, text).and("--require-digest asks for one")
}

/// For a server to compute a digest that is required.
const REQUIRED_TIMEOUT: Duration = Duration::from_secs(3600);
/// For a server that is still computing: a tenth of the download's time, within these.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
