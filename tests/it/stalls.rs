//! Slow, stalled and hostile peers: each has its deadlines, ends with its reason, and takes nothing
//! from the others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use haul::internals::raise_open_files;
use haul::server::config::{MinRate, SendChoice};
use haul::server::telemetry::access_log::Destination;
use haul::server::telemetry::{CloseReason, Snapshot};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::transport::leaves_out;
use crate::support::{Client, PATIENCE, TestServer, noise, transmit_choice};

/// A client with tiny buffers, so that what the server sent is what the client read.
fn narrow(address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .set_recv_buffer_size(4096)
        .expect("a small receive buffer");
    socket.connect(&address.into()).expect("connects");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time-out");
    Client::over(stream)
}

/// Reads `bite` bytes at a time, with a pause before each, until the end or an error.
fn sip(client: &mut Client, bite: usize, pause: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; bite];
    loop {
        std::thread::sleep(pause);
        match client.stream.read(&mut buffer) {
            Ok(0) | Err(_) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A file of `len` bytes that takes no room.
fn put_sparse(server: &TestServer, name: &str, len: u64) {
    let path = server.put(name, b"");
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(len))
        .expect("a sparse file");
}

/// The counters once so many connections came and none is left; each must have ended for one
/// reason.
#[track_caller]
fn at_rest(server: &TestServer, came: u64) -> Snapshot {
    // A connection that was reset before it was accepted is an error of accept(2).
    let all_came = |counters: &Snapshot| counters.accepted + counters.accept_errors == came;
    let counters = server.counters_when(|counters| all_came(counters) && counters.open == 0);
    let counters = server.counters_when(|now| now.closed_in_all() == counters.accepted);
    assert_eq!(counters.panics, 0);
    counters
}

#[test]
fn two_thousand_stalled_readers_shut_no_client_out() {
    let open_files = raise_open_files().expect("a limit");
    // Two descriptors each, and other tests need some as well.
    let count = (open_files / 5).min(2_000);
    let server = TestServer::start();
    put_sparse(&server, "huge", 1 << 30);
    let fresh = noise(8 << 20, 1);
    server.put("fresh", &fresh);
    let stalled: Vec<_> = (0..count)
        .map(|_| {
            let mut client = server.connect();
            client.send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    server.counters_when(|counters| counters.requests == count);
    for _ in 0..4 {
        assert!(server.by_name("fresh") == fresh);
        assert!(server.get("/fresh", "").body == fresh);
    }
    assert_eq!(
        server
            .counters_when(|counters| counters.open == count)
            .closed(CloseReason::Aborted),
        0
    );
    drop(stalled);
    let counters = at_rest(&server, count + 8);
    assert_eq!(counters.closed(CloseReason::Aborted), count);
}

#[test]
fn a_silent_connection_is_closed() {
    let server = TestServer::with(|config| config.deadlines.first_byte = SHORT);
    assert_eq!(server.connect().rest(), b"");
    assert_eq!(at_rest(&server, 1).closed(CloseReason::FirstByteTimeout), 1);
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let server = TestServer::with(|config| config.deadlines.head = SHORT);
    let answer = trickle(
        &server,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"aaaaaaa\r\nX: ",
    );
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(at_rest(&server, 1).closed(CloseReason::HeadTimeout), 1);
}

#[test]
fn a_body_that_trickles_in_is_cut_off() {
    let server = TestServer::with(|config| config.deadlines.head = SHORT);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    let answer = trickle(&server, head, b"a");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(at_rest(&server, 1).closed(CloseReason::HeadTimeout), 1);
}

#[test]
fn a_name_that_trickles_in_is_cut_off() {
    let server = TestServer::with(|config| {
        config.deadlines.head = SHORT;
        config.deadlines.linger = SHORT;
        config.deadlines.name_grace = PATIENCE;
    });
    let mut client = server.connect();
    while client.stream.write_all(b"a").is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(at_rest(&server, 1).closed(CloseReason::HeadTimeout), 1);
}

/// Sends `head` and then `more` again and again, until the server answers.
fn trickle(server: &TestServer, head: &[u8], more: &[u8]) -> String {
    let mut client = server.connect();
    client.send(head);
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let trickle = more.to_vec();
    let trickler = std::thread::spawn(move || {
        for byte in trickle.iter().cycle() {
            std::thread::sleep(Duration::from_millis(10));
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let mut answer = vec![0; 12];
    client.stream.read_exact(&mut answer).expect("an answer");
    let _ = client.stream.shutdown(std::net::Shutdown::Both);
    trickler.join().expect("no panic");
    String::from_utf8_lossy(&answer).into_owned() + " "
}

#[test]
fn a_kept_connection_that_stays_silent_is_closed() {
    let server = TestServer::with(|config| config.deadlines.idle = SHORT);
    server.put("small", b"small");
    let mut client = server.connect();
    client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().body, b"small");
    assert_eq!(client.rest(), b"");
    assert_eq!(at_rest(&server, 1).closed(CloseReason::Idle), 1);
}

#[test]
fn a_peer_that_reads_nothing_is_reset() {
    let server = TestServer::with(|config| config.deadlines.send_stall = SHORT);
    put_sparse(&server, "huge", 1 << 30);
    let mut clients = [server.connect(), server.connect()];
    clients[0].send("huge\n");
    clients[1].send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(at_rest(&server, 2).closed(CloseReason::Stalled), 2);
    for mut client in clients {
        assert!(client.ends_in_reset());
    }
}

#[test]
fn a_slow_reader_is_never_closed() {
    let server = TestServer::with(|config| {
        config.deadlines.send_stall = Duration::from_secs(2);
        config.deadlines.linger = PATIENCE;
        // A steady modem passes any rate that is below its own.
        config.rates.least = Some(MinRate {
            bytes_per_second: 1_000,
            grace: Duration::from_secs(2),
        });
    });
    let content = noise(200 << 10, 2);
    server.put("slowly", &content);
    let mut client = narrow(server.address());
    client.send("slowly\n");
    // Five seconds and more.
    assert!(sip(&mut client, 2 << 10, Duration::from_millis(50)) == content);
    drop(client);
    assert_eq!(at_rest(&server, 1).closed(CloseReason::Complete), 1);
}

#[test]
fn a_reader_below_the_minimum_rate_is_closed() {
    let server = TestServer::with(|config| {
        config.rates.least = Some(MinRate {
            bytes_per_second: 1 << 20,
            grace: Duration::from_millis(400),
        });
    });
    put_sparse(&server, "huge", 1 << 30);
    let mut client = narrow(server.address());
    client.send("huge\n");
    let got = sip(&mut client, 1 << 10, Duration::from_millis(50));
    assert!(got.len() < 1 << 30);
    assert_eq!(at_rest(&server, 1).closed(CloseReason::TooSlow), 1);
}

#[test]
fn a_response_may_be_limited_in_all() {
    let server = TestServer::with(|config| config.deadlines.response = Some(SHORT));
    put_sparse(&server, "huge", 1 << 30);
    let mut client = narrow(server.address());
    client.send("huge\n");
    sip(&mut client, 4 << 10, Duration::from_millis(10));
    assert_eq!(at_rest(&server, 1).closed(CloseReason::TooLong), 1);
}

#[test]
fn a_response_that_never_waits_is_limited_as_well() {
    if transmit_choice() == SendChoice::Copy {
        // So much is copied in one turn.
        return;
    }
    let server = TestServer::with(|config| {
        config.deadlines.response = Some(Duration::from_nanos(1));
        config.quantum_bytes = 16 << 10;
    });
    // It takes three turns, and fits a window.
    server.put("f", noise(48 << 10, 5));
    let mut client = server.connect();
    client.send("f\n");
    assert!(client.ends_in_reset());
    assert_eq!(at_rest(&server, 1).closed(CloseReason::TooLong), 1);
}

#[test]
fn a_peer_that_stays_open_after_the_last_response_is_not_waited_for() {
    let server = TestServer::with(|config| config.deadlines.linger = SHORT);
    server.put("small", b"small");
    let mut client = server.connect();
    client.send("small\n");
    assert_eq!(client.rest(), b"small");
    // Still open on our side.
    assert_eq!(at_rest(&server, 1).closed(CloseReason::Complete), 1);
    drop(client);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what the peer has acknowledged"
)]
fn a_half_closed_peer_with_the_whole_response_is_not_waited_for() {
    if leaves_out("the kernel of a client that has shaken hands acknowledges late") {
        return;
    }
    let server = TestServer::with(|config| config.deadlines.linger = PATIENCE);
    server.put("small", b"small");
    for request in [
        "GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /small HTTP/1.0\r\n\r\n",
    ] {
        let before = server.counters().closed(CloseReason::Complete);
        // Now and then a client's kernel acknowledges late, and then it is waited for.
        let clients: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = server.connect();
                client.send(request);
                assert!(client.rest().ends_with(b"\r\n\r\nsmall"));
                client
            })
            .collect();
        // All are still open on our side.
        server.counters_when(|counters| counters.closed(CloseReason::Complete) > before);
        drop(clients);
    }
}

#[test]
fn a_refused_request_may_send_its_body_to_the_end() {
    const BODY: usize = 4 << 20;
    let server = TestServer::with(|config| {
        config.deadlines.linger = PATIENCE;
        config.http_limits.discarded_body_bytes = 1 << 20;
    });
    let fields = format!("Host: x\r\nConnection: close\r\nContent-Length: {BODY}");
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(format!("PUT /x HTTP/1.1\r\n{fields}\r\n\r\n"));
        // The answer is here before the body is on its way.
        assert_eq!(client.take(10), b"HTTP/1.1 4");
        client.send(vec![b'x'; BODY]);
        client.half_close();
        assert!(!client.rest().is_empty());
    }
}

#[test]
fn a_peer_that_sends_more_than_announced_gets_its_whole_response() {
    let server = TestServer::with(|config| config.deadlines.linger = PATIENCE);
    let content = noise(64 << 10, 3);
    server.put("f", &content);
    let request = "GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(request.repeat(100));
        assert!(client.rest().ends_with(&content));
    }
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what the peer has acknowledged"
)]
fn the_log_tells_what_arrived_and_not_what_the_kernel_took() {
    if leaves_out("a client takes whole records, and so more than it gives") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let server = TestServer::with(|config| config.access_log = Destination::File(log.clone()));
    let content = noise(128 << 10, 4);
    server.put("large", &content);
    let mut given = 0;
    for (request, has_head) in [
        ("large\n", false),
        ("GET /large HTTP/1.1\r\nHost: x\r\n\r\n", true),
        (
            "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            true,
        ),
    ] {
        let mut client = narrow(server.address());
        client.send(request);
        let mut head = Vec::new();
        while has_head && !head.ends_with(b"\r\n\r\n") {
            head.extend(client.take(1));
        }
        // The rest fits the server's send queue, but not our side.
        client.take(content.len() - NOT_READ);
        given += (head.len() + content.len()) as u64;
        server.counters_when(|counters| counters.bytes_sent == given);
    }
    let counters = at_rest(&server, 3);
    assert_eq!(counters.closed(CloseReason::Aborted), 3, "{counters:#?}");
    // Clients that close their sending side first and read all nevertheless.
    for request in ["large\n", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = narrow(server.address());
        client.send(request);
        client.half_close();
        assert!(client.rest().ends_with(&content));
    }
    let counters = at_rest(&server, 5);
    assert_eq!(counters.closed(CloseReason::Complete), 2, "{counters:#?}");
    drop(server);
    let log = std::fs::read_to_string(log).expect("a log");
    assert_eq!(log.lines().count(), 5, "{log}");
    let complete = format!(" {0}/{0} ", content.len());
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line.contains(" aborted: "), number < 3, "{log}");
        assert_eq!(line.ends_with(" complete"), number >= 3, "{log}");
        assert_eq!(line.contains(&complete), number >= 3, "{log}");
    }
}

#[test]
fn floods_of_connects_and_resets_leave_nothing_behind() {
    let server = TestServer::start();
    put_sparse(&server, "huge", 64 << 30);
    server.put("small", b"small");
    for round in 0..600 {
        let mut client = server.connect();
        match round % 4 {
            0 => {}
            1 => client.send("GET /sm"),
            2 => client.send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => client.send("huge\n"),
        }
        SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a reset at the close");
    }
    assert_eq!(server.by_name("small"), b"small");
    at_rest(&server, 601);
}

#[test]
fn a_peer_that_leaves_a_64_gib_transfer_leaves_no_state() {
    let server = TestServer::start();
    put_sparse(&server, "huge", 64 << 30);
    for round in 0..32 {
        let mut client = server.connect();
        match round % 3 {
            0 => client.send("huge\n"),
            1 => client.send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => client
                .send("GET /huge HTTP/1.1\r\nHost: x\r\nRange: bytes=5-,0-0,1-9999999999\r\n\r\n"),
        }
        client.take(100_000);
    }
    let counters = at_rest(&server, 32);
    assert_eq!(counters.closed(CloseReason::Aborted), 32);
    // All permits of large transfers are back.
    let server = server.shut_down();
    assert_eq!(server.open, 0);
}

#[test]
fn a_hundred_thousand_pipelined_requests_are_answered_in_turn() {
    let server = TestServer::start();
    server.put("small", b"small");
    let mut client = server.connect();
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let count = 100_000;
    let sender = std::thread::spawn(move || {
        let request = "GET /small HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
        for _ in 0..count / 1_000 {
            writer.write_all(request.as_bytes()).expect("all is taken");
        }
    });
    let mut answers = 0;
    let mut tail = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = client.stream.read(&mut buffer).expect("an orderly end");
        if read == 0 {
            break;
        }
        tail.extend_from_slice(&buffer[..read]);
        answers += memchr::memmem::find_iter(&tail, ANSWER).count();
        // What might be the beginning of another one.
        let keep = tail.len().min(ANSWER.len() - 1);
        tail.drain(..tail.len() - keep);
    }
    sender.join().expect("no panic");
    assert_eq!(answers, count);
    drop(client);
    let counters = at_rest(&server, 1);
    assert_eq!(counters.requests, count as u64);
}

/// More than the receive buffer of [`narrow`] (the kernel doubles the requested size), and less
/// than the server lets wait unsent.
const NOT_READ: usize = 12_000;

const ANSWER: &[u8] = b"HTTP/1.1 200 ";

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_peer_that_takes_all_that_its_rate_allows_is_never_stalled() {
    let server = TestServer::with(|config| {
        config.rates.connection = Some(48 << 10);
        config.deadlines.send_stall = Duration::from_millis(500);
    });
    let content = noise(160 << 10, 7);
    server.put("f", &content);
    // Segments of 64 KiB are further apart than a peer may take nothing.
    assert!(server.by_name("f") == content);
    assert_eq!(server.counters().closed(CloseReason::Stalled), 0);
}
