//! What holds for transfers in plain text holds over TLS.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use haul::server::config::SendChoice;
use haul::server::telemetry::CloseReason;
use haul::server::telemetry::access_log::Destination;

use super::support::{TlsClient, TlsServer};
use crate::support::{Answer, Client, PATIENCE, noise};

#[test]
fn files_of_any_size_arrive_byte_for_byte() {
    let tls = TlsServer::start();
    for len in [
        0,
        1,
        1_000,
        16_384,
        16_385,
        100_000,
        131_072,
        300_000,
        5 << 20,
    ] {
        let content = noise(len, len as u64);
        tls.server.put("file", &content);
        let answer = tls.get("/file", "");
        assert_eq!(answer.status, 200);
        assert!(answer.body == content, "{len}");
        tls.server.put("other", &content);
    }
    assert_eq!(tls.server.counters().hot_waits, 0);
}

#[test]
fn a_large_file_arrives_from_either_way_of_sending() {
    let content = noise(48 << 20, 7);
    for transmit in [SendChoice::Auto, SendChoice::Copy] {
        let tls = TlsServer::with(|config, _| config.transmit = transmit);
        tls.server.put("large", &content);
        let answer = tls.get("/large", "");
        assert!(answer.body == content);
        assert_eq!(tls.server.counters().copied_bodies, 0);
    }
}

#[test]
fn ranges_and_kept_connections_work() {
    let tls = TlsServer::start();
    let content = noise(1 << 20, 3);
    tls.server.put("file", &content);
    let mut client = tls.connect();
    for from in (0..content.len()).step_by(99_991) {
        let to = (from + 70_000).min(content.len()) - 1;
        client.request("/file", &format!("Range: bytes={from}-{to}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 206);
        assert!(answer.body == content[from..=to]);
    }
    client.request("/file", "Range: bytes=0-9,500000-500009\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 206);
    assert!(
        answer
            .body
            .windows(10)
            .any(|part| part == &content[500_000..500_010])
    );
    client.request("/none", "");
    assert_eq!(client.answer().status, 404);
    client.request("/", "Accept: application/json\r\nConnection: close\r\n");
    let listing = client.rest().expect("close_notify at the end");
    assert!(String::from_utf8_lossy(&listing).contains("\"file\""));
    assert_eq!(tls.server.counters().handshakes(), 1);
}

#[test]
fn pipelined_requests_in_one_record_are_all_answered() {
    let tls = TlsServer::start();
    tls.server.put("a", "first");
    tls.server.put("b", "second");
    let mut client = tls.connect();
    let requests: String = ["a", "b", "a", "b"]
        .map(|name| format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .concat();
    client.send(requests);
    let bodies: Vec<_> = (0..4).map(|_| client.answer().body).collect();
    assert_eq!(
        bodies,
        [
            b"first".to_vec(),
            b"second".into(),
            b"first".into(),
            b"second".into()
        ]
    );
}

#[test]
fn a_name_is_ended_by_a_line_end_or_by_close_notify_and_not_by_a_cut() {
    let tls = TlsServer::with(|config, _| {
        config.deadlines.name_grace = Duration::from_secs(30);
    });
    tls.server.put("a.bin", "content");
    let mut client = tls.connect();
    client.send("a.bin\n");
    assert_eq!(client.rest().expect("close_notify"), b"content");
    let mut client = tls.connect();
    client.send("a.bin");
    client.close();
    assert_eq!(client.rest().expect("close_notify"), b"content");
    // An attacker on the path can end the stream: `a.bin` may be the beginning of a name.
    let mut client = tls.connect();
    client.send("a.bin");
    client
        .stream
        .sock
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    assert_eq!(client.try_rest().0, b"");
    tls.server
        .counters_when(|counters| counters.closed(CloseReason::Aborted) == 1);
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    let tls = TlsServer::start();
    let path = tls.server.put("shrinks", noise(64 << 20, 5));
    let mut client = tls.connect();
    client.request("/shrinks", "Connection: close\r\n");
    let begun = client.take(200_000);
    let file = OpenOptions::new().write(true).open(&path).expect("there");
    file.set_len(1 << 20).expect("cut");
    let (rest, end) = client.try_rest();
    assert!(begun.len() + rest.len() < 64 << 20);
    let error = end.expect_err("no close_notify");
    assert_eq!(
        error.kind(),
        ErrorKind::UnexpectedEof,
        "no reset either: {error}"
    );
    tls.server
        .counters_when(|counters| counters.closed(CloseReason::Changed) == 1);
}

#[test]
fn a_file_that_changes_under_way_does_not_end_well() {
    let tls = TlsServer::start();
    let path = tls.server.put("changes", noise(32 << 20, 6));
    let mut client = tls.connect();
    client.request("/changes", "Connection: close\r\n");
    client.take(100_000);
    crate::support::wait_for_tick(&path);
    fs::write(&path, noise(32 << 20, 8)).expect("written");
    let (_, end) = client.try_rest();
    end.expect_err("no close_notify");
    tls.server
        .counters_when(|counters| counters.closed(CloseReason::Changed) == 1);
}

#[test]
fn a_response_that_ends_by_close_ends_by_close_notify_or_by_a_reset() {
    let tls = TlsServer::start();
    let path = tls.server.put("by-name", noise(64 << 20, 9));
    let mut client = tls.connect();
    client.send("by-name\n");
    client.take(100_000);
    let file = OpenOptions::new().write(true).open(&path).expect("there");
    file.set_len(1 << 20).expect("cut");
    let (_, end) = client.try_rest();
    assert_eq!(end.expect_err("broken").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_hundred_stalled_readers_cost_little_and_a_fresh_one_goes_on() {
    let tls = TlsServer::start();
    let content = noise(24 << 20, 10);
    tls.server.put("large", &content);
    let config = Arc::new(tls.authority.client());
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let socket = Client::with_small_window(tls.address()).into_socket();
        let mut client = TlsClient::over(socket, Arc::clone(&config), "localhost");
        client.request("/large", "");
        client.take(1);
        stalled.push(client);
    }
    assert!(tls.get("/large", "").body == content);
    let counters = tls.server.counters();
    assert_eq!(counters.hot_waits, 0);
    // They go on where they left off.
    for client in stalled.iter_mut().take(5) {
        let mut bytes = vec![b'H'];
        let mut rest = client.take(content.len());
        bytes.append(&mut rest);
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            bytes.extend(client.take(1));
        }
        let head = Answer::parse(&bytes).head.len() + 4;
        bytes.extend(client.take(head + content.len() - bytes.len()));
        assert!(bytes[head..] == content);
    }
}

#[test]
fn a_reader_that_is_slow_at_first_gets_everything() {
    let tls = TlsServer::start();
    let content = noise(8 << 20, 12);
    tls.server.put("large", &content);
    let socket = Client::with_small_window(tls.address()).into_socket();
    let mut client = TlsClient::over(socket, Arc::new(tls.authority.client()), "localhost");
    client.request("/large", "Connection: close\r\n");
    let mut bytes = Vec::new();
    for pause in 0..20 {
        let mut some = [0; 4_000];
        let count = client.stream.read(&mut some).expect("bytes");
        bytes.extend_from_slice(&some[..count]);
        std::thread::sleep(Duration::from_millis(pause % 3));
    }
    bytes.extend(client.rest().expect("close_notify"));
    assert!(Answer::parse(&bytes).body == content);
}

#[test]
fn rates_hold() {
    let tls = TlsServer::with(|config, _| config.rates.connection = Some(4 << 20));
    let content = noise(2 << 20, 13);
    tls.server.put("file", &content);
    let begun = std::time::Instant::now();
    assert!(tls.get("/file", "").body == content);
    assert!(begun.elapsed() > Duration::from_millis(250));
}

#[test]
fn a_transfer_under_way_ends_well_when_the_server_drains() {
    let tls = TlsServer::start();
    let content = noise(16 << 20, 14);
    tls.server.put("large", &content);
    let mut client = tls.connect();
    client.request("/large", "");
    let mut idle = tls.connect();
    idle.request("/none", "");
    assert_eq!(idle.answer().status, 404);
    let begun = client.take(1_000);
    tls.server.handle().shut_down();
    assert!(
        idle.rest().is_ok(),
        "an idle connection ends by close_notify"
    );
    let bytes = [begun, client.rest().expect("close_notify")].concat();
    assert!(Answer::parse(&bytes).body == content);
}

#[test]
fn close_notify_waits_for_room_when_the_server_drains() {
    let tls = TlsServer::with(|config, _| config.grace = 2 * PATIENCE);
    tls.server.put("file", noise(4 << 10, 16));
    let config = Arc::new(tls.authority.client());
    let begin = |count: usize| {
        let socket = Client::with_small_window(tls.address()).into_socket();
        let mut client = TlsClient::over(socket, Arc::clone(&config), "localhost");
        client.send("GET /file HTTP/1.1\r\nHost: x\r\n\r\n".repeat(count));
        client
    };
    // No client reads. For some the last byte has just found room, and `close_notify` would find
    // none.
    let mut clients: Vec<TlsClient> = (1..100).map(begin).collect();
    let mut before = 0;
    while before < tls.server.counters().requests {
        before = tls.server.counters().requests;
        std::thread::sleep(Duration::from_millis(200));
    }
    tls.server.handle().shut_down();
    // At once: a shut window opens when its sender next probes.
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.rest().expect("close_notify"));
        }
    });
}

#[test]
fn what_arrived_whole_is_logged_as_whole() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let tls = TlsServer::with(|config, _| {
        config.access_log = Destination::File(log.path().to_owned());
    });
    let content = noise(20 << 20, 15);
    tls.server.put("large", &content);
    for fields in ["", "Connection: close\r\n"] {
        // Gone as soon as it has all, as curl is: `close_notify` meets no one.
        let mut client = tls.connect();
        client.request("/large", fields);
        assert!(client.answer().body == content);
        drop(client);
        tls.server.counters_when(|counters| counters.open == 0);
    }
    tls.server.shut_down();
    let log = fs::read_to_string(log.path()).expect("a log");
    assert_eq!(log.matches(" 20971520/20971520 ").count(), 2, "{log}");
    assert_eq!(log.matches(" complete").count(), 2, "{log}");
}
