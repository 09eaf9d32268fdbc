//! The request target (RFC 9112 section 3.2), with its encoding.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::fields::is_authority;
use crate::http::disposition::Disposition;
use crate::http::exchange::Target;
use crate::http::negotiate::ListingFormat;
use crate::http::refusal::Refusal;
use crate::http::request::{Method, Query, SortKey, SortOrder};
use crate::signed_link::Presented;

/// The forms of a target that haul serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// A path and perhaps a query.
    Origin {
        /// The decoded path.
        target: Target,
        /// The decoded query.
        query: Query,
    },
    /// A whole URL, as clients send to a proxy; every server has to take it.
    Absolute {
        /// Host and port; outweighs `Host`.
        authority: &'a [u8],
        /// The decoded path.
        target: Target,
        /// The decoded query.
        query: Query,
    },
    /// `*`: the server as such, for OPTIONS.
    Asterisk,
}

/// A fault of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text is none of the forms.
    Syntax(&'static str),
    /// The target is well-formed and not served.
    Refused(Refusal),
}

/// Takes a target apart. A target holds no white space and no control characters.
///
/// # Errors
/// [`Fault`], by whether other programs would read the same target.
pub fn parse(target: &[u8], method: Method) -> Result<Form<'_>, Fault> {
    match target {
        [b'/', ..] => {
            let (target, query) = parse_path_and_query(target)?;
            Ok(Form::Origin { target, query })
        }
        b"*" if method == Method::Options => Ok(Form::Asterisk),
        // The authority form of CONNECT, and HTTP/2's preface: refused by their method.
        _ if method == Method::Other => Ok(Form::Asterisk),
        _ => {
            let rest = strip_scheme(target).ok_or(Fault::Syntax(
                "the target is neither a path nor an http URL",
            ))?;
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
            let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
            if authority.is_empty() || !is_authority(authority) {
                return Err(Fault::Syntax("the target's URL has no valid host"));
            }
            let (target, query) = parse_path_and_query(rest)?;
            Ok(Form::Absolute {
                authority,
                target,
                query,
            })
        }
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
}

fn parse_path_and_query(bytes: &[u8]) -> Result<(Target, Query), Fault> {
    if bytes.contains(&b'#') {
        return Err(Fault::Syntax(
            "the target holds a fragment, which is the client's to keep",
        ));
    }
    let (path, query) = match bytes.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&bytes[..mark], Some(&bytes[mark + 1..])),
        None => (bytes, None),
    };
    let target = decode_path(path)?;
    Ok((target, query.map(parse_query).unwrap_or_default()))
}

/// Removes dot segments on the path's text (RFC 3986 section 5.2.4, with runs of slashes as one),
/// as other servers and clients do; links make no difference. Each segment is decoded once, so that
/// the file system gets what was checked.
fn decode_path(path: &[u8]) -> Result<Target, Fault> {
    let refused = |refusal| Err(Fault::Refused(refusal));
    let mut names: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut trailing_slash = true;
    for segment in path.split(|byte| *byte == b'/') {
        let segment = decode_segment(segment)?;
        trailing_slash = matches!(&*segment, b"" | b"." | b"..");
        match &*segment {
            b"" | b"." => {}
            b".." if names.pop().is_some() => {}
            b".." => return refused(Refusal::BadRequest("the path leads above the root")),
            // No name holds a slash, and a proxy in front may take it for one that parts names.
            name if name.contains(&b'/') => return refused(Refusal::NotFound),
            name if name.contains(&0) => {
                return refused(Refusal::BadRequest("the name holds a NUL byte"));
            }
            _ => names.push(segment),
        }
    }
    Ok(Target {
        path: names.join(&b'/'),
        trailing_slash,
    })
}

fn decode_segment(segment: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    let mut rest = segment;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        if !matches!(rest[at..], [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
            return Err(Fault::Refused(Refusal::BadRequest(
                "a percent sign without two hexadecimal digits",
            )));
        }
        rest = &rest[at + 3..];
    }
    Ok(percent_decode(segment).into())
}

/// Reads a query leniently: unknown keys and values count for nothing, since other programs'
/// links carry all kinds of them.
fn parse_query(bytes: &[u8]) -> Query {
    let mut query = Query {
        link: Presented::parse(bytes).map(Box::new),
        ..Query::default()
    };
    for pair in bytes.split(|byte| *byte == b'&') {
        let (key, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(mark) => (&pair[..mark], &pair[mark + 1..]),
            None => (pair, [].as_slice()),
        };
        match key {
            b"download" => query.disposition = Disposition::Attachment,
            b"blocks" => query.blocks = true,
            b"format" => {
                query.format = match value {
                    b"html" => Some(ListingFormat::Html),
                    b"json" => Some(ListingFormat::Json),
                    b"ndjson" => Some(ListingFormat::Ndjson),
                    _ => query.format,
                }
            }
            b"sort" => {
                let value = match value.strip_prefix(b"-") {
                    Some(value) => {
                        query.order = SortOrder::Descending;
                        value
                    }
                    None => value,
                };
                query.sort = match value {
                    b"size" => SortKey::Size,
                    b"time" => SortKey::Time,
                    b"kind" => SortKey::Kind,
                    _ => SortKey::Name,
                }
            }
            b"order" => {
                query.order = match value {
                    b"desc" => SortOrder::Descending,
                    _ => SortOrder::Ascending,
                }
            }
            b"after" => query.after = decode_form(value),
            b"q" => query.filter = decode_form(value),
            _ => {}
        }
    }
    query
}

/// Decodes a value as forms encode it, with `+` for a space; cut where it is longer than any name.
fn decode_form(value: &[u8]) -> Option<Box<[u8]>> {
    let value = &value[..value.len().min(3 * MAX_VALUE_BYTES)];
    let spaced: Vec<u8> = value
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded: Vec<u8> = percent_decode(&spaced).take(MAX_VALUE_BYTES).collect();
    (!decoded.is_empty()).then(|| decoded.into_boxed_slice())
}

/// No name is longer, nor is a place in a listing, which holds a name.
const MAX_VALUE_BYTES: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &str) -> Result<Vec<u8>, Fault> {
        match parse(target.as_bytes(), Method::Get)? {
            Form::Origin { target, .. } | Form::Absolute { target, .. } => Ok(target.path),
            Form::Asterisk => Ok(b"*".to_vec()),
        }
    }

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(path("/a%20b/%C3%9C"), Ok("a b/Ü".into()));
        assert_eq!(path("/a%252e"), Ok(b"a%2e".to_vec()));
        assert_eq!(path("/%ff+"), Ok(b"\xff+".to_vec()));
        assert_eq!(path("//a/./b//"), Ok(b"a/b".to_vec()));
        assert_eq!(path("/a/../b"), Ok(b"b".to_vec()));
        assert_eq!(path("/a/%2e%2E/b/c/.."), Ok(b"b".to_vec()));
        assert_eq!(path("//dir///..////"), Ok(Vec::new()));
        assert_eq!(path("http://h:1/x?y"), Ok(b"x".to_vec()));
        assert_eq!(path("HTTP://h"), Ok(Vec::new()));
    }

    #[test]
    fn a_path_above_the_root_is_refused_however_it_is_spelled() {
        for bad in [
            "/..",
            "/a/../../b",
            "/%2e%2e/",
            "/.%2E/x",
            "//..",
            "/%00",
            "/a%",
            "/%4",
            "/%zz",
        ] {
            assert!(
                matches!(path(bad), Err(Fault::Refused(Refusal::BadRequest(_)))),
                "{bad}"
            );
        }
        for encoded_slash in ["/a%2fb", "/a%2F..%2Fb", "/%2f"] {
            let refused = Err(Fault::Refused(Refusal::NotFound));
            assert_eq!(path(encoded_slash), refused, "{encoded_slash}");
        }
        for bad in [
            "a",
            "*",
            "/#",
            "ftp://h/",
            "http:///x",
            "http://u@h/",
            "http://[4712::abcd::]/",
            "http://h:99999/",
            "http://\u{fc}/",
            "://",
        ] {
            assert!(matches!(path(bad), Err(Fault::Syntax(_))), "{bad}");
        }
    }

    #[test]
    fn a_query_is_read_leniently() {
        let Ok(Form::Origin { query, .. }) = parse(
            b"/?download&sort=size&order=desc&after=a%26+b&x=%zz&&format=json&q=",
            Method::Get,
        ) else {
            panic!("a fine target");
        };
        assert_eq!(
            query,
            Query {
                disposition: Disposition::Attachment,
                format: Some(ListingFormat::Json),
                sort: SortKey::Size,
                order: SortOrder::Descending,
                after: Some(b"a& b".as_slice().into()),
                filter: None,
                link: None,
                blocks: false,
            }
        );
    }
}
