//! A request of the client, and its bytes.

use std::fmt::Write;

use crate::get::config::login::{self, Login};
use crate::get::config::proxy::Proxy;
use crate::get::source::HttpUrl;
use crate::http::digest_fields::WANTED;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a HttpUrl,
    pub(crate) method: Method,
    pub(crate) accept: &'a str,
    pub(crate) range: Option<RangeRequest<'a>>,
}

/// The request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
}

/// A range of bytes, and the validator of the file that it is a range of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeRequest<'a> {
    pub(crate) start: u64,
    /// The offset behind the last byte.
    pub(crate) end: u64,
    /// `If-Range`; only the first request to a mirror goes without.
    pub(crate) if_range: Option<&'a str>,
}

impl Request<'_> {
    /// The request to a server, which gets all that `login` has if it `is_named` by the user. The
    /// characters of a validator are one byte each.
    pub(super) fn bytes(&self, login: &Login, is_named: bool, proxy: Option<&Proxy>) -> Vec<u8> {
        let Self { url, accept, .. } = self;
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
        };
        let proxy = match proxy {
            Some(Proxy::Http(proxy)) if !url.is_secure() => Some(proxy),
            _ => None,
        };
        let target = proxy.map_or_else(|| url.path_and_query(), |_| url.absolute());
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        login.write(url, accept, is_named, &mut text);
        let mut field = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        };
        field("Accept-Encoding", "identity");
        if self.range.is_none() {
            field("Want-Repr-Digest", WANTED);
        }
        if let Some(credentials) = proxy.and_then(HttpUrl::credentials) {
            field("Proxy-Authorization", &login::basic(&credentials));
        }
        if let Some(RangeRequest {
            start,
            end,
            if_range,
        }) = self.range
        {
            field("Range", &format!("bytes={start}-{}", end - 1));
            if let Some(validator) = if_range {
                field("If-Range", validator);
            }
        }
        text.push_str("\r\n");
        text.chars().map(|character| character as u8).collect()
    }
}
