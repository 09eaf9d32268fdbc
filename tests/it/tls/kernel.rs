//! Sessions that the kernel takes over. What holds for TLS in user space holds for them; where the
//! kernel has none, these tests say so and leave off.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use haul::server::config::KernelTlsChoice;
use haul::server::telemetry::CloseReason;
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{TcpTlsTx, TcpUlp, TlsCryptoInfo};
use rustls::ClientConfig;

use super::support::{TlsClient, TlsServer, client_with};
use crate::support::{Answer, Client, noise};

/// What this kernel can do.
pub struct Kernel {
    pub changes_keys: bool,
}

impl Kernel {
    /// `None` if it has no TLS.
    pub fn look() -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        if setsockopt(&socket, TcpUlp::default(), b"tls").is_err() {
            eprintln!("left out: this kernel has no TLS");
            return None;
        }
        let keys = TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
            info: libc::tls_crypto_info {
                version: libc::TLS_1_3_VERSION,
                cipher_type: libc::TLS_CIPHER_AES_GCM_128,
            },
            iv: [0; 8],
            key: [0; 16],
            salt: [0; 4],
            rec_seq: [0; 8],
        });
        setsockopt(&socket, TcpTlsTx, &keys).expect("keys are taken");
        let changes_keys = setsockopt(&socket, TcpTlsTx, &keys).is_ok();
        Some(Self { changes_keys })
    }
}

/// A client that takes little at a time.
fn slow_client(tls: &TlsServer, config: ClientConfig) -> TlsClient {
    let socket = Client::with_small_window(tls.address()).into_socket();
    TlsClient::over(socket, Arc::new(config), "localhost")
}

const SUITES: [&str; 6] = [
    "TLS13_AES_128_GCM_SHA256",
    "TLS13_AES_256_GCM_SHA384",
    "TLS13_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Sessions that kernels have sealed for on this host so far, at the least.
fn sealed_for() -> u64 {
    let text = fs::read_to_string("/proc/net/tls_stat").expect("it has TLS");
    let line = text.lines().find_map(|line| line.strip_prefix("TlsTxSw"));
    let number = line.expect("a counter").trim().parse();
    number.expect("a number")
}

#[test]
fn each_suite_s_bytes_are_right_whatever_is_asked_for_on_one_connection() {
    if Kernel::look().is_none() {
        return;
    }
    let before = sealed_for();
    let tls = TlsServer::start();
    let content = noise(3 << 20, 41);
    tls.server.put("large", &content);
    tls.server.put("small", "content");
    for (nth, suite) in SUITES.iter().enumerate() {
        let mut client = tls.connect_as(client_with(&tls, suite));
        client.request("/small", "");
        assert_eq!(client.answer().body, b"content");
        assert_eq!(
            tls.server.counters().kernel_tls,
            nth as u64,
            "not for little"
        );
        for round in 0..2 {
            client.request("/large", "");
            assert!(client.answer().body == content, "{suite}, {round}");
            client.request("/small", "");
            assert_eq!(client.answer().body, b"content", "{suite}");
        }
        // Neither records nor pages begin where these do.
        for (from, to) in [(1, 1_000_000), (16_383, 400_000), (1_234_567, 3 << 20)] {
            client.request("/large", &format!("Range: bytes={from}-{}\r\n", to - 1));
            let answer = client.answer();
            assert_eq!(answer.status, 206);
            assert!(answer.body == content[from..to], "{suite}");
        }
        client.request("/large", "Range: bytes=0-599999,700000-1999999\r\n");
        let answer = client.answer();
        assert_eq!(answer.status, 206);
        let has = |part: &[u8]| memchr::memmem::find(&answer.body, part).is_some();
        assert!(
            has(&content[..600_000]) && has(&content[700_000..2_000_000]),
            "{suite}"
        );
        client.send("HEAD /large HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = client_head(&mut client);
        assert!(head.contains("200 OK") && head.contains(&content.len().to_string()));
        assert_eq!(client.answer().status, 404);
        client.request("/", "Accept: application/json\r\nConnection: close\r\n");
        let listing = client.rest().expect("close_notify");
        assert!(
            String::from_utf8_lossy(&listing).contains("\"large\""),
            "{suite}"
        );
        assert_eq!(tls.server.counters().kernel_tls, nth as u64 + 1, "{suite}");
    }
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Complete), SUITES.len() as u64);
    assert_eq!(counters.copied_bodies, 0);
    assert!(sealed_for() >= before + SUITES.len() as u64);
}

/// The head of a response, of one without content.
fn client_head(client: &mut TlsClient) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    String::from_utf8(head).expect("a head in ASCII")
}

#[test]
fn nothing_goes_to_the_kernel_if_it_is_not_to() {
    let tls = TlsServer::with(|config, _| config.kernel_tls = KernelTlsChoice::Off);
    let content = noise(3 << 20, 42);
    tls.server.put("large", &content);
    assert!(tls.get("/large", "").body == content);
    assert_eq!(tls.server.counters().kernel_tls, 0);
}

#[test]
fn a_file_that_changes_never_passes_as_whole() {
    if Kernel::look().is_none() {
        return;
    }
    for suite in SUITES {
        let tls = TlsServer::start();
        let path = tls.server.put("file", noise(32 << 20, 43));
        for (round, connection) in ["", "Connection: close\r\n"].into_iter().enumerate() {
            let mut client = slow_client(&tls, client_with(&tls, suite));
            client.request("/file", connection);
            let begun = client.take(400_000);
            let file = OpenOptions::new().write(true).open(&path).expect("there");
            if round == 0 {
                crate::support::wait_for_tick(&path);
                (&file).write_all(b"changed").expect("written");
            } else {
                file.set_len(1 << 20).expect("cut");
            }
            let (rest, end) = client.try_rest();
            assert!(begun.len() + rest.len() < 32 << 20, "{suite}");
            end.expect_err("no close_notify");
            let closed = round as u64 + 1;
            let counters = tls
                .server
                .counters_when(|counters| counters.closed(CloseReason::Changed) == closed);
            assert_eq!(counters.kernel_tls, closed);
        }
    }
}

#[test]
fn a_body_that_ends_by_close_ends_by_close_notify_or_by_a_reset() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(8 << 20, 44);
    let path = tls.server.put("by-name", &content);
    let mut client = tls.connect();
    client.send("by-name\n");
    assert!(client.rest().expect("close_notify") == content);
    let mut client = slow_client(&tls, tls.authority.client());
    client.send("by-name\n");
    client.take(400_000);
    let file = OpenOptions::new().write(true).open(&path).expect("there");
    file.set_len(1 << 20).expect("cut");
    let (_, end) = client.try_rest();
    assert_eq!(end.expect_err("broken").kind(), ErrorKind::ConnectionReset);
    assert_eq!(tls.server.counters().kernel_tls, 2);
}

#[test]
fn close_notify_of_the_client_ends_its_side_alone() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(8 << 20, 45);
    tls.server.put("large", &content);
    // While the response is on its way, and behind it.
    let mut client = slow_client(&tls, tls.authority.client());
    client.request("/large", "");
    let begun = client.take(400_000);
    client.close();
    let bytes = [begun, client.rest().expect("close_notify")].concat();
    assert!(Answer::parse(&bytes).body == content);
    let mut client = tls.connect();
    client.request("/large", "");
    assert!(client.answer().body == content);
    client.close();
    assert!(client.rest().expect("close_notify").is_empty());
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Complete), 2);
    assert_eq!(counters.kernel_tls, 2);
}

#[test]
fn a_stream_that_is_cut_is_no_close_notify() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(1 << 20, 46);
    tls.server.put("large", &content);
    let mut client = tls.connect();
    client.request("/large", "");
    assert!(client.answer().body == content);
    client.send("GET /large HTTP/1.1\r\n");
    client.stream.sock.shutdown(Shutdown::Write).expect("open");
    tls.server
        .counters_when(|counters| counters.closed(CloseReason::Aborted) == 1);
}

#[test]
fn who_ends_the_tcp_stream_behind_a_request_gets_all_of_the_response() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(4 << 20, 49);
    tls.server.put("large", &content);
    for _ in 0..8 {
        let mut client = slow_client(&tls, tls.authority.client());
        client.request("/large", "");
        client.stream.sock.shutdown(Shutdown::Write).expect("open");
        assert!(client.answer().body == content);
    }
    // The kernel takes no session of a stream that has ended: here it has it before.
    for nth in 0..4 {
        let before = tls.server.counters().kernel_tls;
        let mut client = slow_client(&tls, tls.authority.client());
        client.request("/large", "");
        let mut bytes = client.take(400_000);
        client.stream.sock.shutdown(Shutdown::Write).expect("open");
        let whole = Answer::parse(&bytes).head.len() + 4 + content.len();
        bytes.extend(client.take(whole - bytes.len()));
        assert!(Answer::parse(&bytes).body == content, "{nth}");
        assert_eq!(tls.server.counters().kernel_tls, before + 1);
    }
}

#[test]
fn invitations_to_send_a_body_take_nothing_from_the_end_of_what_follows() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(4 << 20, 50);
    tls.server.put("large", &content);
    tls.server.put("small", "content");
    let mut client = slow_client(&tls, tls.authority.client());
    client.request("/large", "");
    assert!(client.answer().body == content);
    for _ in 0..800 {
        client.request("/small", "Expect: 100-continue\r\nContent-Length: 2\r\n");
        assert_eq!(client.take(25), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send("xx");
        assert_eq!(client.answer().body, b"content");
    }
    client.request("/large", "Connection: close\r\n");
    let rest = client.rest().expect("close_notify");
    assert!(Answer::parse(&rest).body == content);
    assert_eq!(tls.server.counters().kernel_tls, 1);
}

#[test]
fn what_is_no_record_is_no_fault_of_the_file() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    tls.server.put("large", noise(32 << 20, 51));
    // Too long, and of no version.
    for (nth, bytes) in [&[23, 3, 3, 0xff, 0xff], b"GET / HTTP/1.1\r\n\r\n" as &[u8]]
        .into_iter()
        .enumerate()
    {
        let mut client = slow_client(&tls, tls.authority.client());
        client.request("/large", "");
        client.take(400_000);
        client.stream.sock.write_all(bytes).expect("taken");
        let (_, end) = client.try_rest();
        end.expect_err("no close_notify");
        let counters = tls.server.counters_when(|counters| counters.open == 0);
        let aborted = counters.closed(CloseReason::Aborted);
        assert_eq!(aborted, nth as u64 + 1, "{counters:#?}");
        assert_eq!(counters.copied_bodies, 0, "{counters:#?}");
    }
}

#[test]
fn a_record_that_does_not_decrypt_is_told_and_ends_the_connection() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(1 << 20, 47);
    tls.server.put("large", &content);
    let mut client = tls.connect();
    client.request("/large", "");
    assert!(client.answer().body == content);
    let record = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    client.stream.sock.write_all(&record).expect("taken");
    let (rest, end) = client.try_rest();
    assert!(rest.is_empty());
    let error = end.expect_err("no close_notify").to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.panics, 0);
}

#[test]
fn a_record_of_no_version_is_told_and_ends_the_connection() {
    if Kernel::look().is_none() {
        return;
    }
    let tls = TlsServer::start();
    tls.server.put("large", noise(32 << 20, 52));
    let record = [&[23, 1, 1, 0, 40][..], &[7; 40]].concat();
    let mut client = tls.connect();
    client.request("/large", "");
    client.answer();
    client.stream.sock.write_all(&record).expect("taken");
    let error = client.rest().expect_err("no close_notify").to_string();
    assert!(error.contains("DecodeError"), "{error}");
    // A response that is on its way ends by a reset.
    let mut client = slow_client(&tls, tls.authority.client());
    client.request("/large", "");
    client.take(400_000);
    client.stream.sock.write_all(&record).expect("taken");
    client.rest().expect_err("no close_notify");
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.kernel_tls, 2);
    assert_eq!(counters.closed(CloseReason::Aborted), 1, "{counters:#?}");
}

#[test]
fn keys_that_a_client_changes_are_changed_or_end_the_connection_behind_the_response() {
    let Some(kernel) = Kernel::look() else {
        return;
    };
    let tls = TlsServer::start();
    let content = noise(6 << 20, 48);
    tls.server.put("large", &content);
    let mut client = tls.connect();
    let mut changes = 0;
    loop {
        client.request("/large", "");
        assert!(client.answer().body == content);
        let session = &mut client.stream.conn;
        session.refresh_traffic_keys().expect("of TLS 1.3");
        client.stream.flush().expect("taken");
        changes += 1;
        if !kernel.changes_keys {
            assert!(client.rest().expect("close_notify").is_empty());
            break;
        }
        if changes == 4 {
            break;
        }
    }
    drop(client);
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Complete), 1);
    assert_eq!(counters.kernel_tls, 1);
}

/// A client that has its keys changed before each of so many requests.
fn changes_keys_often(tls: &TlsServer, client: &mut TlsClient) {
    for nth in 0..40 {
        let session = &mut client.stream.conn;
        session.refresh_traffic_keys().expect("of TLS 1.3");
        client.stream.flush().expect("taken");
        client.request("/small", "");
        assert_eq!(client.answer().body, b"content", "{nth}");
    }
    assert_eq!(tls.server.counters().accepted, 1);
}

#[test]
fn keys_may_be_changed_before_every_request() {
    let tls = TlsServer::start();
    let content = noise(1 << 20, 52);
    tls.server.put("large", &content);
    tls.server.put("small", "content");
    let mut client = tls.connect();
    client.request("/small", "");
    assert_eq!(client.answer().body, b"content");
    changes_keys_often(&tls, &mut client);
    if !Kernel::look().is_some_and(|kernel| kernel.changes_keys) {
        return;
    }
    client.request("/large", "");
    assert!(client.answer().body == content);
    changes_keys_often(&tls, &mut client);
    assert_eq!(tls.server.counters().kernel_tls, 1);
}
