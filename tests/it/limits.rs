//! Limits: clients beyond them get 503, and small requests always find room.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use haul::server::telemetry::CloseReason;

use crate::support::{Answer, Client, PATIENCE, TestServer};

/// A client from another address of this host.
pub fn connect_from(local: Ipv4Addr, server: SocketAddr) -> Client {
    connect_socket(
        Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"),
        local,
        server,
    )
}

/// A client that has requested a large file by its name and reads nothing of it.
pub fn stalled_from(local: Ipv4Addr, server: &TestServer, name: &str) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("a size");
    let mut client = connect_socket(socket, local, server.address());
    client.send(format!("{name}\n"));
    client.take(1);
    client
}

fn connect_socket(socket: Socket, local: Ipv4Addr, server: SocketAddr) -> Client {
    socket
        .bind(&SocketAddr::from((local, 0)).into())
        .expect("127/8 is this host");
    socket.connect(&server.into()).expect("connects");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time-out");
    Client::over(stream)
}

/// Connections that keep their place: each is owed a response that it does not read.
pub fn occupy(server: &TestServer, count: usize) -> Vec<Client> {
    let path = server.put("huge", b"");
    let huge = std::fs::File::options().write(true).open(path);
    huge.and_then(|file| file.set_len(1 << 30))
        .expect("a sparse file");
    let stalled = |_| stalled_from(Ipv4Addr::new(127, 0, 0, 1), server, "huge");
    (0..count).map(stalled).collect()
}

/// Connections that have had an answer and keep silent.
fn idle_from(local: Ipv4Addr, server: &TestServer, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = connect_from(local, server.address());
        client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().status, 200);
        client
    };
    (0..count).map(connect).collect()
}

#[track_caller]
fn is_sent_away(mut client: Client, target: &str) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let answer = Answer::parse(&client.rest());
    assert_eq!(answer.status, 503);
    let seconds: u32 = answer
        .field("retry-after")
        .and_then(|value| value.parse().ok())
        .expect("seconds to wait");
    assert!(seconds > 0);
}

#[test]
fn connections_beyond_the_limit_are_answered_503() {
    let server = TestServer::with(|config| {
        config.limits.connections = 4;
        config.limits.bulk_transfers = 8;
    });
    server.put("small", b"small");
    let mut kept = occupy(&server, 4);
    is_sent_away(server.connect(), "/small");
    // The name protocol has no words for it.
    assert_eq!(server.by_name("small"), b"");
    let counters = server.counters_when(|counters| counters.open == 4);
    assert_eq!(counters.closed(CloseReason::Overloaded), 2);
    kept.pop();
    server.counters_when(|counters| counters.open == 3);
    assert_eq!(server.by_name("small"), b"small");
}

#[test]
fn rejected_connections_are_limited_too() {
    let server = TestServer::with(|config| config.limits.connections = 1);
    server.put("small", b"small");
    let kept = occupy(&server, 1);
    let silent: Vec<_> = (0..8).map(|_| server.connect()).collect();
    server.counters_when(|counters| counters.open == 9);
    // This connection waits in the kernel's queue until another one closes.
    let mut waiting = server.connect();
    waiting.send("small\n");
    drop(silent);
    assert_eq!(waiting.rest(), b"");
    drop(kept);
    let counters = server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.accepted, 10);
    assert_eq!(server.by_name("small"), b"small");
}

#[test]
fn one_client_has_no_more_than_its_connections() {
    let server = TestServer::with(|config| config.limits.connections_per_client = 2);
    server.put("small", b"small");
    let mut kept = occupy(&server, 2);
    is_sent_away(server.connect(), "/small");
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address());
    other.send("small\n");
    assert_eq!(other.rest(), b"small");
    drop(other);
    kept.pop();
    server.counters_when(|counters| counters.open == 1);
    assert_eq!(server.by_name("small"), b"small");
}

#[test]
fn a_client_beyond_its_limit_takes_no_place_from_others() {
    let server = TestServer::with(|config| {
        config.limits.connections = 4;
        config.limits.connections_per_client = 1;
    });
    server.put("small", b"small");
    let silent: Vec<_> = (0..40).map(|_| server.connect()).collect();
    server.counters_when(|counters| counters.accepted == 40);
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address());
    other.send("small\n");
    assert_eq!(other.rest(), b"small");
    drop((silent, other));
    let counters = server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed_in_all(), 41);
}

#[test]
fn large_transfers_leave_room_for_small_requests() {
    let server = TestServer::with(|config| config.limits.bulk_transfers = 2);
    server.put("small", b"small");
    let path = server.put("huge", b"");
    let huge = std::fs::File::options().write(true).open(path);
    huge.and_then(|file| file.set_len(1 << 30))
        .expect("a sparse file");
    let mut bulk = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect();
        client.send("huge\n");
        client.take(1);
        bulk.push(client);
    }
    let mut refused = server.connect();
    refused.send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = refused.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(server.by_name("huge"), b"");
    assert_eq!(server.by_name("small"), b"small");
    assert_eq!(server.get("/small", "").body, b"small");
    assert_eq!(server.get("/huge", "Range: bytes=0-9\r\n").body, [0; 10]);
    let head = server.exchange("HEAD /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(Answer::parse(&head).status, 200);
    bulk.pop();
    server.counters_when(|counters| counters.closed(CloseReason::Aborted) == 1);
    let mut client = server.connect();
    client.send("huge\n");
    client.take(1);
}

#[test]
fn silent_connections_of_one_client_make_room_for_another() {
    let server = TestServer::with(|config| config.limits.connections = 64);
    server.put("small", b"small");
    let (busy, other) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let mut kept = idle_from(other, &server, 1);
    let silent: Vec<_> = (0..90)
        .map(|_| connect_from(busy, server.address()))
        .collect();
    server.counters_when(|counters| counters.accepted >= 91);
    // A new connection is not silent yet.
    let begun = Instant::now();
    let is_served = || {
        let mut newcomer = connect_from(other, server.address());
        newcomer.send("small\n");
        matches!(newcomer.try_rest(), (bytes, Ok(_)) if bytes == b"small")
    };
    while !is_served() {
        assert!(begun.elapsed() < PATIENCE, "no room was made");
    }
    for _ in 0..20 {
        let mut newcomer = connect_from(other, server.address());
        newcomer.send("small\n");
        assert_eq!(newcomer.rest(), b"small");
    }
    // The one that was silent for the longest time is of a client with few.
    kept[0].send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept[0].answer().status, 200);
    assert!(server.counters().closed(CloseReason::Overloaded) >= 1);
    drop(silent);
}

#[test]
fn the_oldest_silent_connection_goes_first() {
    let server = TestServer::with(|config| {
        config.limits.connections = 3;
        config.workers = std::num::NonZeroUsize::MIN;
    });
    server.put("small", b"small");
    let mut idle = idle_from(Ipv4Addr::LOCALHOST, &server, 3);
    assert_eq!(server.by_name("small"), b"small");
    let counters = server.counters_when(|counters| counters.open == 2);
    assert_eq!(counters.closed(CloseReason::Overloaded), 1);
    assert_eq!(idle.remove(0).rest(), b"");
    for mut client in idle {
        client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn no_limit_is_absurd() {
    for connections in [1_000_000_000_000, usize::MAX] {
        let server = TestServer::with(|config| config.limits.connections = connections);
        server.put("small", b"small");
        assert_eq!(server.by_name("small"), b"small");
    }
}
