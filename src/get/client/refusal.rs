//! The meaning of a status that brings no file, and advice.

use std::time::SystemTime;

use crate::get::error::{ErrorKind, GetError, Retry};
use crate::get::source::HttpUrl;
use crate::http::client_response::Head;

/// The meaning of a status that brings no file.
pub(crate) fn of_response(head: &Head, url: &HttpUrl, now: SystemTime) -> GetError {
    explain(head, url, now).with_status(head.status)
}

fn explain(head: &Head, url: &HttpUrl, now: SystemTime) -> GetError {
    let status = head.status;
    match status {
        404 | 410 => GetError::new(
            ErrorKind::NotFound,
            format!("{url}: the server has no such file ({status})"),
        ),
        // Those from 520 on are of proxies that cannot reach the server.
        408 | 425 | 429 | 500 | 502..=504 | 507 | 509 | 520..=599 => {
            let again = head.retry_after(now).map_or(Retry::Later, Retry::After);
            GetError::passing(
                ErrorKind::Network,
                format!("{url}: the server cannot answer now ({status})"),
            )
            .with_retry(again)
        }
        407 => GetError::new(
            ErrorKind::NotFound,
            format!(
                "{url}: the proxy wants a user and a password (407): \
                 http_proxy=http://USER:PASSWORD@HOST:PORT gives them"
            ),
        ),
        401 | 403 => GetError::new(
            ErrorKind::NotFound,
            format!(
                "{url}: the server does not let us have it ({status}); -u USER:PASSWORD logs in"
            ),
        ),
        400 if !url.is_secure() => GetError::new(
            ErrorKind::NotFound,
            format!(
                "{url}: the server refuses (400): if this port speaks TLS, write https:// in front"
            ),
        ),
        400..=499 => GetError::new(
            ErrorKind::NotFound,
            format!("{url}: the server refuses ({status})"),
        ),
        _ => GetError::new(
            ErrorKind::Network,
            format!("{url}: unexpected answer ({status})"),
        ),
    }
}
