//! Answers in HTTP: heads as bytes, bodies as plans.
//!
//! Responses are a function of the request, the file's facts, the operator's policy and the time.

use crate::http::conditional::{self, RangeVerdict, Verdict};
use crate::http::digest_fields::DigestAnswer;
use crate::http::disposition::{self, Disposition};
use crate::http::exchange::{ContentKind, Persistence, Response, Segment, Target};
use crate::http::media::MediaType;
use crate::http::negotiate::Coding;
use crate::http::policy::{Cors, HttpPolicy};
use crate::http::range::{self, ByteRange, ContentRange, Selection};
use crate::http::refusal::Refusal;
use crate::http::request::{Method, Request, Version};
use crate::http::validator::Validators;

use crate::meta::Meta;

mod explain;
mod head;
pub use crate::http::date::Now;

use head::{Exchange, Head};

/// A file's facts for a response.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The metadata of the sent file: of the precompressed sibling, if it is chosen.
    pub meta: &'a Meta,
    /// Made from `meta`.
    pub validators: &'a Validators,
    /// The path from the root that names the content: without a sibling's suffix.
    pub path: &'a [u8],
    /// The media type, where it does not follow from the path.
    pub media_type: Option<&'static str>,
    /// The coding of the bytes.
    pub coding: Option<Coding>,
    /// Whether another request may be answered with another file.
    pub selection: Negotiation,
    /// The wanted digests of these bytes.
    pub digests: DigestAnswer,
}

/// Whether the answer depends on `Accept-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// The answer is the same for all.
    None,
    /// The response depends on the coding, which caches have to be told (`Vary`).
    ByCoding,
}

/// The head of a response whose length is not known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The head, with an empty body.
    pub response: Response,
    /// How the end of the content is marked.
    pub framing: StreamFraming,
}

/// How the end of a streamed body is marked (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFraming {
    /// There is no body: the answer to a HEAD.
    Bodiless,
    /// In chunks, see `http::chunked`.
    Chunked,
    /// By the close of the connection. A failure has to end in a reset.
    UntilClose,
}

/// Answers a GET or HEAD for a file: 200, 206, 304, 412 or 416.
pub fn to_file(
    request: &Request,
    subject: &Subject<'_>,
    policy: &HttpPolicy,
    now: &Now,
) -> Response {
    let verdict = match &request.conditions {
        Some(conditions) => conditional::evaluate(conditions, subject.validators),
        None => Verdict::Perform(RangeVerdict::Apply),
    };
    let ranges = match verdict {
        Verdict::Failed => {
            return to_refusal(Some(request), &Refusal::PreconditionFailed, policy, now);
        }
        Verdict::NotModified => return not_modified(request, subject, policy, now),
        Verdict::Perform(RangeVerdict::Ignore) => None,
        Verdict::Perform(RangeVerdict::Apply) => request.ranges.as_deref(),
    };
    let len = subject.meta.len;
    match ranges.map_or(Selection::Whole, |specs| range::resolve(specs, len)) {
        Selection::Whole => {
            let mut head = file_head(200, request, subject, policy, now);
            content_type(&mut head, subject);
            head.number("Content-Length", len);
            let extent = (len > 0).then_some(Segment::File { offset: 0, len });
            head.respond(Exchange::of(request), extent, len)
        }
        Selection::One(extent) => {
            let mut head = file_head(206, request, subject, policy, now);
            content_type(&mut head, subject);
            head.content_range(extent.content_range(len));
            head.number("Content-Length", extent.len);
            head.respond(Exchange::of(request), [extent.into()], extent.len)
        }
        Selection::Several(extents) => {
            let head = file_head(206, request, subject, policy, now);
            multipart(request, subject, &extents, head)
        }
        Selection::Unsatisfiable => {
            let mut head = Head::new(416, policy, now);
            head.content_range(ContentRange::Unsatisfied { total: len });
            explain::finish(Some(request), &Refusal::RangeNotSatisfiable, head)
        }
    }
}

/// Answers a GET or HEAD for content in memory that stands for a file: with the file's validators,
/// and with ranges.
pub(crate) fn to_content(
    request: &Request,
    subject: &Subject<'_>,
    content: &[u8],
    policy: &HttpPolicy,
    now: &Now,
) -> Response {
    let mut response = to_file(request, subject, policy, now);
    for segment in &mut response.body.segments {
        if let Segment::File { offset, len } = *segment {
            let (start, len) = (offset as usize, len as usize);
            *segment = Segment::Memory(content[start..start + len].to_vec());
        }
    }
    response
}

/// Answers a request that is refused. Without a request, because none could be parsed, the
/// connection ends.
pub(crate) fn to_refusal(
    request: Option<&Request>,
    refusal: &Refusal,
    policy: &HttpPolicy,
    now: &Now,
) -> Response {
    let mut head = Head::new(refusal.explained().status, policy, now);
    match refusal {
        Refusal::MethodNotAllowed => head.field("Allow", ALLOW),
        Refusal::Overloaded => head.number("Retry-After", RETRY_AFTER_SECONDS),
        Refusal::TooManyGuesses(seconds) => head.number("Retry-After", u64::from(*seconds)),
        Refusal::Unauthorized(_) => head.field("WWW-Authenticate", CHALLENGE),
        Refusal::NotYet { seconds } => head.number("Retry-After", *seconds),
        _ => {}
    }
    explain::finish(request, refusal, head)
}

/// Sends the client to a directory's address, which ends in a slash (301). The query stays.
pub(crate) fn to_redirect(request: &Request, policy: &HttpPolicy, now: &Now) -> Response {
    let target = Target {
        trailing_slash: true,
        ..request.target.clone()
    };
    let mut location = target.url_path().into_bytes();
    if let Some(mark) = request.line.iter().position(|byte| *byte == b'?') {
        let query = request.line[mark..]
            .split(|byte| *byte == b' ')
            .next()
            .unwrap_or_default();
        location.extend_from_slice(query);
    }
    let mut head = Head::new(301, policy, now);
    head.caching(request.audience, None);
    head.referrer(request.audience);
    head.field("Location", &location);
    head.number("Content-Length", 0);
    head.respond(Exchange::of(request), None, 0)
}

/// Answers OPTIONS (204), cross-origin preflights included.
pub(crate) fn to_options(request: &Request, policy: &HttpPolicy, now: &Now) -> Response {
    let mut head = Head::new(204, policy, now);
    head.field("Allow", ALLOW);
    if policy.cors == Cors::AnyOrigin {
        head.field("Access-Control-Allow-Methods", ALLOW);
        head.field(
            "Access-Control-Allow-Headers",
            b"Range, If-Range, If-Match, If-None-Match",
        );
        head.field("Access-Control-Max-Age", b"86400");
    }
    head.respond(Exchange::of(request), None, 0)
}

/// The head for content that is produced while it is sent (200): in chunks on HTTP/1.1 and until
/// the close on HTTP/1.0.
pub(crate) fn to_stream(
    request: &Request,
    kind: ContentKind,
    policy: &HttpPolicy,
    now: &Now,
) -> Stream {
    let mut head = Head::new(200, policy, now);
    head.content_kind(kind);
    head.caching(request.audience, Some("no-cache"));
    // The coding of the content depends on it.
    head.field("Vary", b"Accept");
    let (mut framing, persistence) = match request.version {
        Version::Http11 => (StreamFraming::Chunked, request.persistence),
        Version::Http10 => (StreamFraming::UntilClose, Persistence::Close),
    };
    if framing == StreamFraming::Chunked {
        head.field("Transfer-Encoding", b"chunked");
    }
    if request.method == Method::Head {
        framing = StreamFraming::Bodiless;
    }
    let exchange = Exchange {
        persistence,
        ..Exchange::of(request)
    };
    let response = head.respond(exchange, None, 0);
    Stream { response, framing }
}

fn not_modified(
    request: &Request,
    subject: &Subject<'_>,
    policy: &HttpPolicy,
    now: &Now,
) -> Response {
    // RFC 9110 section 15.4.5: the fields of a 200 that matter to caches.
    let mut head = Head::new(304, policy, now);
    head.etag(subject.validators);
    head.digests(request, subject.digests);
    negotiated(&mut head, request, subject, policy);
    head.respond(Exchange::of(request), None, 0)
}

/// The fields that the heads of 200 and 206 have in common.
fn file_head(
    status: u16,
    request: &Request,
    subject: &Subject<'_>,
    policy: &HttpPolicy,
    now: &Now,
) -> Head {
    let mut head = Head::new(status, policy, now);
    head.etag(subject.validators);
    head.last_modified(subject.validators.last_modified);
    head.field("Accept-Ranges", b"bytes");
    head.field("X-Content-Type-Options", b"nosniff");
    head.digests(request, subject.digests);
    if let Some(coding) = subject.coding {
        head.field("Content-Encoding", coding.name().as_bytes());
    }
    if request.query.disposition == Disposition::Attachment {
        head.field(
            "Content-Disposition",
            disposition::attachment(subject.path).as_bytes(),
        );
    }
    negotiated(&mut head, request, subject, policy);
    head
}

fn negotiated(head: &mut Head, request: &Request, subject: &Subject<'_>, policy: &HttpPolicy) {
    if subject.selection == Negotiation::ByCoding {
        head.field("Vary", b"Accept-Encoding");
    }
    head.caching(request.audience, policy.cache_control_of(subject.path));
    head.referrer(request.audience);
}

fn content_type(head: &mut Head, subject: &Subject<'_>) {
    match subject.media_type {
        Some(media_type) => head.field("Content-Type", media_type.as_bytes()),
        None => head.media_type("Content-Type", MediaType::of(subject.path)),
    }
}

/// `multipart/byteranges` (RFC 9110 section 14.6).
fn multipart(
    request: &Request,
    subject: &Subject<'_>,
    extents: &[ByteRange],
    mut head: Head,
) -> Response {
    // 128 random bits: no file holds them by chance, and no client can put them there beforehand.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let media_type = match subject.media_type {
        Some(media_type) => media_type.to_owned(),
        None => MediaType::of(subject.path).to_string(),
    };
    let mut segments = Vec::with_capacity(extents.len() * 2 + 1);
    let mut content_length = 0;
    for extent in extents {
        let range = extent.content_range(subject.meta.len);
        // Some clients expect a line end before the first boundary, and other servers send it.
        let part = format!(
            "\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n"
        )
        .into_bytes();
        content_length += part.len() as u64 + extent.len;
        segments.push(Segment::Memory(part));
        segments.push((*extent).into());
    }
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    content_length += end.len() as u64;
    segments.push(Segment::Memory(end));
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    head.field("Content-Type", content_type.as_bytes());
    head.number("Content-Length", content_length);
    head.respond(Exchange::of(request), segments, content_length)
}

impl From<ByteRange> for Segment {
    fn from(extent: ByteRange) -> Self {
        Self::File {
            offset: extent.offset,
            len: extent.len,
        }
    }
}

/// The methods that haul serves.
const ALLOW: &[u8] = b"GET, HEAD, OPTIONS";

/// RFC 7617: what the user types is sent as UTF-8.
const CHALLENGE: &[u8] = b"Basic realm=\"haul\", charset=\"UTF-8\"";

/// Seconds after which a client that was sent away may try again.
const RETRY_AFTER_SECONDS: u64 = 10;

#[cfg(test)]
mod tests;
