//! Refusals: one table of status, words for the log and the client, and what follows.

/// The reason why a request is refused. Every refusal becomes a status in HTTP and a plain close in
/// the name protocol, and is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is malformed; the text is for the client's developer (400).
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
    /// An unsupported HTTP version (505).
    VersionNotSupported,
    /// The target needs a user and a password (401 with `WWW-Authenticate`); the text is the fault
    /// of the given ones.
    Unauthorized(&'static str),
    /// The client's passwords were wrong too often: it has to wait so many seconds (429).
    TooManyGuesses(u32),
    /// The link has expired (410).
    LinkExpired,
    /// No such file, or one that is not shown (404).
    NotFound,
    /// It exists, but the file system or a rule of haul forbids it (403); the text names the
    /// reason.
    Forbidden(&'static str),
    /// Reading the file or directory failed (500); the text names the call.
    Internal(&'static str),
    /// The answer is being computed (503 with `Retry-After`).
    NotYet {
        /// When it may be there.
        seconds: u64,
    },
    /// Too many connections, transfers or open files for now (503).
    Overloaded,
    /// A precondition of the request is false (412, RFC 9110 section 13.1).
    PreconditionFailed,
    /// The requested ranges lie behind the end of the file (416).
    RangeNotSatisfiable,
}

/// A refusal in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    /// The fault of the request: for the log, and as a sentence for the client.
    pub(crate) reason: &'static str,
    /// Advice for the person or program.
    pub(crate) advice: &'static str,
    pub(crate) after: After,
}

/// The fate of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The request decides.
    AsAsked,
    /// The connection ends.
    Close,
}

impl Refusal {
    /// The reason in a few words, for the access log.
    pub(crate) fn reason(&self) -> &'static str {
        self.explained().reason
    }

    pub(crate) fn explained(&self) -> Explained {
        use After::{AsAsked, Close};
        let (status, title, reason, advice, after) = match *self {
            Self::BadRequest(reason) => (
                400,
                "Bad request",
                reason,
                "Check the address; if it was not typed by hand, the client has a fault.",
                AsAsked,
            ),
            Self::Unauthorized(reason) => (
                401,
                "Unauthorized",
                reason,
                "Log in with a user and a password of this server.",
                AsAsked,
            ),
            Self::Forbidden(reason) => (
                403,
                "Forbidden",
                reason,
                "Ask the operator of this server whether it is meant to be served.",
                AsAsked,
            ),
            Self::NotFound => (
                404,
                "Not found",
                "no such file",
                "Check the spelling, upper and lower case included, or look one directory up.",
                AsAsked,
            ),
            Self::MethodNotAllowed => (
                405,
                "Method not allowed",
                "files can be fetched here, and nothing else",
                "Use GET or HEAD.",
                AsAsked,
            ),
            Self::RequestTimeout => (
                408,
                "Request timeout",
                "the request was not whole in time",
                "Send it again, in one go.",
                Close,
            ),
            Self::LinkExpired => (
                410,
                "Gone",
                "the link has expired",
                "Ask whoever gave it to you for a new one; a download goes on where it stopped.",
                AsAsked,
            ),
            Self::PreconditionFailed => (
                412,
                "Precondition failed",
                "the file is not, or is no longer, the one that the request means",
                "Fetch it anew, without If-Match and If-Unmodified-Since.",
                AsAsked,
            ),
            Self::BodyTooLarge => (
                413,
                "Content too large",
                "the request's body is longer than this server is willing to throw away",
                "Send the request without a body.",
                Close,
            ),
            Self::TargetTooLong => (
                414,
                "URI too long",
                "the request line is longer than this server reads",
                "Use a shorter address.",
                Close,
            ),
            Self::RangeNotSatisfiable => (
                416,
                "Range not satisfiable",
                "the file ends before the range that was asked for begins",
                "Content-Range says how long the file is now.",
                AsAsked,
            ),
            Self::ExpectationFailed => (
                417,
                "Expectation failed",
                "Expect holds something other than 100-continue",
                "Send the request without it.",
                AsAsked,
            ),
            Self::TooManyGuesses(_) => (
                429,
                "Too many requests",
                "too many wrong passwords came from this address",
                "Try again after the seconds that Retry-After says.",
                AsAsked,
            ),
            Self::HeadTooLarge => (
                431,
                "Request header fields too large",
                "the header fields are too large, or there are too many of them",
                "Delete this site's cookies, or send fewer fields.",
                Close,
            ),
            Self::Internal(reason) => (
                500,
                "Internal server error",
                reason,
                "Try again; if it stays, the server's log says more.",
                AsAsked,
            ),
            Self::NotImplemented => (
                501,
                "Not implemented",
                "the request's method or transfer coding is not known here",
                "Use GET or HEAD.",
                AsAsked,
            ),
            Self::NotYet { .. } => (
                503,
                "Not ready yet",
                "the digests of the file are being computed",
                "Try again after the seconds that Retry-After says.",
                AsAsked,
            ),
            Self::Overloaded => (
                503,
                "Service unavailable",
                "too many connections, transfers or open files",
                "Try again after the seconds that Retry-After says.",
                Close,
            ),
            Self::VersionNotSupported => (
                505,
                "HTTP version not supported",
                "the request's version of HTTP is not spoken here",
                "Use HTTP/1.1.",
                Close,
            ),
        };
        Explained {
            status,
            title,
            reason,
            advice,
            after,
        }
    }
}
