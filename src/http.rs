//! The waist of the hourglass: what one exchange asks for and what it answers, as plain data.
//!
//! Wire formats (`protocol`) stand above, the file system and sockets below. Nothing here does
//! input or output, so a request, a response and a plan can be built and compared in a test.

use std::collections::VecDeque;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

pub(crate) mod chunked;
pub(crate) mod client_response;
pub(crate) mod conditional;
pub(crate) mod date;
pub(crate) mod disposition;
mod list;
mod media;
pub(crate) mod parse;
pub(crate) mod policy;
pub(crate) mod range;
mod request;
pub(crate) mod respond;
pub(crate) mod validator;

pub use crate::meta::Meta;
pub(crate) use crate::meta::Timestamp;
pub(crate) use media::MediaType;
pub use range::RangeSpec;
pub(crate) use request::{
    Accept, AcceptEncoding, Coding, Conditions, Disposition, EntityTag, EntityTags, Expectation,
    Explanation, IfRange, ListingFormat, Query, Request, SortKey, SortOrder, Strength, Version,
};
pub use request::{BodyLength, Method};

/// The wire format a connection turned out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112).
    Http,
    /// A conversation of one message and one reply.
    Message,
    /// A bare file name, answered by the file's bytes and a close.
    Name,
}

/// What a request names, decoded and lexically safe: relative to the root, components joined by
/// single slashes, none of them empty, `.` or `..`, and without NUL.
///
/// Lexical safety is a courtesy to the reader of logs; the kernel confines the look-up itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// The path's bytes; empty for the root itself. Not necessarily UTF-8.
    pub path: Vec<u8>,
    /// The request's path ended in a slash (or was the root).
    pub trailing_slash: bool,
}

impl Target {
    /// Makes a target of a decoded path. Empty components and `.` are dropped; a slash in front
    /// is the caller's to judge.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] for a NUL and for a `..` component.
    pub fn from_path(path: &[u8]) -> Result<Self, Refusal> {
        if path.contains(&0) {
            return Err(Refusal::BadRequest("the name holds a NUL byte"));
        }
        let mut target = Self {
            path: Vec::with_capacity(path.len()),
            trailing_slash: true,
        };
        for component in path.split(|byte| *byte == b'/') {
            target.trailing_slash = matches!(component, b"" | b".");
            match component {
                b"" | b"." => {}
                b".." => return Err(Refusal::BadRequest("the name holds a `..` component")),
                _ => {
                    if !target.path.is_empty() {
                        target.path.push(b'/');
                    }
                    target.path.extend_from_slice(component);
                }
            }
        }
        Ok(target)
    }

    /// The path as it stands in a URL, from the root: percent-encoded, one slash in front and,
    /// where [`Target::trailing_slash`] is set, one behind.
    pub fn url_path(&self) -> String {
        let mut url = String::with_capacity(self.path.len() + 2);
        url.push('/');
        for (index, component) in self.path.split(|byte| *byte == b'/').enumerate() {
            if index > 0 {
                url.push('/');
            }
            url.extend(percent_encode_component(component));
        }
        if self.trailing_slash && !self.path.is_empty() {
            url.push('/');
        }
        url
    }
}

/// Percent-encodes one path component, so that it stands for itself in a URL, in HTML and
/// between a shell's single quotes.
pub(crate) fn percent_encode_component(component: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(component, ENCODED)
}

/// What tells one content of a file from another (RFC 9110 section 8.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// For `ETag`.
    pub etag: EntityTag,
    /// For `Last-Modified`: seconds since 1970, not in the future.
    pub last_modified: u64,
    /// How far `last_modified` can be trusted (RFC 9110 section 8.8.2.2).
    pub date_strength: Strength,
}

/// Why a request is refused. Every refusal becomes a status in HTTP and a plain close in the name
/// protocol, and its reason goes to the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is malformed; the text says how, for the client's developer (400).
    BadRequest(&'static str),
    /// The head or first byte took too long (408).
    RequestTimeout,
    /// The body is longer than haul is willing to throw away (413).
    BodyTooLarge,
    /// The request line is too long (414).
    TargetTooLong,
    /// The head is too large or has too many fields (431).
    HeadTooLarge,
    /// `Expect` holds something other than `100-continue` (417).
    ExpectationFailed,
    /// The method is known but not for files (405 with `Allow`).
    MethodNotAllowed,
    /// The method is unknown (501).
    NotImplemented,
    /// An HTTP version haul does not speak (505).
    VersionNotSupported,
    /// Nothing there, or nothing that is shown (404).
    NotFound,
    /// There, but the file system or a rule of haul's forbids it (403); the text says which.
    Forbidden(&'static str),
    /// Reading the file or directory failed (500); the text says what failed.
    Internal(&'static str),
    /// Too many connections, transfers or open files for now (503).
    Overloaded,
    /// A precondition of the request is false (412, RFC 9110 section 13.1).
    PreconditionFailed,
}

impl Refusal {
    /// The reason in a few words, for the access log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(why) | Self::Forbidden(why) | Self::Internal(why) => why,
            Self::RequestTimeout => "the request was not whole in time",
            Self::BodyTooLarge => "the body is too large",
            Self::TargetTooLong => "the request line is too long",
            Self::HeadTooLarge => "the head is too large",
            Self::ExpectationFailed => "an unknown expectation",
            Self::MethodNotAllowed => "a method that is not for files",
            Self::NotImplemented => "an unknown method",
            Self::VersionNotSupported => "an HTTP version that is not spoken here",
            Self::NotFound => "no such file",
            Self::Overloaded => "too many connections, transfers or open files",
            Self::PreconditionFailed => "a precondition is false",
        }
    }
}

/// A piece of a response, sent in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes at hand.
    Memory(Vec<u8>),
    /// Bytes of the represented file.
    File {
        /// First byte.
        offset: u64,
        /// Number of bytes; never zero.
        len: u64,
    },
}

impl Segment {
    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is to be sent, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is left to send.
    pub segments: VecDeque<Segment>,
}

/// The content of a response that haul makes itself, as it is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentKind {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The value of `Content-Security-Policy`, for pages.
    pub security_policy: Option<&'static str>,
}

/// Whether the connection goes on after a response (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// The response is the last.
    Close,
}

/// A response, ready to be transmitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, for the access log; 0 where the protocol has none.
    pub status: u16,
    /// Status line and header fields as they go over the wire, blank line included; empty in the
    /// name protocol.
    pub head: Vec<u8>,
    /// The content. Empty for HEAD, 304 and the like.
    pub body: Plan,
    /// Bytes of content the head promises and `body` holds.
    pub content_length: u64,
    /// Whether another request may follow.
    pub persistence: Persistence,
}

/// All but the unreserved characters of RFC 3986 section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
