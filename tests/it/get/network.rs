//! The network: ports of other protocols, proxies, codings, tiny ranges, and the user's limits.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::support::{Act, Client, Served, Server, cut};

const LENGTH: usize = 2 << 20;

/// A server that sends `answer` to any request.
fn saying(answer: impl Into<Vec<u8>>) -> Server {
    let answer = answer.into();
    Server::start(move |_| vec![Act::Send(answer.clone()), Act::Close])
}

#[test]
fn what_is_not_http_is_final_at_once_and_named() {
    let answers: [(&[u8], &str); 4] = [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"220 mail.example ESMTP\r\n", "SMTP"),
        (b"<html>HTTP/0.9</html>", "not HTTP/1.x"),
    ];
    for (answer, named) in answers {
        let server = saying(answer);
        Client::new()
            .get(&[&server.url("/f")])
            .assert_status(4)
            .assert_says(named);
        assert_eq!(server.requests().len(), 1, "{named}");
    }
}

#[test]
fn the_zone_of_an_address_is_connected_to_and_not_told() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        // Past the test harness, which would swallow it.
        let _ = writeln!(io::stderr(), "SKIPPED: a zone id: no IPv6 here");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut head = String::new();
        let mut lines = BufReader::new(peer.try_clone().unwrap());
        while lines.read_line(&mut head).unwrap() > 2 {}
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
            .unwrap();
        head
    });
    let client = Client::new();
    client
        .get(&[&format!("http://[::1%251]:{port}/f")])
        .assert_status(0);
    client.assert_whole("f", b"abc");
    let head = server.join().unwrap();
    assert!(head.contains(&format!("Host: [::1]:{port}\r\n")), "{head}");
}

#[test]
fn an_unknown_transfer_coding_is_final_at_once() {
    let server = saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: lzma\r\n\r\nxx");
    Client::new()
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("transfer coding");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_of_tiny_ranges_gets_a_request_for_the_whole() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| match (request.number, request.range()) {
        (0, _) => {
            let answer = served.whole();
            vec![Act::Send(answer[..LENGTH / 2].to_vec()), Act::Close]
        }
        (_, Some((start, _))) => vec![Act::Send(served.part(start, start + 1))],
        (_, None) => vec![Act::Send(served.whole())],
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(0)
        .assert_says("crumbs");
    client.assert_whole("f", &file.bytes);
    assert!(server.requests().len() < 50, "{}", server.requests().len());
}

#[test]
fn crumbs_are_followed_where_they_are_all_there_is() {
    let (file, client) = (Served::new(1, 400_000), Client::new());
    let served = file.clone();
    // Whole answers always break off at the same place.
    let server = Server::start(move |request| match request.range() {
        None => vec![Act::Send(cut(&served.whole(), 10)), Act::Close],
        Some((start, Some(end))) => vec![Act::Send(served.part(start, end.min(start + 9_000)))],
        Some(_) => vec![Act::Reset],
    });
    client.get(&["-s", "1", &server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert!(server.requests().len() < 60, "{}", server.requests().len());
}

#[test]
fn an_unrequested_content_coding_is_not_saved_as_the_file() {
    let head = |coding: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 5\r\n\r\nhello")
    };
    for coding in ["gzip", "br", "exotic"] {
        let (server, client) = (saying(head(coding)), Client::new());
        client
            .get(&[&server.url("/f")])
            .assert_status(4)
            .assert_says(coding);
        assert!(client.names().is_empty());
    }
    // Servers that call what the file is a coding: the bytes are the file's.
    for (coding, name) in [("x-gzip", "f.tgz"), ("gzip", "f.tar.gz"), ("identity", "f")] {
        let (server, client) = (saying(head(coding)), Client::new());
        client
            .get(&[&server.url(&format!("/{name}"))])
            .assert_status(0);
        client.assert_whole(name, b"hello");
    }
}

#[test]
fn an_answer_that_a_proxy_changed_is_taken() {
    let client = Client::new();
    let server =
        saying("HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 5\r\n\r\nhello");
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", b"hello");
}

#[test]
fn a_proxy_that_wants_a_password_is_called_a_proxy() {
    let server = saying("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    Client::new()
        .get(&[&server.url("/f")])
        .assert_status(3)
        .assert_says("proxy");
}

#[test]
fn a_remote_name_is_had_where_head_is_refused() {
    for status in [
        "403 Forbidden",
        "405 Method Not Allowed",
        "501 Not Implemented",
    ] {
        let (file, client) = (Served::new(1, 1000), Client::new());
        let served = file.clone();
        let server = Server::start(move |request| {
            let more = "Content-Disposition: attachment; filename=named\r\n";
            if request.method == "HEAD" {
                return vec![Act::Send(served.head(status, 0, ""))];
            }
            let mut answer = served.head("200 OK", served.len(), more);
            answer.extend_from_slice(&served.bytes);
            vec![Act::Send(answer)]
        });
        client.get(&["-J", &server.url("/f")]).assert_status(0);
        client.assert_whole("named", &file.bytes);
    }
}

/// A port without answers to connects, as long as the sockets are open.
fn deaf() -> (u16, Vec<Socket>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&address).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let queue = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    let mut sockets: Vec<Socket> = queue.collect();
    sockets.push(full);
    (address.as_socket().unwrap().port(), sockets)
}

#[test]
fn no_range_waits_for_a_connection_that_does_not_stand() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        vec![Act::Drip {
            bytes: served.answer(request),
            piece: 64 << 10,
            pause: Duration::from_millis(10),
        }]
    });
    let (port, sockets) = deaf();
    let mirror = format!("http://127.0.0.1:{port}/f");
    // A range assigned to the mirror would be waited for until the test's time-out.
    let arguments = [
        "--connect-timeout",
        "1h",
        "--segments",
        "3",
        "--mirror",
        &mirror,
    ];
    client
        .get(&[&arguments[..], &[&server.url("/f")]].concat())
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    drop(sockets);
}

/// A server that brings a piece every 20 ms, without end in sight.
fn dripping() -> Server {
    let file = Served::new(1, LENGTH);
    Server::start(move |request| {
        vec![Act::Drip {
            bytes: file.answer(request),
            piece: 100,
            pause: Duration::from_millis(20),
        }]
    })
}

#[test]
fn the_time_for_everything_ends_what_is_not_whole() {
    let (server, client) = (dripping(), Client::new());
    client
        .get(&["--max-time", "500ms", &server.url("/f"), &server.url("/g")])
        .assert_status(5)
        .assert_says("--max-time")
        .assert_says("bytes are kept");
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    client
        .get(&["--max-time", "300ms", "-o", "-", &server.url("/h")])
        .assert_status(5)
        .assert_says("--max-time");
}

#[test]
fn a_rate_below_the_least_one_ends_in_an_error() {
    for target in ["f", "-"] {
        let (server, client) = (dripping(), Client::new());
        let floor = [
            "--min-rate",
            "1M",
            "--min-rate-window",
            "200ms",
            "--retries",
            "2",
        ];
        let ran = client.get(&[&floor[..], &["-s", "1", "-o", target, &server.url("/f")]].concat());
        ran.assert_status(4).assert_says("--min-rate");
        // It waits, since there is no other mirror.
        assert!(!ran.stderr.contains("other addresses"), "{}", ran.stderr);
        assert_eq!(server.requests().len(), 3, "the first one and two retries");
    }
}

#[test]
fn retries_go_on_for_the_time_that_was_given() {
    let server = saying("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
    Client::new()
        .get(&["--retry-for", "400ms", &server.url("/f")])
        .assert_status(4)
        .assert_says("without progress");
    assert!(server.requests().len() > 3, "{}", server.requests().len());
}

#[test]
fn many_small_chunks_are_put_together() {
    let (client, file) = (Client::new(), Served::new(1, 300_000));
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for (at, byte) in file.bytes.iter().enumerate() {
        // Now and then a large one, so that reads end everywhere.
        if at % 1000 == 0 {
            answer.extend_from_slice(b"1;x=y\r\n");
        } else {
            answer.extend_from_slice(b"1\r\n");
        }
        answer.extend_from_slice(&[*byte, b'\r', b'\n']);
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    let server = saying(answer);
    for receive in ["splice", "copy"] {
        client
            .get(&["-f", "--receive", receive, &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn one_family_of_addresses_can_be_asked_for() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    client
        .get(&["-6", "--retries", "0", &server.url("/f")])
        .assert_status(4)
        .assert_says("family");
    client.get(&["-4", &server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}
