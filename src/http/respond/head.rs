//! The bytes of a response's head.

use std::io::Write as _;

use crate::http::date::{Now, write_date};
use crate::http::digest_fields::DigestAnswer;
use crate::http::exchange::{ContentKind, Persistence, Plan, Response, Segment};
use crate::http::media::MediaType;
use crate::http::policy::{Cors, HttpPolicy};
use crate::http::range::ContentRange;
use crate::http::request::{Audience, Method, Request, Version};
use crate::http::validator::Validators;

/// A head that is being written.
pub(super) struct Head {
    status: u16,
    bytes: Vec<u8>,
}

/// The facts about a request that its response depends on.
#[derive(Clone, Copy)]
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) persistence: Persistence,
}

impl Exchange {
    /// Of what could not be parsed.
    pub(super) const UNKNOWN: Self = Self {
        method: Method::Other,
        version: Version::Http11,
        persistence: Persistence::Close,
    };

    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method,
            version: request.version,
            persistence: request.persistence,
        }
    }
}

impl Head {
    /// Begins a response with the fields that every response has.
    ///
    /// The version is always haul's own (RFC 9110 section 2.5).
    pub(super) fn new(status: u16, policy: &HttpPolicy, now: &Now) -> Self {
        let mut head = Self {
            status,
            bytes: Vec::with_capacity(TYPICAL_LEN),
        };
        head.bytes.extend_from_slice(status_line(status).as_bytes());
        head.field("Date", now.text());
        head.field("Server", b"haul");
        if policy.cors == Cors::AnyOrigin {
            head.field("Access-Control-Allow-Origin", b"*");
            head.field(
                "Access-Control-Expose-Headers",
                b"Accept-Ranges, Content-Encoding, Content-Range, ETag, Repr-Digest, Repr-Digest-BLAKE3",
            );
        }
        for field in &policy.fields {
            head.field(&field.name, field.value.as_bytes());
        }
        head
    }

    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.bytes.extend_from_slice(value);
        self.end_line();
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.write(format_args!("{value}"));
        self.end_line();
    }

    pub(super) fn media_type(&mut self, name: &str, media_type: MediaType) {
        self.name(name);
        self.write(format_args!("{media_type}"));
        self.end_line();
    }

    pub(super) fn content_kind(&mut self, kind: ContentKind) {
        self.field("Content-Type", kind.content_type.as_bytes());
        self.field("X-Content-Type-Options", b"nosniff");
        if let Some(policy) = kind.security_policy {
            self.field("Content-Security-Policy", policy.as_bytes());
            self.field("Referrer-Policy", NO_REFERRER);
        }
    }

    /// The caches that may keep the answer, and until when: content that a password or a link
    /// opened is private.
    pub(super) fn caching(&mut self, audience: Audience, policy: Option<&str>) {
        match (audience, policy) {
            (Audience::Public, None) => {}
            (Audience::Public, Some(policy)) => self.field("Cache-Control", policy.as_bytes()),
            (_, policy) => {
                self.field("Cache-Control", private(policy).as_bytes());
            }
        }
        if audience == Audience::User {
            self.field("Vary", b"Authorization");
        }
    }

    /// Makes the page send its address to no other site, if that address grants access.
    pub(super) fn referrer(&mut self, audience: Audience) {
        if audience == Audience::LinkHolder {
            self.field("Referrer-Policy", NO_REFERRER);
        }
    }

    /// The known digests among the wanted ones; a HEAD gets `Retry-After` for the others.
    pub(super) fn digests(&mut self, request: &Request, answer: DigestAnswer) {
        let (digests, retry_after) = match answer {
            DigestAnswer::None => return,
            DigestAnswer::Known(digests) => (digests, None),
            DigestAnswer::Pending(digests, seconds) => (digests, Some(seconds)),
        };
        let fields = (request.digests.as_ref()).map(|wishes| wishes.fields(&digests));
        for (name, value) in fields.unwrap_or_default() {
            self.field(name, value.as_bytes());
        }
        if let Some(seconds) = retry_after
            && request.method == Method::Head
        {
            self.number("Retry-After", seconds);
        }
    }

    pub(super) fn etag(&mut self, validators: &Validators) {
        self.name("ETag");
        validators.write_etag(&mut self.bytes);
        self.end_line();
    }

    pub(super) fn last_modified(&mut self, seconds: u64) {
        self.name("Last-Modified");
        write_date(&mut self.bytes, seconds);
        self.end_line();
    }

    pub(super) fn content_range(&mut self, range: ContentRange) {
        self.name("Content-Range");
        self.write(format_args!("{range}"));
        self.end_line();
    }

    /// Ends the head, and leaves the body out for HEAD.
    pub(super) fn respond(
        mut self,
        exchange: Exchange,
        segments: impl IntoIterator<Item = Segment>,
        content_length: u64,
    ) -> Response {
        match (exchange.persistence, exchange.version) {
            (Persistence::Close, _) => self.field("Connection", b"close"),
            // An HTTP/1.0 client has requested it and needs the confirmation.
            (Persistence::KeepAlive, Version::Http10) => self.field("Connection", b"keep-alive"),
            (Persistence::KeepAlive, Version::Http11) => {}
        }
        self.end_line();
        let (segments, content_length) = if exchange.method == Method::Head {
            (Default::default(), 0)
        } else {
            (segments.into_iter().collect(), content_length)
        };
        Response {
            status: self.status,
            head: self.bytes,
            body: Plan { segments },
            content_length,
            persistence: exchange.persistence,
        }
    }

    fn name(&mut self, name: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = self.bytes.write_fmt(arguments);
    }

    fn end_line(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A value of `Cache-Control` without what shared caches might take for leave (RFC 9111 section
/// 5.2.2).
fn private(policy: Option<&str>) -> String {
    let mut value = "private".to_owned();
    for directive in policy.into_iter().flat_map(|policy| policy.split(',')) {
        let directive = directive.trim();
        let name = directive.split('=').next().unwrap_or_default().trim_end();
        let is_shared = ["public", "private", "s-maxage", "proxy-revalidate"]
            .iter()
            .any(|shared| name.eq_ignore_ascii_case(shared));
        if !is_shared && !directive.is_empty() {
            value.push_str(", ");
            value.push_str(directive);
        }
    }
    value
}

/// The status line of each status that haul sends (RFC 9110 section 15).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK\r\n",
        204 => "HTTP/1.1 204 No Content\r\n",
        206 => "HTTP/1.1 206 Partial Content\r\n",
        301 => "HTTP/1.1 301 Moved Permanently\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        401 => "HTTP/1.1 401 Unauthorized\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        410 => "HTTP/1.1 410 Gone\r\n",
        412 => "HTTP/1.1 412 Precondition Failed\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        414 => "HTTP/1.1 414 URI Too Long\r\n",
        416 => "HTTP/1.1 416 Range Not Satisfiable\r\n",
        417 => "HTTP/1.1 417 Expectation Failed\r\n",
        429 => "HTTP/1.1 429 Too Many Requests\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => "HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// Addresses may hold a link's signature, and names are private.
const NO_REFERRER: &[u8] = b"no-referrer";

/// Enough for most heads, so that they are written without growing.
const TYPICAL_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_left_to_no_shared_cache() {
        for (policy, value) in [
            (None, "private"),
            (Some("no-cache"), "private, no-cache"),
            (Some("Public, max-age=60"), "private, max-age=60"),
            (
                Some("max-age=60,s-maxage=9 , immutable"),
                "private, max-age=60, immutable",
            ),
            (Some("private=\"x\""), "private"),
        ] {
            assert_eq!(private(policy), value);
        }
    }
}
