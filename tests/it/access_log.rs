//! The access log: one line a response, byte for byte but for time, port and duration.

use std::fs;

use haul::server::telemetry::access_log::Destination;

use crate::support::{Client, TestServer, noise};

/// What the log of a server holds after these exchanges, one after the other.
fn log_of(exchanges: impl FnOnce(&TestServer)) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let destination = Destination::File(path.clone());
    let server = TestServer::with(|config| config.access_log = destination);
    exchanges(&server);
    server.shut_down();
    let text = fs::read_to_string(path).expect("the log");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(masked).collect()
}

/// The line with what differs each time taken out, after a look at its form.
#[track_caller]
fn masked(line: &str) -> String {
    let (time, rest) = line.split_once(' ').expect("a time");
    let digits: String = time
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
        .collect();
    assert_eq!(digits, "0000-00-00T00:00:00.000Z", "{line}");
    let (peer, rest) = rest.split_once(' ').expect("a peer");
    let port = peer.strip_prefix("127.0.0.1:").expect("an address");
    assert!(port.parse::<u16>().is_ok(), "{line}");
    // The duration is the first word like `0.000s` behind the request.
    let request_end = rest.rfind('"').expect("a request");
    let (request, end) = rest.split_at(request_end);
    let end: Vec<_> = end
        .split(' ')
        .map(|word| match word.strip_suffix('s') {
            Some(seconds) if seconds.parse::<f64>().is_ok() && seconds.contains('.') => "TOOK",
            _ => word,
        })
        .collect();
    format!("{request}{}", end.join(" "))
}

#[test]
fn each_response_leaves_a_line() {
    let lines = log_of(|server| {
        server.put("dir/a b.txt", "content");
        server.put("empty", "");
        assert_eq!(server.by_name("dir/a b.txt"), b"content");
        server.counters_when(|counters| counters.closed_in_all() == 1);
        server.by_name("missing");
        server.counters_when(|counters| counters.closed_in_all() == 2);
        server.by_name("dir");
        server.counters_when(|counters| counters.closed_in_all() == 3);
        server.by_name("empty");
        server.counters_when(|counters| counters.closed_in_all() == 4);
        let mut client = server.connect();
        for request in [
            "GET /dir/a%20b.txt HTTP/1.1\r\nHost: x\r\n",
            "GET /dir/a%20b.txt?q=1 HTTP/1.1\r\nHost: x\r\nRange: bytes=2-4\r\n",
            "GET /dir/a%20b.txt HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n",
        ] {
            client.send(format!("{request}\r\n"));
            client.answer();
        }
        client.send("HEAD /dir/a%20b.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.rest();
        server.counters_when(|counters| counters.requests == 8);
    });
    let expected = [
        "name \"dir/a b.txt\" - 7/7 TOOK complete",
        "name \"missing\" - 0/0 TOOK refused: no such file",
        "name \"dir\" - 0/0 TOOK refused: it is a directory",
        "name \"empty\" - 0/0 TOOK complete",
        "http \"GET /dir/a%20b.txt HTTP/1.1\" 200 7/7 TOOK complete",
        "http \"GET /dir/a%20b.txt?q=1 HTTP/1.1\" 206 3/3 TOOK complete",
    ];
    assert_eq!(&lines[..6], expected, "{lines:#?}");
    assert!(
        lines[6].starts_with("http \"GET /dir/a%20b.txt HTTP/1.1\" 416 "),
        "{}",
        lines[6]
    );
    assert_eq!(
        lines[7],
        "http \"HEAD /dir/a%20b.txt HTTP/1.1\" 200 0/0 TOOK complete"
    );
    assert_eq!(lines.len(), 8);
}

#[test]
fn whatever_a_peer_sends_stays_on_its_line() {
    let lines = log_of(|server| {
        let requests = [
            b"evil\x1b[2J\x07name\n".as_slice(),
            b"quo\"te\\d\n",
            b"bad \xff utf-8\n",
            "turn \u{202e}around\n".as_bytes(),
            b"\x16\x03\x01\x02\x00\x01\n",
            b"carriage\rreturn\n",
        ];
        for (number, request) in (1..).zip(requests) {
            Client::connect(server.address()).ask(request);
            server.counters_when(|counters| counters.closed_in_all() == number);
        }
    });
    assert_eq!(
        lines,
        [
            "- \"evil\\u{1b}[2J\\u{7}name\" - 0/0 TOOK malformed: control characters in the name",
            "name \"quo\\\"te\\\\d\" - 0/0 TOOK refused: no such file",
            "- \"bad \\xff utf-8\" - 0/0 TOOK malformed: a name that is not UTF-8",
            "name \"turn \\u{202e}around\" - 0/0 TOOK refused: no such file",
            "- \"\\u{16}\\u{3}\\u{1}\\u{2}\\u{0}\\u{1}\" - 0/0 TOOK malformed: control characters in the name",
            "- \"carriage\\u{d}return\" - 0/0 TOOK malformed: control characters in the name",
        ]
    );
}

#[test]
fn a_transfer_that_breaks_says_how_far_it_came() {
    const LEN: usize = 24 << 20;
    let lines = log_of(|server| {
        server.put("big", noise(LEN, 1));
        let mut client = Client::with_small_window(server.address());
        client.send("big\n");
        client.take(1);
        client.reset();
        server.counters_when(|counters| counters.closed_in_all() == 1);
    });
    assert_eq!(lines.len(), 1);
    let rest = lines[0].strip_prefix("name \"big\" - ").expect(&lines[0]);
    let (bytes, rest) = rest.split_once(' ').expect("bytes");
    assert_eq!(rest, "TOOK aborted");
    let (sent, intended) = bytes.split_once('/').expect("both");
    assert_eq!(intended, LEN.to_string());
    assert!(
        (1..LEN).contains(&sent.parse().expect("a number")),
        "{bytes}"
    );
}

#[test]
fn http_that_breaks_the_rules_is_logged_with_its_first_line() {
    let lines = log_of(|server| {
        Client::connect(server.address()).ask("GET /f HTTP/1.1\r\nHost : x\r\n\r\n");
        server.counters_when(|counters| counters.closed_in_all() == 1);
        Client::connect(server.address()).ask("GET /f HTTP/3.0\r\nHost: x\r\n\r\n");
        server.counters_when(|counters| counters.closed_in_all() == 2);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].starts_with("http \"GET /f HTTP/1.1\" 400 "),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("http \"GET /f HTTP/3.0\" 505 "),
        "{}",
        lines[1]
    );
}
