//! The request target (RFC 9112 section 3.2), with its encoding.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::fields::is_authority;
use crate::http::exchange::Target;
use crate::http::query::Query;
use crate::http::refusal::Refusal;
use crate::http::request::Method;

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
    Ok((target, query.map(Query::parse).unwrap_or_default()))
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
}
