//! Proxies that name their clients: the PROXY protocol, and fields of requests.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use haul::server::config::{ForwardedField, Proxies, ServeConfig};
use haul::server::telemetry::CloseReason;
use haul::server::telemetry::access_log::Destination;

use crate::process::{haul, run};
use crate::support::transport::leaves_out;
use crate::support::{Answer, Client, TestServer, noise};

/// A server whose log names its clients.
struct Logged {
    server: TestServer,
    directory: tempfile::TempDir,
}

impl Logged {
    fn with(adjust: impl FnOnce(&mut ServeConfig)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = TestServer::with(|config| {
            config.access_log = Destination::File(directory.path().join("log"));
            adjust(config);
        });
        server.put("f", "content");
        Self { server, directory }
    }

    fn introduced() -> Self {
        Self::with(|config| config.proxies = proxies("127.0.0.0/8"))
    }

    fn connect(&self) -> Client {
        Client::connect(self.server.address())
    }

    /// The clients in the log, and what was logged behind them.
    fn log(self) -> Vec<(String, String)> {
        let path: PathBuf = self.directory.path().join("log");
        self.server.shut_down();
        let log = fs::read_to_string(path).expect("a log");
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ').skip(1);
            let client = words.next().expect("a client").to_owned();
            (client, words.next().expect("the rest").to_owned())
        };
        log.lines().map(line).collect()
    }
}

fn proxies(introduced: &str) -> Proxies {
    Proxies {
        introduced: vec![introduced.parse().expect("a network")],
        ..Proxies::default()
    }
}

const GET: &str = "GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";

/// Version 2, `PROXY` for TCP over IPv6.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
    let mut block = [0; 36];
    block[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    (block[15], block[33]) = (7, 80);
    header.extend(block);
    header
}

/// Version 2, `LOCAL`: the proxy's own health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[test]
fn the_client_is_the_one_in_the_proxy_header() {
    if leaves_out("a header stands before the handshake") {
        return;
    }
    let logged = Logged::introduced();
    let exchange = |bytes: &[u8]| logged.connect().ask(bytes);
    for header in [LINE.as_bytes(), &version_2(), LOCAL] {
        let answer = exchange(&[header, GET.as_bytes()].concat());
        assert_eq!(Answer::parse(&answer).body, b"content");
        let answer = exchange(&[header, b"f\n"].concat());
        assert_eq!(answer, b"content");
    }
    let log = logged.log();
    let clients: Vec<&str> = log.iter().map(|(client, _)| client.as_str()).collect();
    assert_eq!(clients.len(), 6);
    assert_eq!(clients[..2], ["192.0.2.7:56324"; 2]);
    assert_eq!(clients[2..4], ["[2001:db8::7]:80"; 2]);
    assert!(clients[4..].iter().all(|client| client.starts_with("127.")));
    assert!(log.iter().all(|(_, rest)| rest.ends_with("complete")));
}

#[test]
fn a_header_may_come_in_pieces_and_what_follows_it_is_not_lost() {
    if leaves_out("a header stands before the handshake") {
        return;
    }
    let logged = Logged::introduced();
    logged.server.put("large", noise(4 << 20, 1));
    let header = [&version_2()[..], b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    let mut client = logged.connect();
    for byte in header {
        client.send([byte]);
    }
    assert_eq!(client.answer().body, b"content");
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.answer().body == noise(4 << 20, 1));
    drop(client);
    assert!(
        logged
            .log()
            .iter()
            .all(|(client, _)| client == "[2001:db8::7]:80")
    );
}

#[test]
fn a_proxy_that_lies_or_says_nothing_is_closed_with_a_reason() {
    if leaves_out("a header stands before the handshake") {
        return;
    }
    let logged = Logged::with(|config| {
        config.proxies = proxies("127.0.0.0/8");
        config.deadlines.head = Duration::from_millis(200);
    });
    for lie in [
        GET,
        "f\n",
        "PROXY TCP4 here there 1 2\r\n",
        "PROXY TCP4 1.2.3.4\r\n\r\n",
    ] {
        assert_eq!(logged.connect().ask(lie), b"", "{lie}");
    }
    let counted =
        |counters: &haul::server::telemetry::Snapshot| counters.closed(CloseReason::Malformed) == 4;
    logged.server.counters_when(counted);
    let mut silent = logged.connect();
    silent.send("PROXY TCP4 192.0");
    assert_eq!(silent.try_rest().0, b"");
    let counted = |counters: &haul::server::telemetry::Snapshot| {
        counters.closed(CloseReason::HeadTimeout) == 1
    };
    logged.server.counters_when(counted);
    let log = logged.log();
    // What follows the first line may hold credentials.
    assert!(log.iter().all(|line| !line.1.contains("Host")), "{log:?}");
    assert!(
        log[0]
            .1
            .contains("malformed: the proxy sent no PROXY header"),
        "{log:?}"
    );
    assert!(
        log[2].1.contains("malformed: a malformed PROXY line"),
        "{log:?}"
    );
    assert!(
        log[4].1.contains("head-timeout: the PROXY header"),
        "{log:?}"
    );
    assert!(
        log.iter().all(|(client, _)| client.starts_with("127.")),
        "{log:?}"
    );
}

#[test]
fn headers_of_untrusted_peers_are_ignored() {
    let logged = Logged::with(|config| config.proxies = proxies("192.0.2.0/24"));
    let answer = logged.connect().ask([LINE, GET].concat());
    assert!(!answer.ends_with(b"content"));
    let answer = logged.connect().ask(GET);
    assert_eq!(Answer::parse(&answer).body, b"content");
    assert!(
        logged
            .log()
            .iter()
            .all(|(client, _)| client.starts_with("127."))
    );
}

#[test]
fn limits_go_by_the_client_and_not_by_the_proxy() {
    if leaves_out("a header stands before the handshake") {
        return;
    }
    let logged = Logged::with(|config| {
        config.proxies = proxies("127.0.0.0/8");
        config.limits.connections_per_client = 2;
        config.limits.connections_per_remote_client = 2;
    });
    let ask = |client: &mut Client, address: &str| {
        client.send(format!("PROXY TCP4 {address} 10.0.0.1 1 2\r\n"));
        client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
        client.answer().status
    };
    let mut clients: Vec<Client> = (0..6).map(|_| logged.connect()).collect();
    let mut statuses = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let address = if number < 3 { "192.0.2.1" } else { "192.0.2.2" };
        statuses.push(ask(client, address));
    }
    assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
}

#[test]
fn a_trusted_proxy_s_field_names_the_client_of_each_request() {
    let logged = Logged::with(|config| {
        config.proxies.forwarding = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let mut client = logged.connect();
    for fields in [
        "X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n",
        "X-Forwarded-For: 192.0.2.2, 127.0.0.9\r\n",
        "Forwarded: for=192.0.2.3\r\n",
        "",
    ] {
        client.send(format!("GET /f HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        assert_eq!(client.answer().status, 200);
    }
    drop(client);
    let log = logged.log();
    assert_eq!(log[0].0, "192.0.2.1:0");
    assert_eq!(log[1].0, "192.0.2.2:0");
    assert!(
        log[2].0.starts_with("127.") && log[3].0.starts_with("127."),
        "{log:?}"
    );

    let logged = Logged::with(|config| {
        config.proxies.forwarding = vec!["127.0.0.0/8".parse().expect("a network")];
        config.proxies.field = ForwardedField::Forwarded;
    });
    let fields = "Forwarded: for=\"[2001:db8::1]:4711\"\r\nX-Forwarded-For: 192.0.2.1\r\n";
    logged.server.get("/f", fields);
    assert_eq!(logged.log()[0].0, "[2001:db8::1]:0");
}

#[test]
fn a_field_of_an_untrusted_peer_is_ignored() {
    let logged = Logged::with(|config| {
        config.proxies.forwarding = vec!["192.0.2.0/24".parse().expect("a network")];
    });
    logged.server.get("/f", "X-Forwarded-For: 203.0.113.9\r\n");
    assert!(logged.log()[0].0.starts_with("127."));
}

#[test]
fn a_network_that_is_none_is_an_error_of_usage() {
    for option in ["--proxy-protocol", "--trust-forwarded"] {
        for value in ["x", "10.0.0.0/33", "10.1.0.0/8"] {
            let output = run(haul().args(["serve", option, value]));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.starts_with("error: invalid value"), "{said}");
        }
    }
}
