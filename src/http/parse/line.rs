//! The request line (RFC 9112 section 3).

use crate::http::field_values::is_token;
use crate::http::refusal::Refusal;
use crate::http::request::{Method, Version};

/// A request line taken apart.
pub(super) struct Line<'a> {
    pub(super) kind: MethodKind,
    /// Not empty, without white space and control characters.
    pub(super) target: &'a [u8],
    pub(super) version: Version,
    pub(super) raw: &'a [u8],
}

/// The methods that haul distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MethodKind {
    Served(Method),
    /// Known, but not for files (RFC 9110 section 15.5.6).
    Known,
    /// Not known (RFC 9110 section 15.6.2).
    Unknown,
}

impl MethodKind {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Served(method) => method,
            Self::Known | Self::Unknown => Method::Other,
        }
    }

    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Served(_) => None,
            Self::Known => Some(Refusal::MethodNotAllowed),
            Self::Unknown => Some(Refusal::NotImplemented),
        }
    }
}

/// Whether a first line, without its end, closes with an HTTP version after a space, or with a
/// malformed one: in lower case, mistyped, or cut short.
pub(crate) fn is_request_line(line: &[u8]) -> bool {
    let Some(space) = line.iter().rposition(|byte| *byte == b' ') else {
        return false;
    };
    let last = &line[space + 1..];
    let Some(slash) = last.iter().position(|byte| *byte == b'/') else {
        return false;
    };
    let (name, number) = (&last[..slash], &last[slash + 1..]);
    (3..=5).contains(&name.len())
        && name[0].eq_ignore_ascii_case(&b'H')
        && name.iter().all(|byte| b"HTPShtps".contains(byte))
        && number
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Whether the bytes begin with a method that is in use, and a space.
pub(crate) fn begins_like_request(input: &[u8]) -> bool {
    METHODS.iter().any(|(method, _)| {
        input.starts_with(method.as_bytes()) && input.get(method.len()) == Some(&b' ')
    })
}

/// The refusal of a line that exceeds its limit. `start` is the line or the start of it.
pub(super) fn too_long(start: &[u8]) -> Refusal {
    // RFC 9112 section 3: a method longer than any that is implemented gets 501, a target 414.
    let has_method = start
        .iter()
        .take(MAX_METHOD_BYTES + 1)
        .any(|byte| *byte == b' ');
    if has_method {
        Refusal::TargetTooLong
    } else {
        Refusal::NotImplemented
    }
}

/// Takes a request line, without its end, apart.
///
/// Single spaces only: RFC 9112 section 3 lets a server accept other white space, and warns that
/// other recipients may read it differently.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, Refusal> {
    if line.contains(&b'\r') {
        return Err(BARE_CR);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::BadRequest(
            "the request line is not a method, a target and a version with single spaces between",
        ));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::BadRequest("the method is not a token"));
    }
    if target.is_empty() || target.iter().any(u8::is_ascii_control) {
        return Err(Refusal::BadRequest(
            "the target is empty or holds control characters",
        ));
    }
    let version = parse_version(version)?;
    Ok(Line {
        kind: kind(method),
        target,
        version,
        raw: line,
    })
}

fn parse_version(version: &[u8]) -> Result<Version, Refusal> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            // RFC 9110 section 2.5: a higher minor version is served as the highest one known.
            if *major == b'1' {
                Ok(Version::Http11)
            } else {
                Err(Refusal::VersionNotSupported)
            }
        }
        _ => Err(Refusal::BadRequest(
            "the request line does not end in a version like HTTP/1.1",
        )),
    }
}

fn kind(method: &[u8]) -> MethodKind {
    METHODS
        .iter()
        .find(|(name, _)| name.as_bytes() == method)
        .map_or(MethodKind::Unknown, |(_, kind)| *kind)
}

/// The methods of RFC 9110, PATCH (RFC 5789), WebDAV's (RFC 4918) and HTTP/2's preface. Methods
/// are case-sensitive.
const METHODS: [(&str, MethodKind); 17] = [
    ("GET", MethodKind::Served(Method::Get)),
    ("HEAD", MethodKind::Served(Method::Head)),
    ("OPTIONS", MethodKind::Served(Method::Options)),
    ("POST", MethodKind::Known),
    ("PUT", MethodKind::Known),
    ("DELETE", MethodKind::Known),
    ("PATCH", MethodKind::Known),
    ("CONNECT", MethodKind::Known),
    ("TRACE", MethodKind::Known),
    ("PROPFIND", MethodKind::Known),
    ("PROPPATCH", MethodKind::Known),
    ("MKCOL", MethodKind::Known),
    ("COPY", MethodKind::Known),
    ("MOVE", MethodKind::Known),
    ("LOCK", MethodKind::Known),
    ("UNLOCK", MethodKind::Known),
    ("PRI", MethodKind::Known),
];

/// A CR without LF, which some programs take for a line end and some do not.
pub(super) const BARE_CR: Refusal = Refusal::BadRequest("a carriage return without line feed");

const MAX_METHOD_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_method_is_the_longest() {
        assert_eq!(
            METHODS.iter().map(|(name, _)| name.len()).max(),
            Some(MAX_METHOD_BYTES)
        );
    }

    #[test]
    fn a_higher_minor_version_is_served_and_a_higher_major_one_is_not() {
        assert_eq!(parse_version(b"HTTP/1.7"), Ok(Version::Http11));
        assert_eq!(
            parse_version(b"HTTP/2.0"),
            Err(Refusal::VersionNotSupported)
        );
        assert_eq!(
            parse_version(b"HTTP/0.9"),
            Err(Refusal::VersionNotSupported)
        );
        for bad in [
            b"http/1.1".as_slice(),
            b"HTTP/1.10",
            b"HTTP/1",
            b"HTTP/1.x",
            b"HTTP/+1.1",
        ] {
            assert!(matches!(parse_version(bad), Err(Refusal::BadRequest(_))));
        }
    }

    #[test]
    fn a_line_has_three_parts_and_single_spaces() {
        assert!(parse(b"GET / HTTP/1.1").is_ok());
        let bad: [&[u8]; 7] = [
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"G@T / HTTP/1.1",
        ];
        for line in bad {
            assert!(
                matches!(parse(line), Err(Refusal::BadRequest(_))),
                "{line:?}"
            );
        }
    }
}
