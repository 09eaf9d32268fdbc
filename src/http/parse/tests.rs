//! Heads of requests, in one piece and byte by byte.

use proptest::prelude::*;

use super::*;
use crate::http::conditional::{EntityTags, IfRange};
use crate::http::disposition::Disposition;
use crate::http::negotiate::ListingFormat;
use crate::http::range::RangeSpec;
use crate::http::validator::Strength;

fn parse(input: &[u8]) -> Parsed {
    parse_request(input, 0, &HttpLimits::default())
}

/// Parses as a connection does: again after each byte.
fn parse_by_bytes(input: &[u8], limits: &HttpLimits) -> Parsed {
    let mut scanned = 0;
    for len in 0..=input.len() {
        match parse_request(&input[..len], scanned, limits) {
            Parsed::Partial { scanned: next } => scanned = next,
            parsed => return parsed,
        }
    }
    Parsed::Partial { scanned }
}

fn request(input: &[u8]) -> Request {
    match parse(input) {
        Parsed::Complete { request, consumed } => {
            assert!(consumed <= input.len());
            request
        }
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

#[test]
fn a_request_is_taken_apart() {
    let head = b"GET /a%20b/c.bin?download&format=json HTTP/1.1\r\nHost: example.org:80\r\n\
        Range: bytes=5-\r\nIf-None-Match: \"x\"\r\nIf-Range: W/\"y\"\r\n\r\nGET /next";
    let Parsed::Complete { request, consumed } = parse(head) else {
        panic!("complete")
    };
    assert_eq!(&head[consumed..], b"GET /next");
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.target.path, b"a b/c.bin");
    assert_eq!(request.query.disposition, Disposition::Attachment);
    assert_eq!(request.query.format, Some(ListingFormat::Json));
    assert_eq!(request.host.as_deref(), Some("example.org:80"));
    assert_eq!(request.persistence, Persistence::KeepAlive);
    assert_eq!(request.body, BodyLength::Empty);
    assert_eq!(
        request.ranges.as_deref(),
        Some([RangeSpec::From(5)].as_slice())
    );
    assert_eq!(
        *request.line,
        *b"GET /a%20b/c.bin?download&format=json HTTP/1.1"
    );
    let conditions = request.conditions.as_deref().expect("two of them");
    assert!(matches!(&conditions.if_none_match, Some(EntityTags::List(tags)) if tags.len() == 1));
    assert!(
        matches!(&conditions.if_range, Some(IfRange::Tag(tag)) if tag.strength == Strength::Weak)
    );
}

#[test]
fn lines_may_end_in_lf_alone_but_not_in_both_ways() {
    assert_eq!(
        request(b"\r\n\nGET / HTTP/1.0\n\n").persistence,
        Persistence::Close
    );
    for bad in [
        b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".as_slice(),
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    ] {
        let parsed = parse(bad);
        assert!(
            matches!(parsed, Parsed::Malformed(Refusal::BadRequest(_))),
            "{parsed:?}"
        );
    }
}

#[test]
fn each_limit_has_its_refusal() {
    let limits = HttpLimits {
        request_line_bytes: 40,
        head_bytes: 100,
        fields: 2,
        ..HttpLimits::default()
    };
    let field = |len| format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(len));
    let target = |len| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(len));
    let cases = [
        (target(26), None),
        (target(27), Some(Refusal::TargetTooLong)),
        (target(500), Some(Refusal::TargetTooLong)),
        (
            format!("{}\r\n\r\n", "X".repeat(50)),
            Some(Refusal::NotImplemented),
        ),
        (field(77), None),
        (field(78), Some(Refusal::HeadTooLarge)),
        (field(5_000), Some(Refusal::HeadTooLarge)),
        ("GET / HTTP/1.0\r\na:\r\nb:\r\n\r\n".to_owned(), None),
        (
            "GET / HTTP/1.0\r\na:\r\nb:\r\nc:\r\n\r\n".to_owned(),
            Some(Refusal::HeadTooLarge),
        ),
    ];
    for (input, refusal) in cases {
        for parsed in [
            parse_request(input.as_bytes(), 0, &limits),
            parse_by_bytes(input.as_bytes(), &limits),
        ] {
            match (&parsed, refusal) {
                (Parsed::Complete { .. }, None) => {}
                (Parsed::Malformed(found), Some(refusal)) => assert_eq!(*found, refusal, "{input}"),
                _ => panic!("{input}: {parsed:?}"),
            }
        }
    }
    let many: String = (0..100).map(|n| format!("x{n}: y\r\n")).collect();
    assert_eq!(
        request(format!("GET / HTTP/1.0\r\n{many}\r\n").as_bytes()).method,
        Method::Get
    );
}

#[test]
fn what_cannot_be_granted_keeps_the_connection() {
    let cases = [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            Refusal::MethodNotAllowed,
        ),
        (
            "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            Refusal::MethodNotAllowed,
        ),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::NotImplemented),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
            Refusal::ExpectationFailed,
        ),
    ];
    for (input, refusal) in cases {
        let request = request(input.as_bytes());
        assert_eq!(request.refusal, Some(refusal), "{input}");
        assert_eq!(request.persistence, Persistence::KeepAlive, "{input}");
    }
    let climbing = request(b"GET /%2e%2e/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(climbing.refusal, Some(Refusal::BadRequest(_))));
}

#[test]
fn a_client_that_waits_to_send_its_body_is_told_or_left() {
    let expecting = "Host: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n";
    let get = request(format!("GET / HTTP/1.1\r\n{expecting}").as_bytes());
    assert_eq!(get.expectation, Expectation::Continue);
    assert_eq!(get.persistence, Persistence::KeepAlive);
    let put = request(format!("PUT / HTTP/1.1\r\n{expecting}").as_bytes());
    assert_eq!(put.persistence, Persistence::Close);
    let old =
        request(format!("GET / HTTP/1.0\r\nConnection: keep-alive\r\n{expecting}").as_bytes());
    assert_eq!(old.expectation, Expectation::None);
    let bodiless = request(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(bodiless.expectation, Expectation::None);
}

#[test]
fn a_body_beyond_the_bound_ends_the_connection() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n";
    assert_eq!(request(head.as_bytes()).persistence, Persistence::Close);
}

#[test]
fn an_absolute_target_outweighs_host() {
    let input = b"GET http://b:8080/x HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(request(input).host.as_deref(), Some("b:8080"));
    let without = parse(b"GET http://b/x HTTP/1.1\r\n\r\n");
    assert!(matches!(without, Parsed::Malformed(Refusal::BadRequest(_))));
    let odd = b"GET / HTTP/1.1\r\nHost: a'b\r\n\r\n";
    assert_eq!(request(odd).host, None);
}

#[test]
fn repeated_fields_that_may_occur_once_are_ignored() {
    let twice = |field: &str| {
        request(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n{field}\r\n\r\n").as_bytes())
    };
    assert_eq!(twice("Range: bytes=0-1").ranges, None);
    let date = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(
        twice(date).conditions.expect("present").if_modified_since,
        None
    );
    let if_range = twice("If-Range: \"a\"")
        .conditions
        .expect("present")
        .if_range;
    assert_eq!(if_range, Some(IfRange::Invalid));
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n";
    assert_eq!(request(head).ranges, None);
}

/// Pieces of which requests, sound and unsound, are made.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        4 => Just(b"GET / HTTP/1.1\r\n".to_vec()),
        1 => Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        3 => Just(b"Host: a\r\n".to_vec()),
        1 => Just(b"Content-Length: 5\r\n".to_vec()),
        1 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        1 => Just(b" folded\r\n".to_vec()),
        1 => Just(b"Range: bytes=0-,-5\r\n".to_vec()),
        1 => Just(b"X : y\r\n".to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_bare_cr_behind_a_limit_is_not_reported() {
    let limits = HttpLimits {
        request_line_bytes: 30,
        head_bytes: 60,
        ..HttpLimits::default()
    };
    let line: &[u8] = b"\x00\x0e\x00\x00\x00Transfer-Encoding: chunked\r\n\r\r";
    let fields: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 012345678901234567890123456789\r\nY: \r\r";
    for (input, refusal) in [
        (line, Refusal::NotImplemented),
        (fields, Refusal::HeadTooLarge),
    ] {
        assert_eq!(parse_by_bytes(input, &limits), Parsed::Malformed(refusal));
        assert_eq!(parse_request(input, 0, &limits), Parsed::Malformed(refusal));
    }
}

proptest! {
    #[test]
    fn a_request_in_single_bytes_parses_as_in_one_piece(input in pieces()) {
        let limits = HttpLimits {
            request_line_bytes: 30, head_bytes: 120, fields: 3, ..HttpLimits::default()
        };
        for limits in [limits, HttpLimits::default()] {
            match (parse_by_bytes(&input, &limits), parse_request(&input, 0, &limits)) {
                (Parsed::Partial { .. }, Parsed::Partial { .. }) => {}
                (one, whole) => prop_assert_eq!(one, whole),
            }
        }
    }

    #[test]
    fn what_follows_a_head_does_not_change_it(input in pieces(), more in pieces()) {
        if let Parsed::Complete { request, consumed } = parse(&input) {
            let longer = [&input[..consumed], &more].concat();
            prop_assert_eq!(parse(&longer), Parsed::Complete { request, consumed });
        }
    }
}
