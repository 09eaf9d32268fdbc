//! Limits, each with its status.

use std::time::Duration;

use super::case::{Case, get, raw, request};
use crate::support::Answer;

#[test]
fn limits() {
    super::run(&cases(), |config| {
        config.http_limits.request_line_bytes = 200;
        config.http_limits.head_bytes = 600;
        config.http_limits.fields = 10;
        config.http_limits.ranges = 2;
        config.http_limits.discarded_body_bytes = 100;
    });
}

/// For the server with the limits above.
pub fn cases() -> Vec<Case> {
    // `GET ` and ` HTTP/1.1` take 13 bytes of the line.
    let target = |len: usize| format!("/ten.txt?{}", "x".repeat(len - 13 - 9));
    let fields = |count: usize| "X: a\r\n".repeat(count);
    // Line, Host, and what stands around the value take 43 bytes of the head.
    let head = |len: usize| {
        let rest = "GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n".len();
        format!("X: {}\r\n", "a".repeat(len - rest))
    };
    let chunks = |count: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", count, "x".repeat(count));
    let mut cases = vec![
        get("9112 3 the longest request line", &target(200), "")
            .is(200)
            .text("0123456789"),
        get("9110 15.5.15 one byte more", &target(201), "")
            .is(414)
            .closes(),
        get("9110 15.5.15 many bytes more", &target(5_000), "")
            .is(414)
            .closes(),
        raw(
            "9112 3 a method longer than any",
            [
                b"X".repeat(300).as_slice(),
                b" / HTTP/1.1\r\nHost: x\r\n\r\n",
            ]
            .concat(),
        )
        .is(501)
        .closes(),
        get("9112 5 the largest head", "/ten.txt", &head(600))
            .is(200)
            .text("0123456789"),
        get("6585 5 (9110 15) one byte more", "/ten.txt", &head(601))
            .is(431)
            .closes(),
        get("6585 5 (9110 15) many bytes more", "/ten.txt", &head(9_000))
            .is(431)
            .closes(),
        get("9112 5 as many fields as can be", "/ten.txt", &fields(9))
            .is(200)
            .text("0123456789"),
        get("6585 5 (9110 15) one field more", "/ten.txt", &fields(10))
            .is(431)
            .closes(),
        get(
            "9110 14.2 as many ranges as can be",
            "/ten.txt",
            "Range: bytes=0-1,4-5\r\n",
        )
        .is(206),
        get(
            "9110 14.2 one range more",
            "/ten.txt",
            "Range: bytes=0-1,4-5,8-9\r\n",
        )
        .is(200)
        .text("0123456789"),
        request(
            "9112 9.3 the longest body",
            "GET",
            "/ten.txt",
            "Content-Length: 100\r\n",
        )
        .with("x".repeat(100))
        .is(200)
        .text("0123456789"),
        request(
            "9110 15.5.14 one byte more",
            "GET",
            "/ten.txt",
            "Content-Length: 101\r\n",
        )
        .with("x".repeat(101))
        .is(413)
        .closes(),
        request(
            "9112 9.3 the longest body in chunks",
            "GET",
            "/ten.txt",
            "Transfer-Encoding: chunked\r\n",
        )
        .with(chunks(89))
        .is(200)
        .text("0123456789"),
        request(
            "9110 15.5.14 too long a body in chunks",
            "GET",
            "/ten.txt",
            "Transfer-Encoding: chunked\r\n",
        )
        .with(chunks(150))
        .is(413)
        .closes(),
    ];
    for case in &mut cases {
        *case = case.clone().own();
    }
    cases
}

/// The last of so many says so, and nothing behind it is answered.
#[test]
fn requests_per_connection() {
    let server = super::server(|config| config.http_limits.requests_per_connection = 3);
    let request = "GET /empty.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    let received = String::from_utf8(server.exchange(request.repeat(5))).expect("ASCII");
    assert_eq!(received.matches("HTTP/1.1 200 OK\r\n").count(), 3);
    assert_eq!(received.matches("Connection: close\r\n").count(), 1);
    assert!(
        received.ends_with("Connection: close\r\n\r\n"),
        "{received}"
    );
}

/// RFC 9110 section 15.5.9: a request that stops half-way.
#[test]
fn a_request_that_does_not_come_to_an_end() {
    let server = super::server(|config| config.deadlines.head = SOON);
    for start in [
        "GET /ten.txt HT",
        "GET /ten.txt HTTP/1.1\r\nHost: x\r\n",
        "GET /ten.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe",
        "GET /ten.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ] {
        let answer = Answer::parse(&server.exchange(start));
        assert_eq!(answer.status, 408, "{start:?}");
        assert_eq!(answer.field("connection"), Some("close"));
    }
}

/// An idle connection ends without a response: a client may be about to send, and would take a 408
/// for the response (RFC 9112 section 9.5).
#[test]
fn silence_ends_a_connection_without_a_response() {
    let server = super::server(|config| config.deadlines.first_byte = SOON);
    assert_eq!(server.exchange(""), b"");
    let server = super::server(|config| config.deadlines.idle = SOON);
    let mut client = server.connect();
    client.send("GET /empty.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.rest(), b"");
}

/// RFC 9110 section 10.1.1: a client that waits for 100 Continue gets it, once.
#[test]
fn a_client_that_waits_is_told_to_send_its_body() {
    let server = super::server(|_| {});
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(
            "GET /ten.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        assert_eq!(client.answer().status, 100);
        client.send("hello");
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, b"0123456789".as_slice())
        );
    }
}

/// RFC 9110 section 10.1.1: a client that would only be refused gets that status instead.
#[test]
fn a_client_that_waits_in_vain_is_told_at_once() {
    let server = super::server(|_| {});
    let fields = "Host: x\r\nExpect: 100-continue\r\n";
    for (request, status) in [
        (
            format!("PUT /ten.txt HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n"),
            405,
        ),
        (
            format!("GET /ten.txt HTTP/1.1\r\n{fields}Content-Length: 5000000\r\n\r\n"),
            413,
        ),
    ] {
        let mut client = server.connect();
        client.send(&request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.rest(), b"");
    }
}

/// A body with a length beyond the limit is refused at once.
#[test]
fn a_body_that_is_announced_as_too_long_is_refused_at_once() {
    let server = super::server(|_| {});
    let mut client = server.connect();
    client.send("GET /ten.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    assert_eq!(client.rest(), b"");
}

const SOON: Duration = Duration::from_millis(150);
