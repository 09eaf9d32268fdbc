//! HTTP as far as connections, readers and ranges go: order, persistence, limits, endings.

use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use haul::server::config::Precompressed;
use haul::server::telemetry::CloseReason;

use crate::support::{Answer, Client, PATIENCE, TestServer, noise};

#[test]
fn thousands_of_pipelined_requests_are_answered_in_order() {
    const REQUESTS: usize = 5_000;
    let server = TestServer::start();
    for number in 0..50 {
        server.put(&format!("f{number}"), format!("content of {number}"));
    }
    server.put("large", noise(300_000, 1));
    let name = |number: usize| match number % 500 {
        499 => "large".to_owned(),
        498 => "missing".to_owned(),
        _ => format!("f{}", number % 50),
    };
    let mut client = server.connect();
    let mut writer = client.stream.try_clone().expect("a second handle");
    let requests: String = (0..REQUESTS)
        .map(|number| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", name(number)))
        .collect();
    let sender = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
    for number in 0..REQUESTS {
        let answer = client.answer();
        match number % 500 {
            499 => assert_eq!((answer.status, answer.body.len()), (200, 300_000)),
            498 => assert_eq!(answer.status, 404),
            _ => assert_eq!(
                String::from_utf8_lossy(&answer.body),
                format!("content of {}", number % 50),
                "request {number}"
            ),
        }
    }
    sender.join().expect("no panic").expect("all taken");
    assert_eq!(server.counters().requests, REQUESTS as u64);
    assert_eq!(server.counters().accepted, 1);
}

#[test]
fn a_request_comes_in_any_pieces() {
    let server = TestServer::start();
    server.put("f", "content");
    let request = b"\r\nGET /f HTTP/1.1\r\nHost: x\r\nRange: bytes=1-3\r\n\r\n";
    for size in [1, 2, 3, 7, 100] {
        let mut client = server.connect();
        for round in 0..2 {
            for piece in request.chunks(size) {
                client.send(piece);
            }
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (206, b"ont".as_slice()),
                "{size}, {round}"
            );
        }
    }
}

#[test]
fn persistence_is_what_version_and_field_say() {
    let server = TestServer::start();
    server.put("f", "content");
    let cases = [
        ("HTTP/1.1", "Host: x\r\n", true),
        ("HTTP/1.1", "Host: x\r\nConnection: close\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: keep-alive\r\n", true),
    ];
    for (version, fields, kept) in cases {
        let mut client = server.connect();
        client.send(format!("GET /f {version}\r\n{fields}\r\n"));
        assert_eq!(client.answer().body, b"content");
        if kept {
            client.send(format!("GET /f {version}\r\n{fields}\r\n"));
            assert_eq!(client.answer().body, b"content", "{version} {fields}");
            client.half_close();
        }
        assert_eq!(client.rest(), b"", "{version} {fields}");
    }
}

#[test]
fn a_connection_ends_after_the_requests_it_may_have() {
    let server = TestServer::with(|config| config.http_limits.requests_per_connection = 3);
    server.put("f", "content");
    let mut client = server.connect();
    client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    for number in 1..=3 {
        let connection = client.answer().field("connection").map(str::to_owned);
        assert_eq!(connection.as_deref() == Some("close"), number == 3);
    }
    assert_eq!(client.rest(), b"");
}

#[test]
fn single_ranges_are_exact() {
    let server = TestServer::start();
    let content = noise(100_000, 2);
    server.put("f", &content);
    let cases = [
        ("bytes=0-0", 0..1),
        ("bytes=0-99999", 0..100_000),
        ("bytes=0-", 0..100_000),
        ("bytes=99999-", 99_999..100_000),
        ("bytes=-1", 99_999..100_000),
        ("bytes=-200000", 0..100_000),
        ("bytes=500-100500", 500..100_000),
        ("bytes=16383-16385", 16_383..16_386),
    ];
    for (range, bytes) in cases {
        let answer = server.get("/f", &format!("Range: {range}\r\n"));
        assert_eq!(answer.status, 206, "{range}");
        let expected = format!("bytes {}-{}/100000", bytes.start, bytes.end - 1);
        assert_eq!(answer.field("content-range"), Some(&*expected), "{range}");
        assert!(answer.body == content[bytes], "{range}");
    }
    for range in ["bytes=100000-", "bytes=200000-300000", "bytes=-0"] {
        let answer = server.get("/f", &format!("Range: {range}\r\n"));
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.field("content-range"), Some("bytes */100000"));
    }
    for range in ["bytes=5-2", "bytes=x", "lines=1-2", "bytes=", "bytes=1"] {
        let answer = server.get("/f", &format!("Range: {range}\r\n"));
        assert_eq!(
            (answer.status, answer.body.len()),
            (200, 100_000),
            "{range}"
        );
    }
}

#[test]
fn head_says_what_get_would() {
    let server = TestServer::start();
    server.put("f", noise(100_000, 3));
    let mut client = server.connect();
    client.send("HEAD /f HTTP/1.1\r\nHost: x\r\n\r\nGET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let bytes = client.rest();
    let head = Answer::parse(&bytes);
    let get = Answer::parse(&head.body);
    assert_eq!(
        (head.status, get.status, get.body.len()),
        (200, 200, 100_000)
    );
    for field in [
        "content-length",
        "etag",
        "last-modified",
        "accept-ranges",
        "content-type",
    ] {
        assert!(head.field(field).is_some(), "{field}");
        assert_eq!(head.field(field), get.field(field), "{field}");
    }
    assert_eq!(head.field("accept-ranges"), Some("bytes"));
    assert!(head.field("date").is_some());
}

#[test]
fn each_refusal_has_its_status() {
    let server = TestServer::start();
    server.put("f", "content");
    let long = "a".repeat(20_000);
    let fields = "X: y\r\n".repeat(200);
    let cases = [
        (400, "GET /f HTTP/1.1\r\n\r\n".to_owned()),
        (
            400,
            "GET /f HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(),
        ),
        (400, "GET /f HTTP/1.1\r\nHost : x\r\n\r\n".to_owned()),
        (400, "GET /../f HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (400, "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (404, "GET /missing HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (405, "POST /f HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (405, "DELETE /f HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")),
        (431, format!("GET /f HTTP/1.1\r\nHost: x\r\n{fields}\r\n")),
        (
            431,
            format!("GET /f HTTP/1.1\r\nHost: x\r\nX: {long}{long}\r\n\r\n"),
        ),
        (501, "FROB /f HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (505, "GET /f HTTP/2.0\r\nHost: x\r\n\r\n".to_owned()),
    ];
    for (status, request) in cases {
        let mut client = server.connect();
        client.send(&request);
        client.half_close();
        let answer = Answer::parse(&client.rest());
        assert_eq!(answer.status, status, "{request:.60?}");
        if status == 405 {
            let allow = answer.field("allow").expect("Allow");
            assert!(allow.contains("GET") && allow.contains("HEAD"), "{allow}");
        }
    }
    server.counters_when(|counters| counters.open == 0);
}

#[test]
fn a_head_that_does_not_come_whole_is_answered_408() {
    let server = TestServer::with(|config| config.deadlines.head = Duration::from_millis(100));
    let mut client = server.connect();
    client.send("GET /f HTTP/1.1\r\nHost:");
    let answer = Answer::parse(&client.rest());
    assert_eq!(
        (answer.status, answer.field("connection")),
        (408, Some("close"))
    );
}

#[test]
fn a_kept_connection_ends_when_it_stays_idle() {
    let server = TestServer::with(|config| config.deadlines.idle = Duration::from_millis(50));
    server.put("f", "content");
    let mut client = server.connect();
    client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().body, b"content");
    assert_eq!(client.rest(), b"");
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Idle), 1);
}

#[test]
fn a_client_that_is_still_sending_gets_to_read_the_refusal() {
    let server = TestServer::start();
    let body = noise(4 << 20, 4);
    let mut client = server.connect();
    client.send("POST /f HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
    for piece in body.chunks(64 << 10) {
        client.send(piece);
    }
    client.half_close();
    let answer = Answer::parse(&client.rest());
    assert!(matches!(answer.status, 405 | 413), "{}", answer.head);
    assert_eq!(answer.field("connection"), Some("close"));
    // Of a head that is too large as well.
    let mut client = server.connect();
    client.send("GET /f HTTP/1.1\r\nHost: x\r\n");
    for _ in 0..64 {
        client.send(format!("X-{}: {}\r\n", "y".repeat(100), "z".repeat(16_000)));
    }
    client.half_close();
    assert_eq!(Answer::parse(&client.rest()).status, 431);
}

#[test]
fn a_reader_that_vanishes_costs_nothing_but_its_connection() {
    let server = TestServer::start();
    let content = noise(24 << 20, 5);
    server.put("big", &content);
    let request = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    for (number, request) in ["big\n", request].into_iter().enumerate() {
        let before = server.counters().bytes_sent;
        let mut client = Client::with_small_window(server.address());
        client.send(request);
        server.counters_when(|counters| counters.bytes_sent > before);
        client.reset();
        let gone = number as u64 + 1;
        let counters = server.counters_when(|counters| counters.closed_in_all() == gone);
        assert_eq!(counters.closed(CloseReason::Aborted), gone);
        assert_eq!(counters.open, 0);
    }
    assert!(server.by_name("big") == content);
}

#[test]
fn a_reader_that_closes_without_reading_is_noticed() {
    let server = TestServer::start();
    server.put("big", noise(24 << 20, 6));
    let mut client = Client::with_small_window(server.address());
    client.send("big\n");
    server.wait_until_under_way();
    drop(client);
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Aborted), 1);
}

#[test]
fn a_reader_that_has_closed_its_side_reads_on() {
    let server = TestServer::start();
    let content = noise(24 << 20, 7);
    server.put("big", &content);
    let mut client = Client::with_small_window(server.address());
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    client.half_close();
    server.wait_until_under_way();
    let answer = Answer::parse(&client.rest());
    assert!(answer.body == content);
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Complete), 1);
}

#[test]
fn a_client_in_the_middle_of_a_request_may_vanish() {
    let server = TestServer::start();
    for start in ["GET /f HTT", "GET /f HTTP/1.1\r\nHost", "na"] {
        let mut client = server.connect();
        let parks = server.counters().parks;
        client.send(start);
        server.counters_when(|counters| counters.parks > parks);
        client.reset();
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 3);
    assert_eq!(counters.closed(CloseReason::Aborted), 3, "{counters:#?}");
}

#[test]
fn a_peer_that_takes_nothing_is_closed_in_time() {
    let server =
        TestServer::with(|config| config.deadlines.send_stall = Duration::from_millis(200));
    server.put("big", noise(24 << 20, 8));
    let mut client = Client::with_small_window(server.address());
    client.send("big\n");
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Stalled), 1);
    let end = client.try_rest().1;
    assert_eq!(
        end.expect_err("not whole").kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn a_slow_reader_delays_no_other() {
    let server = TestServer::with(|config| config.workers = NonZeroUsize::MIN);
    let content = noise(24 << 20, 9);
    server.put("big", &content);
    server.put("small", "small");
    let mut slow: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::with_small_window(server.address());
            client.send("big\n");
            client
        })
        .collect();
    server.wait_until_under_way();
    for _ in 0..50 {
        assert_eq!(server.by_name("small"), b"small");
    }
    assert!(server.by_name("big") == content);
    let mut first = slow.swap_remove(0);
    let mut bytes = Vec::new();
    first.stream.read_to_end(&mut bytes).expect("in order");
    assert!(bytes == content);
}

/// What a client that closes its side after `request`, or does not, is answered.
fn answer_to(server: &TestServer, request: &[u8], closes: bool) -> Vec<u8> {
    let mut client = server.connect();
    client.send(request);
    if closes {
        client.half_close();
    }
    client.rest()
}

#[test]
fn what_begins_like_http_is_answered_as_http() {
    let server = TestServer::with(|config| config.deadlines.head = PATIENCE);
    server.put("x", "content");
    let requests: [&[u8]; 10] = [
        b"GET /x\r\n",
        b"GET /x\n",
        b"GET x\r\n",
        b"GET / HTT/1.0\r\n\r\n",
        b"FROB / HTT/1.0\r\n",
        b"get /x http/1.1\r\n",
        b"GET /x HTTP/1.1\rHost: a\r\r",
        b"GET /x HTTP/1.1\r\nHost: a\rX",
        b"DELETE /x\r\n",
        b"GET /x HTTP/1.1 \r\n",
    ];
    for request in requests {
        for closes in [false, true] {
            let answer = answer_to(&server, request, closes);
            let shown = request.escape_ascii();
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{shown}: {answer:?}");
        }
    }
    // The end of the input stands for the rest of these.
    for request in [&b"GET /x"[..], b"GET /x HTTP/1.1\r\nHost: a\r\n"] {
        let answer = answer_to(&server, request, true);
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    }
}

#[test]
fn a_host_that_cannot_be_one_is_refused() {
    let server = TestServer::start();
    server.put("x", "content");
    let status = |target: &str, host: &[u8]| {
        let head = format!("GET {target} HTTP/1.1\r\nConnection: close\r\nHost: ");
        let request = [head.as_bytes(), host, b"\r\n\r\n"].concat();
        let answer = answer_to(&server, &request, false);
        String::from_utf8_lossy(&answer[9..12]).into_owned()
    };
    let bad: [&[u8]; 7] = [
        b"abc\x80",
        b"[4712::abcd::]",
        b"[::1",
        b"[]",
        b"[v.x]",
        b"a:99999",
        b"a]b",
    ];
    for host in bad {
        assert_eq!(status("/x", host), "400", "{}", host.escape_ascii());
    }
    assert_eq!(status("http://[4712::abcd::]/x", b"a"), "400");
    assert_eq!(status("http://[::1]:80/x", b"a"), "200");
    for host in [
        &b"[::1]:80"[..],
        b"[fe80::1%25eth0]",
        b"[v1.x]",
        b"a:",
        b"x_y.example",
    ] {
        assert_eq!(status("/x", host), "200", "{}", host.escape_ascii());
    }
}

#[test]
fn a_precompressed_sibling_answers_only_where_it_may() {
    let fields = "Accept-Encoding: gzip\r\n";
    let is_coded =
        |answer: &Answer| answer.field("content-encoding").is_some() && answer.body == b"GZIP";
    let put_both = |server: &TestServer, sibling_seconds: u64| {
        for (name, content, seconds) in
            [("x", "0123456789", 100), ("x.gz", "GZIP", sibling_seconds)]
        {
            server.put(name, content);
            let file = std::fs::File::options()
                .write(true)
                .open(server.root().join(name));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            file.and_then(|file| file.set_modified(time))
                .expect("a time");
        }
    };
    let by_default = TestServer::start();
    put_both(&by_default, 200);
    let answer = by_default.get("/x", fields);
    assert_eq!(
        (answer.body.as_slice(), answer.field("vary")),
        (&b"0123456789"[..], None)
    );

    let server = TestServer::with(|config| config.precompressed = Precompressed::Serve);
    put_both(&server, 100);
    assert!(is_coded(&server.get("/x", fields)));
    // A client that resumes counts the bytes that it has decoded.
    let part = server.get("/x", "Accept-Encoding: gzip\r\nRange: bytes=5-\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"56789"[..]));
    assert_eq!(part.field("content-encoding"), None);

    let server = TestServer::with(|config| config.precompressed = Precompressed::Serve);
    put_both(&server, 99);
    assert!(!is_coded(&server.get("/x", fields)), "the sibling is older");
}

#[test]
fn an_explanation_varies_with_what_is_accepted() {
    let server = TestServer::start();
    let answer = server.get("/absent", "");
    assert_eq!((answer.status, answer.field("vary")), (404, Some("Accept")));
}
