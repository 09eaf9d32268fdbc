//! Handshakes that go well, that fail, that never end, and what is no handshake at all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul::server::config::KernelTlsChoice;
use haul::server::telemetry::CloseReason;
use haul::server::telemetry::access_log::Destination;
use rustls::{HandshakeKind, ProtocolVersion};

use super::support::{TlsClient, TlsServer};
use crate::support::{Answer, Client};

#[test]
fn both_versions_are_spoken_and_sessions_resumed() {
    let tls = TlsServer::start();
    tls.server.put("file", "content");
    for (versions, expected) in [
        ([&rustls::version::TLS12], ProtocolVersion::TLSv1_2),
        ([&rustls::version::TLS13], ProtocolVersion::TLSv1_3),
    ] {
        let mut config = tls.authority.client_of(&versions, None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = TlsClient::over(tls.socket(), Arc::clone(&config), "localhost");
            client.request("/file", "Connection: close\r\n");
            let answer = Answer::parse(&client.rest().expect("close_notify"));
            assert_eq!(answer.body, b"content");
            let session = &client.stream.conn;
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(session.handshake_kind(), Some(kind), "{expected:?}");
        }
    }
    let counters = tls.server.counters();
    assert_eq!((counters.handshakes(), counters.handshakes_resumed), (4, 2));
    assert_eq!(
        (counters.handshakes_failed_in_all(), counters.hot_waits),
        (0, 0)
    );
}

#[test]
fn a_client_that_wants_another_protocol_is_told_so() {
    let tls = TlsServer::start();
    let mut config = tls.authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = tls.connect_as(config).shake_hands().expect_err("refused");
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    tls.server
        .counters_when(|counters| counters.handshakes_failed_in_all() == 1);
}

#[test]
fn http_in_plain_text_is_told_where_it_is() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let tls = TlsServer::with(|config, _| {
        config.access_log = Destination::File(log.path().to_owned());
    });
    for request in [
        "GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::over(tls.socket());
        client.send(request);
        let answer = Answer::parse(&client.rest());
        assert_eq!(answer.status, 400);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("https://"), "{text}");
    }
    // In pieces as well.
    let mut client = Client::over(tls.socket());
    for piece in ["G", "ET", " ", "/x HTTP/1.1\r\n"] {
        client.send(piece);
        tls.server.counters_when(|counters| counters.parks > 0);
    }
    assert_eq!(Answer::parse(&client.rest()).status, 400);
    // Any answer would be taken for the bytes of a file.
    let mut client = Client::over(tls.socket());
    client.send("big.iso\n");
    assert_eq!(client.try_rest().0, b"");
    assert_eq!(tls.server.shut_down().closed(CloseReason::Malformed), 4);
    let log = std::fs::read_to_string(log.path()).expect("a log");
    assert!(log.contains("400"), "{log}");
    assert!(
        log.contains("plain text on a port that speaks TLS"),
        "{log}"
    );
}

/// An edge for both is reported once.
#[test]
fn an_end_that_comes_with_the_first_letters_of_a_method_is_seen() {
    let tls = TlsServer::with(|config, _| {
        config.deadlines.head = Duration::from_secs(3600);
    });
    for turn in 1..=20 {
        let socket = tls.socket();
        // The server waits by now.
        tls.server.counters_when(|counters| counters.parks >= turn);
        let corked = socket2::SockRef::from(&socket);
        corked.set_tcp_cork(true).expect("Linux");
        (&socket).write_all(b"NT").expect("sent");
        socket.shutdown(Shutdown::Write).expect("sent");
        let mut client = Client::over(socket);
        assert_eq!(client.try_rest().0, b"");
    }
}

#[test]
fn tls_on_a_port_of_plain_text_is_told_so_by_an_alert() {
    let tls = TlsServer::start();
    let socket = Client::connect(tls.server.address()).into_socket();
    let mut client = TlsClient::over(socket, Arc::new(tls.authority.client()), "localhost");
    let error = client.shake_hands().expect_err("no TLS there");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    tls.server
        .counters_when(|counters| counters.closed(CloseReason::Malformed) == 1);
}

#[test]
fn garbage_and_oversized_records_end_the_connection() {
    let tls = TlsServer::start();
    let record = |kind: u8, len: u16, fill: u8| {
        let [high, low] = len.to_be_bytes();
        [vec![kind, 3, 3, high, low], vec![fill; usize::from(len)]].concat()
    };
    for input in [
        vec![0; 100],
        vec![0xff; 5_000],
        record(0x16, 40_000, 1),
        record(0x16, 100, 0),
        record(0x17, 100, 0),
        record(0x15, 2, 2),
        record(0x16, 0, 0),
    ] {
        let mut client = Client::over(tls.socket());
        // The server may have ended it before it took all.
        let _ = client.stream.write_all(&input);
        let _ = client.stream.shutdown(Shutdown::Write);
        let (answer, _) = client.try_rest();
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
    // Within a session as well.
    let mut client = tls.connect();
    client.shake_hands().expect("a handshake");
    client
        .stream
        .sock
        .write_all(&record(0x17, 200, 3))
        .expect("taken");
    client.try_rest().1.expect_err("an alert");
    tls.server
        .counters_when(|counters| counters.closed_in_all() == 8);
    assert_eq!(tls.server.counters().panics, 0);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_a_handshake() {
    let tls = TlsServer::start();
    tls.server.put("file", "content");
    let mut client = tls.connect();
    let mut hello = Vec::new();
    client.stream.conn.write_tls(&mut hello).expect("a hello");
    for byte in hello {
        client.stream.sock.write_all(&[byte]).expect("taken");
    }
    client.request("/file", "");
    assert_eq!(client.answer().body, b"content");
}

#[test]
fn slow_handshakes_are_cut_off_and_hold_up_nobody() {
    let tls = TlsServer::with(|config, _| {
        config.deadlines.head = Duration::from_millis(300);
        config.deadlines.first_byte = Duration::from_millis(300);
    });
    tls.server.put("file", "content");
    let mut slow: Vec<TcpStream> = (0..50).map(|_| tls.socket()).collect();
    for (number, socket) in slow.iter_mut().enumerate() {
        if number % 2 == 0 {
            socket.write_all(&[0x16, 3, 1, 1]).expect("taken");
        }
    }
    assert_eq!(tls.get("/file", "").body, b"content");
    for socket in &mut slow {
        // In order or by a reset, but soon.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::HeadTimeout), 25);
    assert_eq!(counters.closed(CloseReason::FirstByteTimeout), 25);
}

#[test]
fn a_flood_of_handshakes_holds_up_no_transfer() {
    let tls = TlsServer::start();
    let content = crate::support::noise(32 << 20, 1);
    tls.server.put("large", &content);
    let mut client = tls.connect();
    client.request("/large", "Connection: close\r\n");
    client.take(1_000);
    let config = Arc::new({
        let mut config = tls.authority.client();
        config.resumption = rustls::client::Resumption::disabled();
        config
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let socket = tls.socket();
                    let mut client = TlsClient::over(socket, Arc::clone(&config), "localhost");
                    client.shake_hands().expect("a handshake");
                }
            });
        }
        assert!(
            client
                .rest()
                .expect("close_notify")
                .ends_with(&content[1 << 20..])
        );
    });
    // A client is done before the server has its last message.
    let counters = tls
        .server
        .counters_when(|counters| counters.handshakes() >= 101);
    assert_eq!(counters.handshakes(), 101);
}

#[test]
fn silent_connections_give_way() {
    let tls = TlsServer::with(|config, _| {
        config.limits = haul::server::config::ConnectionLimits::for_connections(8);
    });
    tls.server.put("file", "content");
    let silent: Vec<TcpStream> = (0..8).map(|_| tls.socket()).collect();
    tls.server.counters_when(|counters| counters.open == 8);
    let begun = Instant::now();
    while begun.elapsed() < crate::support::PATIENCE {
        if tls.get("/file", "").status == 200 {
            break;
        }
    }
    assert!(tls.server.counters().closed(CloseReason::Overloaded) > 0);
    drop(silent);
}

#[test]
fn a_client_may_have_its_keys_changed() {
    // What the kernel makes of it is another test's.
    let tls = TlsServer::with(|config, _| config.kernel_tls = KernelTlsChoice::Off);
    let content = crate::support::noise(4 << 20, 2);
    tls.server.put("file", &content);
    let mut client = tls.connect();
    for _ in 0..4 {
        client.request("/file", "");
        assert!(client.answer().body == content);
        let session = &mut client.stream.conn;
        session.refresh_traffic_keys().expect("of TLS 1.3");
    }
    assert_eq!(tls.server.counters().panics, 0);
}
