//! The decision between the two protocols, on bytes alone.
//!
//! A port has two protocols; [`classify`] decides by a connection's first bytes.

use crate::http::parse;
use crate::name_protocol;

/// Whether more bytes can be expected after those at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// The peer may be in the middle of its request.
    Open,
    /// The peer has sent nothing for the time of grace after a name.
    Silence,
    /// The peer has closed its side.
    HalfClose,
}

/// The meaning of a connection's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified {
    /// The decision takes more bytes.
    Undecided(SilenceRule),
    /// The start of an HTTP request, which may be incomplete.
    Http,
    /// A whole name, for [`name_protocol::parse`].
    Name {
        /// Length of the name in bytes, its end mark not counted.
        len: usize,
        /// Length of the name and its end mark.
        consumed: usize,
    },
    /// Neither protocol; the text is for the log.
    Unrecognized(&'static str),
}

/// Whether silence after the bytes at hand ends a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceRule {
    /// Silence ends the name.
    Applies,
    /// Silence ends nothing: there is no complete name yet.
    DoesNotApply,
}

/// Says what `input`, all the bytes that a connection has received so far, is.
///
/// A decided answer stays the same for more bytes, so the boundaries of packets do not matter.
pub fn classify(input: &[u8], end: InputEnd) -> Classified {
    // Empty lines before a request line are ignored (RFC 9112 section 2.2), and an empty name is no
    // name.
    let blank = parse::blank_lines_len(input);
    if blank > 0 || input.is_empty() {
        return match end {
            _ if blank < input.len() => Classified::Http,
            InputEnd::Open if blank > 0 => Classified::Undecided(SilenceRule::Applies),
            InputEnd::Open => Classified::Undecided(SilenceRule::DoesNotApply),
            InputEnd::Silence if blank == 0 => Classified::Undecided(SilenceRule::DoesNotApply),
            InputEnd::Silence | InputEnd::HalfClose => Classified::Name {
                len: 0,
                consumed: blank,
            },
        };
    }
    if is_tls(input) {
        Classified::Unrecognized("TLS on a port that speaks plain text; see --listen-tls")
    } else if parse::begins_like_request(input) {
        // Whatever follows: a client that means HTTP gets its answer in HTTP.
        Classified::Http
    } else {
        classify_name(input, end)
    }
}

/// Whether it is the start of a TLS handshake (RFC 8446 section 5.1), which is no name.
pub(super) fn is_tls(input: &[u8]) -> bool {
    input.starts_with(&[0x16, 3])
}

/// A name, unless the line that it would be ends in something like an HTTP version.
fn classify_name(input: &[u8], end: InputEnd) -> Classified {
    let mark = memchr::memchr2(b'\n', 0, input);
    let line = match mark {
        Some(mark) if input[mark] == b'\n' => strip_cr(&input[..mark]),
        Some(mark) => &input[..mark],
        // The LF of a CRLF may still be on its way.
        None => strip_cr(input),
    };
    if line.len() > name_protocol::MAX_NAME_BYTES {
        return Classified::Unrecognized("a name longer than 4,096 bytes");
    }
    if line.iter().any(|byte| byte.is_ascii_control()) {
        return Classified::Unrecognized("control characters in the name");
    }
    if let Err(error) = str::from_utf8(line) {
        // A character that is cut off at the end of the input may still become whole.
        let may_become_whole = error.error_len().is_none() && mark.is_none();
        if !may_become_whole || end != InputEnd::Open {
            return Classified::Unrecognized("a name that is not UTF-8");
        }
    }
    match (mark, end) {
        (Some(mark), _) if input[mark] == b'\n' && parse::is_request_line(line) => Classified::Http,
        (Some(mark), _) => Classified::Name {
            len: line.len(),
            consumed: mark + 1,
        },
        (None, InputEnd::Silence | InputEnd::HalfClose) => Classified::Name {
            len: line.len(),
            consumed: input.len(),
        },
        (None, InputEnd::Open) => Classified::Undecided(SilenceRule::Applies),
    }
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(len: usize, consumed: usize) -> Classified {
        Classified::Name { len, consumed }
    }

    #[test]
    fn a_name_ends_at_any_of_its_marks() {
        let cases: [(&[u8], InputEnd, Classified); 9] = [
            (b"a b.bin\n", InputEnd::Open, name(7, 8)),
            (b"a b.bin\r\nmore", InputEnd::Open, name(7, 9)),
            (b"a\0rest", InputEnd::Open, name(1, 2)),
            (b"a", InputEnd::HalfClose, name(1, 1)),
            (b"a\r", InputEnd::Silence, name(1, 2)),
            (b"GET", InputEnd::Silence, name(3, 3)),
            (b"forGET me not.txt\n", InputEnd::Open, name(17, 18)),
            (b"a HTTP/1.1.txt\n", InputEnd::Open, name(14, 15)),
            (b"", InputEnd::HalfClose, name(0, 0)),
        ];
        for (input, end, expected) in cases {
            assert_eq!(
                classify(input, end),
                expected,
                "{:?}",
                input.escape_ascii().to_string()
            );
        }
        let umlauts = "ÄÖ.bin".as_bytes();
        assert_eq!(classify(umlauts, InputEnd::Silence), name(8, 8));
    }

    #[test]
    fn silence_ends_a_name_and_not_a_request() {
        let applies = Classified::Undecided(SilenceRule::Applies);
        let does_not = Classified::Undecided(SilenceRule::DoesNotApply);
        assert_eq!(classify(b"GE", InputEnd::Open), applies);
        assert_eq!(classify(b"readme", InputEnd::Open), applies);
        assert_eq!(classify(b"\xc3", InputEnd::Open), applies);
        assert_eq!(classify(b"", InputEnd::Silence), does_not);
        assert_eq!(classify(b"\r\n", InputEnd::Open), applies);
        assert_eq!(classify(b"\r\n", InputEnd::Silence), name(0, 2));
    }

    #[test]
    fn what_begins_or_ends_like_a_request_line_is_http() {
        for line in [
            "GET / HTTP/1.1",
            "FROB /x HTTP/1.0",
            "PRI * HTTP/2.0",
            "GET  / HTTP/9.9",
            "GET /x",
            "GET well.txt",
            "GET / HTT/1.0",
            "FROB / HTT/1.0",
            "FROB / HTTP/1",
            "get / http/1.1",
            "FROB /x HTTP/",
        ] {
            for end in ["\n", "\r\n", "\r\nHost: x"] {
                let input = format!("{line}{end}");
                assert_eq!(
                    classify(input.as_bytes(), InputEnd::Open),
                    Classified::Http,
                    "{input}"
                );
            }
        }
        let long = [b"GET /".as_slice(), &[b'a'; 5_000]].concat();
        assert_eq!(classify(&long, InputEnd::Open), Classified::Http);
        assert_eq!(
            classify(b"\r\nGET / HTTP/1.1\r\n", InputEnd::Open),
            Classified::Http
        );
    }

    #[test]
    fn rubbish_is_told_at_once() {
        let long = [b'a'; 4_098];
        for input in [
            b"\x16\x03\x01\x02\x00".as_slice(),
            b"\x01",
            b"a\x1b[0m",
            b"\xff\xfe",
            &long,
        ] {
            assert!(
                matches!(classify(input, InputEnd::Open), Classified::Unrecognized(_)),
                "{input:?}"
            );
        }
        let longest = [[b'a'; 4_096].as_slice(), b"\r\n"].concat();
        assert_eq!(classify(&longest, InputEnd::Open), name(4_096, 4_098));
    }

    #[test]
    fn a_decision_stays_whatever_follows() {
        let inputs: [&[u8]; 7] = [
            b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"FROB /a HTTP/1.1\r\n",
            b"name with spaces.bin\r\n",
            b"GET a\0b HTTP/1.1\r\n",
            b"a\0b HTTP/1.1\r\n",
            b"\x15\x03\x01\x00\n",
            b"\r\nGET / HTTP/1.1\r\n",
        ];
        for input in inputs {
            let mut decided = None;
            for len in 0..=input.len() {
                let answer = classify(&input[..len], InputEnd::Open);
                if let Some(decided) = decided {
                    assert_eq!(
                        answer,
                        decided,
                        "{:?}",
                        input[..len].escape_ascii().to_string()
                    );
                } else if !matches!(answer, Classified::Undecided(_)) {
                    decided = Some(answer);
                }
            }
            assert!(decided.is_some(), "{:?}", input.escape_ascii().to_string());
        }
    }
}
