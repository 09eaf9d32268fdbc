//! The waist of the hourglass: what one exchange asks for and what it answers, as plain data.
//!
//! Wire formats (`protocol`) stand above, the file system and sockets below. Nothing here does
//! input or output, so a request, a response and a plan can be built and compared in a test.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// A point in time as a file system gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let nanoseconds = Duration::from_nanos(u64::from(timestamp.nanoseconds));
        let whole = Duration::from_secs(timestamp.seconds.unsigned_abs());
        let at = if timestamp.seconds < 0 {
            UNIX_EPOCH.checked_sub(whole)
        } else {
            UNIX_EPOCH.checked_add(whole)
        };
        at.and_then(|at| at.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
    }
}

/// What `fstat` says of a regular file. Two equal values are taken for the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The device that holds the file (`st_dev`).
    pub device: u64,
    /// The file's inode number (`st_ino`).
    pub inode: u64,
    /// Length in bytes (`st_size`).
    pub len: u64,
    /// Last change of the content (`st_mtim`).
    pub modified: Timestamp,
    /// Last change of content or inode (`st_ctim`).
    pub changed: Timestamp,
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
    /// Too many connections or transfers; try again after so many seconds (503).
    Overloaded {
        /// Seconds for `Retry-After`.
        retry_after: u32,
    },
    /// A precondition of the request is false (412, RFC 9110 section 13.1).
    PreconditionFailed,
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

/// What is to be sent, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is left to send.
    pub segments: VecDeque<Segment>,
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
