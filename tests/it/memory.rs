//! The memory that a peer costs which sends a request and reads nothing, for every kind of request.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul::server::telemetry::CloseReason;

use tempfile::TempDir;

use crate::process::{Program, haul};
use crate::support::{Client, PATIENCE, TestServer, noise, own_address};
use crate::tls::support::{Authority, TlsClient, TlsServer};

/// Peers before those that are measured.
const FIRST: usize = 20;

/// What one may cost, the allocator's losses included.
const MOST_BYTES: usize = 24 << 10;

#[test]
fn a_peer_that_asks_for_a_large_file_and_reads_nothing_costs_little() {
    let tree = tree();
    stall(&tree, "big\n", Small::No);
    stall(&tree, &get("/big", ""), Small::No);
    stall(&tree, &(get("/big", "") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_asks_for_64_ranges_and_reads_nothing_costs_little() {
    let tree = tree();
    let mut ranges = String::from("Range: bytes=0-99999");
    for number in 1..64 {
        let first = number * 200_000;
        write!(ranges, ",{first}-{}", first + 99_999).expect("written");
    }
    let request = get("/big", &(ranges + "\r\n"));
    stall(&tree, &request, Small::No);
    stall(&tree, &(request + &pipelined()), Small::No);
}

#[test]
fn a_peer_with_a_long_head_that_reads_nothing_costs_little() {
    let tree = tree();
    let tags = vec!["\"a\""; 7_000].join(",");
    for field in ["If-None-Match", "Accept", "Accept-Encoding", "X-Unknown"] {
        stall(
            &tree,
            &get("/big", &format!("{field}: {tags}\r\n")),
            Small::No,
        );
    }
    let line = format!("/big?{}", "q".repeat(15_000));
    stall(&tree, &(get(&line, "") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_asks_for_a_json_listing_and_reads_nothing_costs_little() {
    let tree = tree();
    stall(&tree, &get("/d/?format=json", ""), Small::No);
    stall(
        &tree,
        &(get("/d/?format=ndjson", "") + &pipelined()),
        Small::No,
    );
}

#[test]
fn a_peer_that_asks_for_a_page_and_reads_nothing_costs_little() {
    let tree = tree();
    for sort in ["", "?sort=size"] {
        for directory in ["d", "e"] {
            let target = format!("/{directory}/{sort}");
            stall(&tree, &get(&target, "Accept: text/html\r\n"), Small::No);
        }
    }
}

#[test]
fn a_peer_that_asks_for_an_index_and_reads_nothing_costs_little() {
    let tree = tree();
    stall(
        &tree,
        &(get("/d/", "Accept: */*\r\n") + &pipelined()),
        Small::No,
    );
}

#[test]
fn a_peer_that_pipelines_small_answers_and_reads_nothing_costs_little() {
    let tree = tree();
    let long = "q".repeat(2_000);
    for request in [
        get("/small", ""),
        get(
            "/small",
            "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
        ),
        get("/small", "If-None-Match: *\r\n"),
        get("/missing", ""),
        get("/missing", "Accept: text/html\r\n"),
        get(&format!("/d?{long}"), ""),
        get("/big", "Range: bytes=99999999-\r\n"),
        get("/big", "").replace("GET", "HEAD"),
        get("/big", "").replace("GET", "DELETE"),
        get("*", "").replace("GET", "OPTIONS"),
        "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".to_owned()
            + &"b".repeat(1_000),
    ] {
        stall(&tree, &request, Small::Yes);
    }
}

#[test]
fn a_peer_whose_requests_are_as_long_as_they_may_be_costs_little() {
    let tree = tree();
    let long = "q".repeat(14_000);
    for request in [
        get(&format!("/small?{long}"), ""),
        get(&format!("/d?{long}"), ""),
        get(&format!("/d/?q={long}"), "Accept: text/html\r\n"),
    ] {
        stall(&tree, &request, Small::Yes);
    }
}

#[test]
fn a_peer_that_reads_nothing_costs_little_over_tls_as_well() {
    let tree = tree();
    let long = "q".repeat(14_000);
    for (request, small) in [
        (get("/big", ""), Small::No),
        (get("/d/?sort=size", "Accept: text/html\r\n"), Small::No),
        (get(&format!("/missing?{long}"), ""), Small::Yes),
    ] {
        let authority = Authority::new();
        let identity = authority.identity("localhost", &["localhost"]);
        let config = Arc::new(authority.client());
        let ask = |address| {
            let socket = Client::with_small_window(address).into_socket();
            let mut client = TlsClient::over(socket, Arc::clone(&config), "localhost");
            client.shake_hands().expect("a handshake");
            let timeout = Some(Duration::from_millis(200));
            let socket = &client.stream.sock;
            socket.set_write_timeout(timeout).expect("a time-out");
            // What does not fit is sent no more.
            let _ = client
                .stream
                .write_all(repeated(&request, small).as_bytes());
            assert_eq!(client.stream.sock.peek(&mut [0]).expect("an answer"), 1);
            client
        };
        let [listen, certificate, key] =
            ["--listen-tls", "--tls-cert", "--tls-key"].map(OsStr::new);
        let address = own_address().to_string();
        let arguments = [
            listen,
            address.as_ref(),
            certificate,
            identity.certificate.as_os_str(),
            key,
            identity.key.as_os_str(),
        ];
        hold_little(&tree, &request, &arguments, small.peers(), ask);
    }
}

#[test]
fn a_handshake_that_is_not_whole_costs_little() {
    let tree = tree();
    let record = |bytes: &[u8]| {
        let [high, low] = u16::try_from(bytes.len()).expect("short").to_be_bytes();
        [&[0x16, 3, 1, high, low], bytes].concat()
    };
    // The beginning of a ClientHello (RFC 8446 section 4.1.2) of 8,000 bytes.
    let hello = [&[1, 0, 0x1f, 0x40, 3, 3][..], &[b'r'; 6_000]].concat();
    for flight in [record(&hello)[..5_000].to_vec(), record(&hello)] {
        let ask = |address| {
            let mut client = Client::connect(address);
            client.send(&flight);
            client
        };
        let address = own_address().to_string();
        let arguments = ["--listen-tls", &address, "--tls-self"].map(OsStr::new);
        hold_little(&tree, "a flight", &arguments, Small::No.peers(), ask);
    }
}

#[test]
fn what_is_long_and_not_whole_has_a_budget() {
    let server = TestServer::with(|config| config.limits.connections = 1_000);
    server.put("a", "content");
    let request = get("/a", &format!("X-Unknown: {}\r\n", "u".repeat(25_000)));
    let (most, part) = (256, request.len() - 2);
    let mut clients: Vec<_> = (0..most + 20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&request[..part]);
    }
    let refused = server.counters_when(|seen| seen.closed(CloseReason::Overloaded) == 20);
    assert_eq!(refused.closed_in_all(), 20);
    let answers = clients.into_iter().map(|mut client| {
        let _ = client.stream.write_all(&request.as_bytes()[part..]);
        client.answer().status
    });
    let (served, refused): (Vec<_>, Vec<_>) = answers.partition(|status| *status == 200);
    assert_eq!((served.len(), refused), (most, vec![503; 20]));
}

#[test]
fn what_is_pipelined_over_tls_behind_an_answer_has_a_budget() {
    let server = TlsServer::with(|config, _| config.limits.connections = 1_000);
    server.server.put("big", noise(16 << 20, 1));
    let config = Arc::new(server.authority.client());
    // In one record, which cannot be opened in part.
    let request = get("/big", "") + &pipelined()[..15_000];
    let ask = |_| {
        let socket = Client::with_small_window(server.address()).into_socket();
        let mut client = TlsClient::over(socket, Arc::clone(&config), "localhost");
        client.send(&request);
        client
    };
    let clients: Vec<_> = (0..256 + 20).map(ask).collect();
    let refused = (server.server).counters_when(|seen| seen.closed(CloseReason::Overloaded) == 20);
    assert_eq!(refused.closed_in_all(), 20);
    drop(clients);
}

/// Whether the answers are so small that it takes many to fill the buffers on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Small {
    Yes,
    No,
}

impl Small {
    /// How many peers are measured: so many that what the allocator loses once, up to a megabyte
    /// with pages, is small beside them. To fill the buffers takes each peer 200 ms.
    fn peers(self) -> usize {
        match self {
            Self::Yes => 100,
            Self::No => 300,
        }
    }
}

/// Has clients make this request and read nothing, and looks what they cost.
#[track_caller]
fn stall(tree: &TempDir, request: &str, small: Small) {
    let address = own_address().to_string();
    let arguments = ["--listen", &address].map(OsStr::new);
    hold_little(tree, request, &arguments, small.peers(), |address| {
        ask(Client::with_small_window(address), request, small)
    });
}

/// Has `peers` clients come to a server with these arguments, and looks what they cost.
#[track_caller]
fn hold_little<T>(
    tree: &TempDir,
    what: &str,
    arguments: &[&OsStr],
    peers: usize,
    come: impl Fn(SocketAddr) -> T,
) {
    let mut command = haul();
    command.args(["serve", "--workers", "1", "--disk-workers", "1"]);
    command.args(["--log", "off", "--root"]).arg(tree.path());
    let mut program = Program::start(command.args(arguments));
    let address = program.address();
    // The first ones make the server allocate what it allocates once: for listings the room of as
    // many pages as are made at a time.
    let _first: Vec<_> = (0..FIRST).map(|_| come(address)).collect();
    let before = settled(&program);
    let peers: Vec<_> = (0..peers).map(|_| come(address)).collect();
    let each = settled(&program).saturating_sub(before) / peers.len();
    assert!(
        each <= MOST_BYTES,
        "{each} bytes each for {:?}",
        &what[..what.len().min(60)]
    );
}

fn ask(mut client: Client, request: &str, small: Small) -> Client {
    client
        .stream
        .socket()
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a time-out");
    match client.stream.write_all(repeated(request, small).as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
    // Its answer is under way, and stays there.
    assert_eq!(client.stream.socket().peek(&mut [0]).expect("an answer"), 1);
    client
}

fn repeated(request: &str, small: Small) -> String {
    request.repeat(match small {
        Small::No => 1,
        Small::Yes => (1 << 20) / request.len() + 1,
    })
}

/// The memory of a server that has come to rest.
fn settled(program: &Program) -> usize {
    let begun = Instant::now();
    let mut looks = vec![program.resident_bytes()];
    loop {
        std::thread::sleep(Duration::from_millis(20));
        looks.push(program.resident_bytes());
        let last = looks[looks.len().saturating_sub(10)..].to_vec();
        if last.len() == 10 && last.iter().all(|look| *look == last[0]) {
            return last[0];
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "it never comes to rest: {last:?}"
        );
    }
}

/// The served files. Two thousand names take seconds, so a test has one tree for all its kinds.
fn tree() -> TempDir {
    let tree = tempfile::tempdir().expect("a directory");
    let root = tree.path();
    fs::write(root.join("big"), noise(16 << 20, 1)).expect("written");
    fs::write(root.join("small"), noise(200, 2)).expect("written");
    for directory in ["d", "e"] {
        fs::create_dir(root.join(directory)).expect("made");
    }
    for number in 0..1_000 {
        let name = format!("{number:04}{}", "n".repeat(240));
        fs::write(root.join("d").join(name), "").expect("written");
        fs::write(root.join("e").join(format!("{number:010}")), "").expect("written");
    }
    tree
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// Requests for later, 30 KB of them.
fn pipelined() -> String {
    get("/small", "").repeat(1_000)[..30_000].to_owned()
}
