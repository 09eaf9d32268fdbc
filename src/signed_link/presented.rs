//! A link in the query of a request.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use percent_encoding::percent_decode;

use super::grant::{LinkGrant, Scope, depth_of};
use super::keys::{Keys, Signature};

/// A link from a request's query, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// In seconds since 1970.
    pub expires: u64,
    /// How many components of the request's path the link was signed for; `None` for all of them
    /// and nothing beneath.
    pub depth: Option<usize>,
    /// The clients that may use it; `None` for all.
    pub client: Option<IpNet>,
    /// To be verified.
    pub signature: Signature,
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The link differs from the one that was signed, or no key here has signed it.
    Altered,
    /// The link's time has passed.
    Expired,
    /// The link is for other clients.
    OtherClient,
}

impl Presented {
    /// The link in a query, if there is one.
    ///
    /// # Errors
    /// The query holds a signature and no well-formed link.
    pub fn parse(query: &[u8]) -> Option<Result<Self, Rejection>> {
        // Most queries hold no link.
        memchr::memmem::find(query, b"sig=")?;
        let mut values = [None, None, None, None];
        let mut is_malformed = false;
        for pair in query.split(|byte| *byte == b'&') {
            for (value, name) in values.iter_mut().zip(NAMES) {
                let Some(found) = pair
                    .strip_prefix(name.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"="))
                else {
                    continue;
                };
                let found: Vec<u8> = percent_decode(found).collect();
                is_malformed |= value.replace(found).is_some();
            }
        }
        let [expires, subtree, client, signature] = values;
        let signature = signature?;
        if is_malformed {
            return Some(Err(Rejection::Altered));
        }
        let read = || {
            let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
            Some(Self {
                expires: exact(&expires?)?,
                depth: optional(subtree.as_deref(), exact)?,
                client: optional(client.as_deref(), exact::<IpNet>)?,
                signature: signature.try_into().ok()?,
            })
        };
        Some(read().ok_or(Rejection::Altered))
    }

    /// The path that the link opens, if it opens the canonical `path` to this client, which has no
    /// address on a Unix socket. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Rejection`]; only a link that was signed here is reported as expired.
    pub fn verify<'a>(
        &self,
        keys: &Keys,
        path: &'a [u8],
        client: Option<IpAddr>,
        now: u64,
    ) -> Result<&'a [u8], Rejection> {
        let (path, scope) = match self.depth {
            None => (path, Scope::Path),
            Some(depth) => (first(path, depth)?, Scope::Subtree),
        };
        let grant = LinkGrant {
            path,
            scope,
            expires: self.expires,
            client: self.client,
        };
        if !keys.have_signed(&grant, &self.signature) {
            return Err(Rejection::Altered);
        }
        if now >= self.expires {
            return Err(Rejection::Expired);
        }
        let is_in = |net: IpNet| client.is_some_and(|it| net.contains(&it.to_canonical()));
        match self.client.is_none_or(is_in) {
            true => Ok(path),
            false => Err(Rejection::OtherClient),
        }
    }
}

impl fmt::Display for Presented {
    /// The parameters of the query, without a question mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [expires, subtree, client, signature] = NAMES;
        write!(f, "{expires}={}", self.expires)?;
        if let Some(depth) = self.depth {
            write!(f, "&{subtree}={depth}")?;
        }
        if let Some(net) = self.client {
            write!(f, "&{client}={net}")?;
        }
        write!(f, "&{signature}={}", URL_SAFE_NO_PAD.encode(self.signature))
    }
}

/// The first components of a canonical path, if it has so many.
fn first(path: &[u8], depth: usize) -> Result<&[u8], Rejection> {
    if depth == 0 {
        return Ok(b"");
    }
    if depth == depth_of(path) {
        return Ok(path);
    }
    let end = memchr::memchr_iter(b'/', path).nth(depth - 1);
    end.map(|end| &path[..end]).ok_or(Rejection::Altered)
}

/// A value that is written as haul writes it, and in no other way.
fn exact<T: std::str::FromStr + fmt::Display>(text: &[u8]) -> Option<T> {
    let text = str::from_utf8(text).ok()?;
    let value: T = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Nothing, or a value that can be read.
fn optional<T>(text: Option<&[u8]>, read: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => read(text).map(Some),
    }
}

/// The parameters of a link: when it expires, the depth of a subtree, the client, the signature.
const NAMES: [&str; 4] = ["expires", "subtree", "client", "sig"];
