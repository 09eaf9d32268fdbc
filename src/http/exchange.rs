//! Requests and responses of either protocol, as plain data.
//!
//! Nothing here does input or output, so a response and a plan can be built and compared in a
//! test.

use std::collections::VecDeque;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::refusal::Refusal;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112).
    Http,
    /// A bare file name, answered by the file's bytes and a close.
    Name,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Http, Self::Name];

    /// Its word, for logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Name => "name",
        }
    }
}

/// A request's path, decoded and lexically safe: relative to the root, components joined by single
/// slashes, none of them empty, `.` or `..`, and without NUL.
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
    /// Makes a target of a decoded path. Empty components and `.` are dropped; a leading slash is
    /// the caller's concern.
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

    /// The path for a URL, from the root: percent-encoded, with a leading slash and, if
    /// [`Target::trailing_slash`] is set, a trailing one.
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

/// Percent-encodes one path component for a URL, for HTML and for a shell's single quotes.
pub fn percent_encode_component(component: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(component, ENCODED)
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

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The bytes to send, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The segments left to send.
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

/// Whether the connection persists after a response (RFC 9112 section 9.3).
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
    /// Bytes of content that the head promises and `body` holds.
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
