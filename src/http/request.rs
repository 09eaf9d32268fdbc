//! An HTTP request, after its syntax has been dealt with.
//!
//! The name protocol needs none of this: its request is a [`Target`] alone.

use super::client_fields::ClientFields;
use super::conditional::Conditions;
use super::credentials::Credentials;
use super::digest_fields::DigestWishes;
use super::exchange::{Persistence, Target};
use super::negotiate::{Accept, AcceptEncoding, ListingFormat};
use super::query::Query;
use super::range::RangeSpec;
use super::refusal::Refusal;

/// A request whose framing is sound: it is known where it ends, so that the next one can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The version of the request.
    pub version: Version,
    /// The target; the root when `refusal` is set or the target is `*`.
    pub target: Target,
    /// The query component.
    pub query: Query,
    /// The authority from `Host` or from an absolute target, if it consists of letters, digits and
    /// `-._:[]` only. It is a claim of the peer.
    pub host: Option<Box<str>>,
    /// Whether the client and the limits allow another request afterwards.
    pub persistence: Persistence,
    /// The client announces that this is its last request (RFC 9112 section 9.6).
    pub is_last: bool,
    /// The length of the body that follows the head.
    pub body: BodyLength,
    /// Whether the client waits for `100 Continue` before it sends that body.
    pub expectation: Expectation,
    /// Set when the request cannot be granted, independent of the file system. `persistence`
    /// decides whether the connection continues after the response.
    pub refusal: Option<Refusal>,
    /// The preconditions, if there are any (RFC 9110 section 13.1).
    pub conditions: Option<Box<Conditions>>,
    /// The requested byte ranges, in the request's order; `None` when there is no `Range` field or
    /// it has to be ignored (RFC 9110 section 14.2). Never empty.
    pub ranges: Option<Box<[RangeSpec]>>,
    /// Which forms of an answer made by haul itself the client likes.
    pub accept: Accept,
    /// Content codings that the client accepts (RFC 9110 section 12.5.3).
    pub accept_encoding: AcceptEncoding,
    /// The user and password that the peer claims.
    pub credentials: Option<Box<Credentials>>,
    /// The caches that may keep the answer.
    pub audience: Audience,
    /// The digests that the client wants, if any (RFC 9530).
    pub digests: Option<Box<DigestWishes>>,
    /// The raw request line, without its end, for the access log. Not necessarily UTF-8.
    pub line: Box<[u8]>,
    /// The client that a trusted proxy forwards for; other peers cannot name one.
    pub forwarded_for: Option<Box<std::net::IpAddr>>,
    /// `Referer` and `User-Agent`, if the access log has them.
    pub client_fields: Option<Box<ClientFields>>,
}

impl Request {
    /// The requested form of the listing: by the query, else by `Accept`.
    #[must_use]
    pub fn listing_format(&self) -> ListingFormat {
        self.query.format.unwrap_or(self.accept.listing)
    }

    /// The query, with its question mark, by which the link of this request opens every entry of a
    /// listing; empty without such a link.
    pub(crate) fn link_query(&self) -> String {
        match (self.audience, self.query.link.as_deref()) {
            (Audience::LinkHolder, Some(Ok(link))) if link.depth.is_some() => format!("?{link}"),
            _ => String::new(),
        }
    }
}

/// The caches that may keep an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// No login was given or needed.
    #[default]
    Public,
    /// The authenticated user.
    User,
    /// The holder of the link in the query.
    LinkHolder,
}

/// The method, as far as haul distinguishes them (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Transfer the representation.
    Get,
    /// As `Get`, without the content.
    Head,
    /// Describe what can be done.
    Options,
    /// Anything else; `refusal` tells known methods from unknown ones.
    Other,
}

/// The version of a request. A minor version above 1 counts as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, no `100 Continue`, and a close unless requested otherwise.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a request's body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    Empty,
    /// So many bytes, at least one.
    Known(u64),
    /// In chunks.
    Chunked,
}

/// The client's wait before it sends its body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    None,
    /// `100 Continue`.
    Continue,
}
