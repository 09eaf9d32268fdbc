//! The header fields of a request, sorted by purpose.

use std::net::Ipv6Addr;

use httparse::Header;

use crate::http::conditional::{self, Conditions, IfRange};
use crate::http::credentials::Credentials;
use crate::http::date::parse_date;
use crate::http::digest_fields::DigestWishes;
use crate::http::exchange::Persistence;
use crate::http::field_values::{elements, is_token};
use crate::http::negotiate::{self, Accept, AcceptEncoding};
use crate::http::refusal::Refusal;
use crate::http::request::{BodyLength, Expectation, Version};

/// The fields that requests are read for.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    all: &'a [Header<'a>],
    host: Field<'a>,
    content_length: Field<'a>,
    transfer_encoding: Field<'a>,
    connection: Field<'a>,
    expect: Field<'a>,
    range: Field<'a>,
    accept: Field<'a>,
    accept_encoding: Field<'a>,
    authorization: Field<'a>,
    if_match: Field<'a>,
    if_none_match: Field<'a>,
    if_modified_since: Field<'a>,
    if_unmodified_since: Field<'a>,
    if_range: Field<'a>,
    want_digest: Field<'a>,
    want_repr_digest: Field<'a>,
}

/// How often a field occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// The first of several field lines' value.
    Repeated(&'a [u8]),
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Absent => Self::Once(value),
            Self::Once(first) | Self::Repeated(first) => Self::Repeated(first),
        };
    }

    /// The value of a field that may occur once only; of repeated ones it is unknown which
    /// counts.
    fn single(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) => Some(value),
            Self::Absent | Self::Repeated(_) => None,
        }
    }

    fn is_absent(self) -> bool {
        self == Self::Absent
    }
}

impl<'a> Fields<'a> {
    /// Sorts the fields in one pass.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] for a field that is framing in disguise.
    pub(super) fn sort(all: &'a [Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Self {
            all,
            ..Self::default()
        };
        for Header { name, value } in all {
            // The length first: most fields of most requests are none of these.
            let known = match name.len() {
                4 if is(name, "host") => &mut fields.host,
                5 if is(name, "range") => &mut fields.range,
                6 if is(name, "accept") => &mut fields.accept,
                6 if is(name, "expect") => &mut fields.expect,
                8 if is(name, "if-match") => &mut fields.if_match,
                8 if is(name, "if-range") => &mut fields.if_range,
                10 if is(name, "connection") => &mut fields.connection,
                11 if is(name, "want-digest") => &mut fields.want_digest,
                13 if is(name, "if-none-match") => &mut fields.if_none_match,
                13 if is(name, "authorization") => &mut fields.authorization,
                14 if is(name, "content-length") => &mut fields.content_length,
                14 if is(name, "content_length") => return Err(DISGUISED),
                15 if is(name, "accept-encoding") => &mut fields.accept_encoding,
                16 if is(name, "want-repr-digest") => &mut fields.want_repr_digest,
                17 if is(name, "transfer-encoding") => &mut fields.transfer_encoding,
                17 if is(name, "transfer_encoding") => return Err(DISGUISED),
                17 if is(name, "if-modified-since") => &mut fields.if_modified_since,
                19 if is(name, "if-unmodified-since") => &mut fields.if_unmodified_since,
                _ => continue,
            };
            known.add(value);
        }
        Ok(fields)
    }

    /// How long the body is (RFC 9112 section 6).
    pub(super) fn framing(&self, version: Version) -> Result<BodyLength, Refusal> {
        let length = match self.content_length {
            Field::Absent => None,
            Field::Once(value) => Some(parse_length(value)?),
            // Equal or not: section 6.3 lets a server refuse both, and a proxy may have chosen
            // either.
            Field::Repeated(_) => {
                return Err(Refusal::BadRequest("more than one Content-Length"));
            }
        };
        match (self.transfer_encoding, length) {
            (Field::Absent, None | Some(0)) => Ok(BodyLength::Empty),
            (Field::Absent, Some(len)) => Ok(BodyLength::Known(len)),
            (_, Some(_)) => Err(Refusal::BadRequest(
                "Content-Length and Transfer-Encoding in one request",
            )),
            // Section 6.1: to be treated as if the framing were faulty.
            (_, None) if version == Version::Http10 => Err(Refusal::BadRequest(
                "Transfer-Encoding in an HTTP/1.0 request",
            )),
            (Field::Once(value), None) if value.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyLength::Chunked)
            }
            (Field::Once(value), None) if is_coded_then_chunked(value) => {
                Err(Refusal::NotImplemented)
            }
            (Field::Once(_) | Field::Repeated(_), None) => Err(Refusal::BadRequest(
                "a Transfer-Encoding that is not `chunked` once, at its end",
            )),
        }
    }

    /// RFC 9112 section 3.2: exactly one valid `Host` on 1.1; none or one on 1.0.
    pub(super) fn check_host(&self, version: Version) -> Result<(), Refusal> {
        match self.host {
            Field::Absent if version == Version::Http11 => {
                Err(Refusal::BadRequest("an HTTP/1.1 request without Host"))
            }
            Field::Absent => Ok(()),
            Field::Repeated(_) => Err(Refusal::BadRequest("more than one Host")),
            Field::Once(value) if is_authority(value) => Ok(()),
            Field::Once(_) => Err(Refusal::BadRequest("a Host that is no host and port")),
        }
    }

    pub(super) fn host(&self) -> Option<&'a [u8]> {
        self.host.single()
    }

    pub(super) fn expectation(&self, version: Version) -> Result<Expectation, Refusal> {
        // RFC 9110 section 10.1.1: a 1.0 client cannot mean it.
        if self.expect.is_absent() || version == Version::Http10 {
            return Ok(Expectation::None);
        }
        let understood = |value: &[u8]| elements(value).all(is_continue);
        if self.values(self.expect, "expect").all(understood) {
            Ok(Expectation::Continue)
        } else {
            Err(Refusal::ExpectationFailed)
        }
    }

    /// RFC 9112 section 9.3.
    pub(super) fn persistence(&self, version: Version) -> Persistence {
        let mut keep_alive = version == Version::Http11;
        for option in self
            .values(self.connection, "connection")
            .flat_map(elements)
        {
            if option.eq_ignore_ascii_case(b"close") {
                return Persistence::Close;
            }
            keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        if keep_alive {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }

    pub(super) fn range(&self) -> Option<&'a [u8]> {
        self.range.single()
    }

    pub(super) fn conditions(&self) -> Option<Conditions> {
        let present = [
            self.if_match,
            self.if_none_match,
            self.if_modified_since,
            self.if_unmodified_since,
            self.if_range,
        ];
        if present.iter().all(|field| field.is_absent()) {
            return None;
        }
        let tags = |field: Field<'a>, name| {
            (!field.is_absent()).then(|| conditional::parse_tags(self.values(field, name)))
        };
        Some(Conditions {
            if_match: tags(self.if_match, "if-match"),
            if_unmodified_since: self.if_unmodified_since.single().and_then(parse_date),
            if_none_match: tags(self.if_none_match, "if-none-match"),
            if_modified_since: self.if_modified_since.single().and_then(parse_date),
            if_range: match self.if_range {
                Field::Absent => None,
                Field::Once(value) => Some(conditional::parse_if_range(value)),
                Field::Repeated(_) => Some(IfRange::Invalid),
            },
        })
    }

    /// RFC 9530 section 4, RFC 3230 section 4.3.1.
    pub(super) fn digests(&self) -> Option<DigestWishes> {
        if self.want_digest.is_absent() && self.want_repr_digest.is_absent() {
            return None;
        }
        let joined = |field, name| {
            let values: Vec<_> = self.values(field, name).collect();
            values.join(&b", "[..])
        };
        DigestWishes::parse(
            Some(&joined(self.want_repr_digest, "want-repr-digest")),
            Some(&joined(self.want_digest, "want-digest")),
        )
    }

    pub(super) fn accept(&self) -> Accept {
        match self.accept {
            Field::Absent => Accept::default(),
            field => negotiate::parse_accept(self.values(field, "accept")),
        }
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        Credentials::parse(self.authorization.single()?)
    }

    pub(super) fn accept_encoding(&self) -> AcceptEncoding {
        match self.accept_encoding {
            Field::Absent => AcceptEncoding::default(),
            field => negotiate::parse_accept_encoding(self.values(field, "accept-encoding")),
        }
    }

    /// All the values of a field that is a list and may be spread over several lines.
    fn values(&self, field: Field<'a>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let once = match field {
            Field::Once(value) => Some(value),
            Field::Absent | Field::Repeated(_) => None,
        };
        let repeated = match field {
            Field::Repeated(_) => self.all,
            Field::Absent | Field::Once(_) => &[],
        };
        let named = move |header: &&Header<'_>| is(header.name, name);
        once.into_iter()
            .chain(repeated.iter().filter(named).map(|header| header.value))
    }
}

fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

fn is_continue(expectation: &[u8]) -> bool {
    expectation.eq_ignore_ascii_case(b"100-continue")
}

/// RFC 9110 section 8.6: digits only, which leaves out signs, lists and white space within.
fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::BadRequest("a Content-Length that is not a number"));
    }
    let digits = str::from_utf8(value).unwrap_or_default();
    digits.parse().map_err(|_| Refusal::BodyTooLarge)
}

/// Whether known syntax names a coding under the chunks, none of which is supported.
fn is_coded_then_chunked(value: &[u8]) -> bool {
    let mut codings: Vec<_> = elements(value).collect();
    let chunked_at_end = codings
        .pop()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    chunked_at_end
        && !codings.is_empty()
        && codings.iter().all(|coding| {
            coding.iter().all(|byte| is_token(*byte)) && !coding.eq_ignore_ascii_case(b"chunked")
        })
}

/// `uri-host [ ":" port ]` of RFC 9110 section 7.2, or nothing, which a client sends when its
/// target has no authority.
pub(super) fn is_authority(value: &[u8]) -> bool {
    let Ok(value) = str::from_utf8(value) else {
        return false;
    };
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, port)) if is_ip_literal(literal) => ("[]", port),
            _ => return false,
        },
        None => value.split_at(value.find(':').unwrap_or(value.len())),
    };
    let host_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=[]".contains(&byte);
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => {
            !host.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    let host_is_fine = host == "[]" || !host.contains(['[', ']']);
    port_is_fine && host_is_fine && host.bytes().all(host_byte)
}

/// An IPv6 address, perhaps with a zone (RFC 6874), or a future kind (RFC 3986 section 3.2.2).
fn is_ip_literal(literal: &str) -> bool {
    if let Some(future) = literal.strip_prefix(['v', 'V']) {
        let is_hex = |version: &str| version.bytes().all(|byte| byte.is_ascii_hexdigit());
        return future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty() && is_hex(version) && !address.is_empty() && address.is_ascii()
        });
    }
    let address = literal
        .split_once('%')
        .map_or(literal, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Some programs take an underscore for a hyphen in a field's name.
const DISGUISED: Refusal = Refusal::BadRequest("a framing field spelled with an underscore");

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(headers: &'a [Header<'a>]) -> Fields<'a> {
        Fields::sort(headers).expect("no disguise")
    }

    fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
        Header {
            name,
            value: value.as_bytes(),
        }
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        let bad: [&[(&str, &str)]; 11] = [
            &[("Content-Length", "5"), ("Content-Length", "6")],
            &[("Content-Length", "5"), ("content-length", "5")],
            &[("Content-Length", "5, 5")],
            &[("Content-Length", "+5")],
            &[("Content-Length", "0x5")],
            &[("Content-Length", "")],
            &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
            &[
                ("Transfer-Encoding", "chunked"),
                ("Transfer-Encoding", "chunked"),
            ],
            &[("Transfer-Encoding", "chunked, identity")],
            &[("Transfer-Encoding", "xchunked")],
            &[("Transfer-Encoding", "\"chunked\"")],
        ];
        for case in bad {
            let headers: Vec<_> = case
                .iter()
                .map(|(name, value)| header(name, value))
                .collect();
            let framing = fields(&headers).framing(Version::Http11);
            assert!(
                matches!(framing, Err(Refusal::BadRequest(_))),
                "{case:?}: {framing:?}"
            );
        }
        let coded = [header("Transfer-Encoding", "gzip, chunked")];
        assert_eq!(
            fields(&coded).framing(Version::Http11),
            Err(Refusal::NotImplemented)
        );
        let huge = [header("Content-Length", "18446744073709551616")];
        assert_eq!(
            fields(&huge).framing(Version::Http11),
            Err(Refusal::BodyTooLarge)
        );
        let chunked = [header("Transfer-Encoding", "Chunked")];
        assert_eq!(
            fields(&chunked).framing(Version::Http11),
            Ok(BodyLength::Chunked)
        );
        assert!(fields(&chunked).framing(Version::Http10).is_err());
        assert!(Fields::sort(&[header("Content_Length", "5")]).is_err());
    }

    #[test]
    fn a_host_is_a_host_and_a_port() {
        for fine in [
            "",
            "a",
            "a.b:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "a_b",
            "a:",
        ] {
            assert!(is_authority(fine.as_bytes()), "{fine}");
        }
        for bad in [
            "a b", "u@a", "a/b", "a:b", "[::1", "[]", "[::1]x", ":80", "a:1:2", "a:999999",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn close_outweighs_keep_alive() {
        let cases: [(&[&str], Version, Persistence); 7] = [
            (&[], Version::Http11, Persistence::KeepAlive),
            (&[], Version::Http10, Persistence::Close),
            (&["Keep-Alive"], Version::Http10, Persistence::KeepAlive),
            (&["close"], Version::Http11, Persistence::Close),
            (&["keep-alive, Close"], Version::Http11, Persistence::Close),
            (
                &["keep-alive", "close"],
                Version::Http10,
                Persistence::Close,
            ),
            (&["upgrade, te"], Version::Http11, Persistence::KeepAlive),
        ];
        for (values, version, expected) in cases {
            let headers: Vec<_> = values
                .iter()
                .map(|value| header("Connection", value))
                .collect();
            assert_eq!(
                fields(&headers).persistence(version),
                expected,
                "{values:?}"
            );
        }
    }
}
