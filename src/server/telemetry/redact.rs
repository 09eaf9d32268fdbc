//! Texts that no log may hold: signatures of links, and credentials in URLs.

use memchr::memmem;

/// Removes the secrets from a raw request, well-formed or not.
pub(crate) fn redact(request: &mut Vec<u8>) {
    redact_signatures(request);
    redact_userinfo(request);
    redact_field(request);
}

/// `sig=…`: also with its name in capitals, or with any of it percent-encoded, even twice, which
/// opens nothing but holds what would.
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

/// The first byte of a query, percent-decoded (RFC 3986 section 2.1), however often it was encoded,
/// and what follows it.
fn decode_first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut code = bytes.strip_prefix(b"%").unwrap_or_default();
    while let Some(inner) = code.strip_prefix(b"25")
        && byte_of(inner).is_some()
    {
        code = inner;
    }
    match byte_of(code) {
        Some(byte) => Some((byte, &code[2..])),
        None => bytes.split_first().map(|(first, rest)| (*first, rest)),
    }
}

/// The byte that two hexadecimal digits in front stand for.
fn byte_of(code: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*code.first()?)?, digit(*code.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
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

/// `http://user:password@host`, or what CONNECT names, which no client should send.
fn redact_userinfo(request: &mut Vec<u8>) {
    let Some(start) = authority_at(request) else {
        return;
    };
    let rest = &request[start..];
    let end = rest.iter().position(|byte| b"/?# ".contains(byte));
    if let Some(at) = memchr::memrchr(b'@', &rest[..end.unwrap_or(rest.len())]) {
        request.splice(start..start + at, ELLIPSIS.bytes());
    }
}

/// Where a request names a host: behind a scheme, or as the target of CONNECT (RFC 9112 section 3.2).
fn authority_at(request: &[u8]) -> Option<usize> {
    let connects = request.starts_with(CONNECT).then_some(CONNECT.len());
    connects.or_else(|| memmem::find(request, b"://").map(|at| at + 3))
}

const CONNECT: &[u8] = b"CONNECT ";
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
            ("f%3Fx%26sig%253Dabc", "f%3Fx%26sig%253D…"),
            ("f?%2573ig%25253dabc", "f?%2573ig%25253d…"),
            ("f?%zzsig%", "f?%zzsig%"),
            ("f?sig%25", "f?sig%25"),
            ("authorization: Basic dTpw", "authorization:…"),
            ("GET /sig HTTP/1.1", "GET /sig HTTP/1.1"),
            (
                "GET http://a:b@c@h/x@y HTTP/1.1",
                "GET http://…@h/x@y HTTP/1.1",
            ),
            ("GET http://h/a@b HTTP/1.1", "GET http://h/a@b HTTP/1.1"),
            ("CONNECT a:b@h:80 HTTP/1.1", "CONNECT …@h:80 HTTP/1.1"),
            ("GET /a@b HTTP/1.1", "GET /a@b HTTP/1.1"),
            ("a b@c", "a b@c"),
        ] {
            let mut line = request.as_bytes().to_vec();
            redact(&mut line);
            assert_eq!(String::from_utf8_lossy(&line), logged);
        }
    }
}
