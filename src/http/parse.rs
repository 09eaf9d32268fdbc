//! HTTP/1.0 and HTTP/1.1 requests (RFC 9112), with every ambiguity refused.
//!
//! A head is parsed once it is whole. Ambiguous input is refused, since request smuggling depends
//! on it: the start of the next request is uncertain then, and the connection ends.

use httparse::{EMPTY_HEADER, Header};
use memchr::{memchr, memchr_iter};

use crate::http::exchange::{Persistence, Target};
use crate::http::policy::HttpLimits;
use crate::http::query::Query;
use crate::http::refusal::Refusal;
use crate::http::request::{Audience, BodyLength, Expectation, Method, Request, Version};

pub(crate) mod body;
mod fields;
mod line;
pub(crate) mod target;

use fields::Fields;
pub(crate) use line::{begins_like_request, is_request_line};

/// The interim response that invites the body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The outcome of looking at the bytes received.
// The result exists for one turn, on the stack: a box would cost every request an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head has not ended yet.
    Partial {
        /// How many bytes need not be searched again for the head's end.
        scanned: usize,
    },
    /// A request.
    Complete {
        /// The request.
        request: Request,
        /// The length of its head in bytes; its body follows.
        consumed: usize,
    },
    /// The head is malformed or too large. The start of the next request is uncertain: answer this
    /// and close.
    Malformed(Refusal),
}

/// Parses the head of the request that `input` begins with.
///
/// `scanned` is the value of an earlier [`Parsed::Partial`] for the same request, or 0. The result
/// does not depend on how the bytes were cut into pieces.
pub fn parse_request(input: &[u8], scanned: usize, limits: &HttpLimits) -> Parsed {
    match find_head(input, scanned, limits) {
        Ok(None) => {
            // The last three bytes may be the start of the end.
            Parsed::Partial {
                scanned: input.len().saturating_sub(3),
            }
        }
        Ok(Some(Head { start, end })) => match parse_head(&input[start..end], limits) {
            Ok(request) => Parsed::Complete {
                request,
                consumed: end,
            },
            Err(refusal) => Parsed::Malformed(refusal),
        },
        Err(refusal) => Parsed::Malformed(refusal),
    }
}

/// The length of the empty lines at the start of `input`, which are ignored before a request line
/// (RFC 9112 section 2.2).
pub(crate) fn blank_lines_len(input: &[u8]) -> usize {
    let mut len = 0;
    loop {
        match &input[len..] {
            [b'\r', b'\n', ..] => len += 2,
            [b'\n', ..] => len += 1,
            _ => return len,
        }
    }
}

struct Head {
    start: usize,
    end: usize,
}

fn find_head(input: &[u8], scanned: usize, limits: &HttpLimits) -> Result<Option<Head>, Refusal> {
    let start = blank_lines_len(input);
    if start > MAX_BLANK_BYTES {
        return Err(Refusal::BadRequest("empty lines in place of a request"));
    }
    let from = scanned.max(start);
    let end = memchr_iter(b'\n', &input[from..])
        .map(|at| from + at + 1)
        .find(|line_start| {
            let rest = &input[*line_start..];
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        });
    let end = end.map(|line_start| line_start + if input[line_start] == b'\n' { 1 } else { 2 });
    let head = &input[start..end.unwrap_or(input.len())];
    // Faults of the first line, bare CRs and limits are checked even in an incomplete head, in the
    // order of the bytes: a client that sends no more gets its response, and the result does not
    // depend on packet boundaries.
    let first = &head[..head.len().min(limits.request_line_bytes + 2)];
    let line_end = memchr(b'\n', first);
    match line_end {
        None if has_bare_cr(first) => return Err(line::BARE_CR),
        None if head.len() > limits.request_line_bytes + 1 => return Err(line::too_long(head)),
        None => {}
        Some(line_end) => {
            let is_new = scanned <= start + line_end;
            if is_new {
                parse_line(&head[..line_end], limits)?;
            }
            let allowed = head.len().min(limits.head_bytes.saturating_add(1));
            if has_bare_cr(input.get(from..start + allowed).unwrap_or_default()) {
                return Err(line::BARE_CR);
            }
        }
    }
    if head.len() > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(end.map(|end| Head { start, end }))
}

/// A CR before anything but LF; one at the end may still become whole.
fn has_bare_cr(bytes: &[u8]) -> bool {
    memchr_iter(b'\r', bytes).any(|at| bytes.get(at + 1).is_some_and(|next| *next != b'\n'))
}

fn parse_line<'a>(line: &'a [u8], limits: &HttpLimits) -> Result<line::Line<'a>, Refusal> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limits.request_line_bytes {
        return Err(line::too_long(line));
    }
    line::parse(line)
}

fn parse_head(head: &[u8], limits: &HttpLimits) -> Result<Request, Refusal> {
    check_line_ends(head)?;
    // The proof of a line end: `find_head` found an empty line behind it.
    let line_end = memchr(b'\n', head).ok_or(Refusal::BadRequest("the head has no line"))?;
    let line = parse_line(&head[..line_end], limits)?;
    let bytes = &head[line_end + 1..];
    let most = limits.fields.min(HttpLimits::MAX_FIELDS);
    let (mut few, mut many);
    few = [EMPTY_HEADER; FEW_FIELDS];
    let fields = match parse_fields(bytes, &mut few[..most.min(FEW_FIELDS)]) {
        // Only now, since clearing the space for many costs more than reading a few.
        Err(Refusal::HeadTooLarge) if most > FEW_FIELDS => {
            many = [EMPTY_HEADER; HttpLimits::MAX_FIELDS];
            parse_fields(bytes, &mut many[..most])?
        }
        parsed => parsed?,
    };
    let fields = Fields::sort(fields)?;
    let framing = fields.framing(line.version)?;
    let origin = target::parse(line.target, line.kind.method());
    fields.check_host(line.version)?;

    let mut refusal = line.kind.refusal();
    let (target, query, authority) = match origin {
        Ok(target::Form::Origin { target, query }) => (target, query, None),
        Ok(target::Form::Absolute {
            authority,
            target,
            query,
        }) => (target, query, Some(authority)),
        Ok(target::Form::Asterisk) => (root(), Query::default(), None),
        Err(target::Fault::Syntax(reason)) => return Err(Refusal::BadRequest(reason)),
        Err(target::Fault::Refused(reason)) => {
            refusal = refusal.or(Some(reason));
            (root(), Query::default(), None)
        }
    };
    let expectation = match fields.expectation(line.version) {
        Ok(expectation) => expectation,
        Err(unmet) => {
            refusal = refusal.or(Some(unmet));
            Expectation::None
        }
    };
    let expectation = match framing {
        BodyLength::Empty => Expectation::None,
        _ => expectation,
    };
    Ok(Request {
        persistence: persistence(&fields, line.version, framing, expectation, refusal, limits),
        is_last: fields.persistence(line.version) == Persistence::Close,
        method: line.kind.method(),
        version: line.version,
        target,
        query,
        host: authority
            .or_else(|| fields.host())
            .and_then(plain_authority),
        body: framing,
        expectation,
        refusal,
        conditions: fields.conditions().map(Box::new),
        ranges: match line.kind.method() {
            // RFC 9110 section 14.2: for GET only.
            Method::Get => fields
                .range()
                .and_then(|value| crate::http::range::parse(value, limits.ranges)),
            _ => None,
        },
        accept: fields.accept(),
        accept_encoding: fields.accept_encoding(),
        credentials: fields.credentials().map(Box::new),
        audience: Audience::Public,
        digests: fields.digests().map(Box::new),
        line: line.raw.into(),
        forwarded_for: None,
        client_fields: None,
    })
}

/// Refuses heads with mixed line ends: a lone LF is accepted (RFC 9112 section 2.2) for requests
/// typed by hand, and must not hide a line.
fn check_line_ends(head: &[u8]) -> Result<(), Refusal> {
    let crs = memchr_iter(b'\r', head).count();
    if crs > 0 && memchr_iter(b'\n', head).count() != crs {
        return Err(Refusal::BadRequest("line ends of two kinds"));
    }
    Ok(())
}

fn parse_fields<'h, 'b>(
    bytes: &'b [u8],
    storage: &'h mut [Header<'b>],
) -> Result<&'h [Header<'b>], Refusal> {
    match httparse::parse_headers(bytes, storage) {
        Ok(httparse::Status::Complete((len, fields))) if len == bytes.len() => Ok(fields),
        Ok(_) => Err(Refusal::BadRequest("the head ends within a field")),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLarge),
        Err(httparse::Error::HeaderName) => Err(Refusal::BadRequest(
            "a field name that is no token: white space before the colon, a folded line, or the like",
        )),
        Err(httparse::Error::HeaderValue) => Err(Refusal::BadRequest(
            "a control character in a field's value",
        )),
        Err(_) => Err(Refusal::BadRequest("malformed header fields")),
    }
}

fn persistence(
    fields: &Fields<'_>,
    version: Version,
    body: BodyLength,
    expectation: Expectation,
    refusal: Option<Refusal>,
    limits: &HttpLimits,
) -> Persistence {
    let too_long = matches!(body, BodyLength::Known(len) if len > limits.discarded_body_bytes);
    // Without `100 Continue` it cannot be known whether the client will send its body.
    let unknown = refusal.is_some() && expectation == Expectation::Continue;
    if too_long || unknown {
        Persistence::Close
    } else {
        fields.persistence(version)
    }
}

fn root() -> Target {
    Target {
        path: Vec::new(),
        trailing_slash: true,
    }
}

fn plain_authority(authority: &[u8]) -> Option<Box<str>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    if authority.is_empty() || !authority.iter().all(plain) {
        return None;
    }
    str::from_utf8(authority).ok().map(Box::from)
}

/// More empty lines than this in front of a request are no client's mistake.
const MAX_BLANK_BYTES: usize = 64;

/// More fields than most clients send.
const FEW_FIELDS: usize = 24;

#[cfg(test)]
mod tests;
