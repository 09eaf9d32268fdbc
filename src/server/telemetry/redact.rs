//! What no log may hold: signatures of links, and credentials in URLs.

use memchr::memmem;

/// Takes the secrets out of a request as it came, whether or not it was understood.
pub(crate) fn redact(request: &mut Vec<u8>) {
    redact_signatures(request);
    redact_userinfo(request);
}

/// `sig=…`: also with its name in capitals, or with an equals sign that is percent-encoded, which
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
    let mut windows = bytes.windows(3).enumerate();
    windows.find_map(|(at, name)| {
        if !name.eq_ignore_ascii_case(b"sig") {
            return None;
        }
        match &bytes[at + 3..] {
            [b'=', ..] => Some(at + 4),
            [b'%', b'3', b'd' | b'D', ..] => Some(at + 6),
            _ => None,
        }
    })
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
