//! The access log: one line a response, byte for byte but for time, port and duration.

use std::fs;

use haul::server::telemetry::access_log::Destination;
use nix::sys::signal::Signal;

use crate::process::Program;
use crate::support::transport::scheme;
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
    let http = scheme();
    let expected = [
        "name \"dir/a b.txt\" - 7/7 TOOK complete".to_owned(),
        "name \"missing\" - 0/0 TOOK refused: no such file".to_owned(),
        "name \"dir\" - 0/0 TOOK refused: it is a directory".to_owned(),
        "name \"empty\" - 0/0 TOOK complete".to_owned(),
        format!("{http} \"GET /dir/a%20b.txt HTTP/1.1\" 200 7/7 TOOK complete"),
        format!("{http} \"GET /dir/a%20b.txt?q=1 HTTP/1.1\" 206 3/3 TOOK complete"),
    ];
    assert_eq!(&lines[..6], expected, "{lines:#?}");
    assert!(
        lines[6].starts_with(&format!("{http} \"GET /dir/a%20b.txt HTTP/1.1\" 416 ")),
        "{}",
        lines[6]
    );
    assert_eq!(
        lines[7],
        format!("{http} \"HEAD /dir/a%20b.txt HTTP/1.1\" 200 0/0 TOOK complete")
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
            "- \"\\u{16}\\u{3}\\u{1}\\u{2}\\u{0}\\u{1}\" - 0/0 TOOK malformed: TLS on a port that speaks plain text; see --listen-tls",
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
    let http = scheme();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].starts_with(&format!("{http} \"GET /f HTTP/1.1\" 400 ")),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with(&format!("{http} \"GET /f HTTP/3.0\" 505 ")),
        "{}",
        lines[1]
    );
}

#[test]
fn a_fifo_without_a_reader_delays_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let server = TestServer::with(|config| config.access_log = Destination::File(path));
    server.put("f", "content");
    assert_eq!(server.by_name("f"), b"content");
    server.handle().reopen_access_log();
    server.shut_down();
}

#[test]
fn an_unread_log_holds_a_few_megabytes_and_loses_the_rest_with_a_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let server = TestServer::with(|config| config.access_log = Destination::File(path));
    let mut client = server.connect();
    let line = "a".repeat(8_000);
    // Each record is cut to a kilobyte: these would be 6 MB, and whole 40 MB.
    for _ in 0..5_000 {
        client.send(format!("GET /{line} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.answer().status, 404);
    }
    let lost = server.counters().log_lines_lost;
    assert!((500..2_500).contains(&lost), "{lost} lines were lost");
    server.shut_down();
}

#[test]
fn a_log_that_cannot_be_reopened_goes_on_in_the_old_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let logs = directory.path().join("logs");
    fs::create_dir(&logs).expect("a directory");
    let destination = Destination::File(logs.join("log"));
    let server = TestServer::with(|config| config.access_log = destination);
    server.put("f", "content");
    let moved = directory.path().join("moved");
    fs::rename(&logs, &moved).expect("moved away");
    server.handle().reopen_access_log();
    assert_eq!(server.by_name("f"), b"content");
    server.shut_down();
    let text = fs::read_to_string(moved.join("log")).expect("the log");
    assert!(text.contains("\"f\""), "{text}");
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_once_more_when_it_can() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
    let mut program = Program::serve([
        "--access-log".as_ref(),
        path.as_os_str(),
        "--root".as_ref(),
        directory.path().as_os_str(),
        "--sandbox".as_ref(),
        "off".as_ref(),
    ]);
    let address = program.address();
    for _ in 0..3 {
        let mut client = program.connect(address);
        client.send("missing\n");
        client.rest();
    }
    let why = program.line("haul: cannot write the access log ");
    assert!(why.contains("No space left"), "{why}");
    fs::remove_file(&path).expect("removed");
    program.signal(Signal::SIGHUP);
    // The old file takes what comes before the signal is followed.
    while !path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut client = program.connect(address);
    client.send("missing\n");
    client.rest();
    let lost = program.line("haul: the access log ");
    let lost = lost
        .split_once(" is written again; ")
        .expect("that it is")
        .1;
    let lost = lost.strip_suffix(" lines were lost").expect("a number");
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    let told = |start: &str| {
        program
            .said
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(told("haul: cannot write the access log "), 1);
    let log = fs::read_to_string(path).expect("the log");
    // A record that was under way at the signal went to the new file.
    let written = log
        .lines()
        .filter(|line| line.contains("\"missing\""))
        .count();
    assert_eq!(
        lost.parse::<usize>().expect("a number") + written,
        4,
        "{log}"
    );
}

#[test]
fn a_body_that_is_late_or_malformed_is_refused_as_its_own_request() {
    let chunked = "HEAD /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let server = TestServer::with(|config| {
        config.access_log = Destination::File(path.clone());
        config.deadlines.head = std::time::Duration::from_millis(300);
        config.http_limits.discarded_body_bytes = 100;
    });
    server.put("f", "content");
    let long = format!("40\r\n{}\r\n", "b".repeat(64));
    for (body, status) in [
        ("5;GET /forged HTTP/1.1\r\n", 408),
        ("no number\r\n", 400),
        (&long.repeat(2), 413),
    ] {
        let mut client = server.connect();
        client.send(format!("{chunked}{body}"));
        let answer = crate::support::Answer::parse(&client.rest());
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.body, b"", "an answer to HEAD has no body");
    }
    server.shut_down();
    let log = fs::read_to_string(path).expect("the log");
    assert_eq!(log.lines().count(), 3);
    for line in log.lines() {
        assert!(line.contains("\"HEAD /f HTTP/1.1\""), "{line}");
    }
}
