//! Texts that no log may hold: signatures of links, and credentials in URLs.

use memchr::memmem;

/// Removes the secrets from a raw request, well-formed or not.
pub(crate) fn redact(request: &mut Vec<u8>) {
    redact_signatures(request);
    redact_userinfo(request);
    redact_field(request);
}

/// `sig=…`: also with its name in capitals, or with any of it percent-encoded, which opens nothing
/// but holds what would.
fn redact_signatures(request: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(value) = find_signature(&request[from..]).map(|at| from + at) {
        let rest = &request[value..];
        let len = rest.iter().position(|byte| b"& \"#;<>".contains(byte));
        let len = len.unwrap_or(rest.len());
        request.splice(value..value + len, ELLIPSIS.bytes());
        from = value + ELLIPSIS.len();
    }
}

/// Where the next signature begins.
fn find_signature(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find_map(|at| {
        let rest = b"sig=".iter().try_fold(&bytes[at..], |rest, wanted| {
            let (found, rest) = decode_first(rest)?;
            found.eq_ignore_ascii_case(wanted).then_some(rest)
        })?;
        Some(bytes.len() - rest.len())
    })
}

/// The first byte of a query, percent-decoded (RFC 3986 section 2.1), and what follows it.
fn decode_first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if let [b'%', high, low, rest @ ..] = bytes
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some((u8::try_from(high * 16 + low).ok()?, rest));
    }
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

/// A field in the place of a request, as after a head that was cut off.
fn redact_field(request: &mut Vec<u8>) {
    for name in [&b"authorization:"[..], b"proxy-authorization:", b"cookie:"] {
        if request
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
        {
            request.truncate(name.len());
            request.extend_from_slice(ELLIPSIS.as_bytes());
        }
    }
}

/// `http://user:password@host`, which no client should send.
fn redact_userinfo(request: &mut Vec<u8>) {
    let Some(start) = memmem::find(request, b"://").map(|at| at + 3) else {
        return;
    };
    let rest = &request[start..];
    let end = rest.iter().position(|byte| b"/?# ".contains(byte));
    if let Some(at) = memchr::memrchr(b'@', &rest[..end.unwrap_or(rest.len())]) {
        request.splice(start..start + at, ELLIPSIS.bytes());
    }
}

const ELLIPSIS: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_the_rest_stays() {
        for (request, logged) in [
            ("GET /f HTTP/1.1", "GET /f HTTP/1.1"),
            (
                "GET /f?expires=1&sig=abc-_&q=sig HTTP/1.1",
                "GET /f?expires=1&sig=…&q=sig HTTP/1.1",
            ),
            ("GET /f?sig=abc&SIG=def", "GET /f?sig=…&SIG=…"),
            ("f?sig%3Dabc", "f?sig%3D…"),
            ("f?%73ig=abc&s%49%67%3d=def", "f?%73ig=…&s%49%67%3d…"),
            ("f?%zzsig%", "f?%zzsig%"),
            ("authorization: Basic dTpw", "authorization:…"),
            ("GET /sig HTTP/1.1", "GET /sig HTTP/1.1"),
            (
                "GET http://a:b@c@h/x@y HTTP/1.1",
                "GET http://…@h/x@y HTTP/1.1",
            ),
            ("GET http://h/a@b HTTP/1.1", "GET http://h/a@b HTTP/1.1"),
        ] {
            let mut line = request.as_bytes().to_vec();
            redact(&mut line);
            assert_eq!(String::from_utf8_lossy(&line), logged);
        }
    }
}
