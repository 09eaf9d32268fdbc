//! What a peer costs that asks and reads nothing, for every kind of request.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::Program;
use crate::support::{Client, PATIENCE, noise};

/// Peers at a time.
const PEERS: usize = 100;

/// Peers before those.
const FIRST: usize = 20;

/// What one may cost, the allocator's losses included.
const MOST_BYTES: usize = 24 << 10;

#[test]
fn a_peer_that_asks_for_a_large_file_and_reads_nothing_costs_little() {
    stall("big\n", Small::No);
    stall(&get("/big", ""), Small::No);
    stall(&(get("/big", "") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_asks_for_64_ranges_and_reads_nothing_costs_little() {
    let mut ranges = String::from("Range: bytes=0-99999");
    for number in 1..64 {
        let first = number * 200_000;
        write!(ranges, ",{first}-{}", first + 99_999).expect("written");
    }
    let request = get("/big", &(ranges + "\r\n"));
    stall(&request, Small::No);
    stall(&(request + &pipelined()), Small::No);
}

#[test]
fn a_peer_with_a_long_head_that_reads_nothing_costs_little() {
    let tags = vec!["\"a\""; 7_000].join(",");
    for field in ["If-None-Match", "Accept", "Accept-Encoding", "X-Unknown"] {
        stall(&get("/big", &format!("{field}: {tags}\r\n")), Small::No);
    }
    let line = format!("/big?{}", "q".repeat(15_000));
    stall(&(get(&line, "") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_asks_for_a_json_listing_and_reads_nothing_costs_little() {
    stall(&get("/d/?format=json", ""), Small::No);
    stall(&(get("/d/?format=ndjson", "") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_asks_for_a_page_and_reads_nothing_costs_little() {
    for sort in ["", "?sort=size"] {
        for directory in ["d", "e"] {
            let target = format!("/{directory}/{sort}");
            stall(&get(&target, "Accept: text/html\r\n"), Small::No);
        }
    }
}

#[test]
fn a_peer_that_asks_for_an_index_and_reads_nothing_costs_little() {
    stall(&(get("/d/", "Accept: */*\r\n") + &pipelined()), Small::No);
}

#[test]
fn a_peer_that_pipelines_small_answers_and_reads_nothing_costs_little() {
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
        stall(&request, Small::Yes);
    }
}

/// Whether the answers are so small that it takes many to fill the buffers on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Small {
    Yes,
    No,
}

/// Has [`PEERS`] clients make this request and read nothing, and looks what they cost.
#[track_caller]
fn stall(request: &str, small: Small) {
    let root = tempfile::tempdir().expect("a directory");
    put_files(root.path());
    let mut program = Program::serve([
        "--workers".as_ref(),
        "1".as_ref(),
        "--disk-workers".as_ref(),
        "1".as_ref(),
        "--log".as_ref(),
        "off".as_ref(),
        "--root".as_ref(),
        root.path().as_os_str(),
    ]);
    let address = program.address();
    // The first ones have the server take what it takes once: for listings that is room for as
    // many pages as are made at a time.
    let _first: Vec<_> = (0..FIRST)
        .map(|_| ask(Client::with_small_window(address), request, small))
        .collect();
    let before = settled(&program);
    let peers: Vec<_> = (0..PEERS)
        .map(|_| ask(Client::with_small_window(address), request, small))
        .collect();
    let each = settled(&program).saturating_sub(before) / peers.len();
    assert!(
        each <= MOST_BYTES,
        "{each} bytes each for {:?}",
        &request[..request.len().min(60)]
    );
}

fn ask(mut client: Client, request: &str, small: Small) -> Client {
    let repeat = match small {
        Small::No => 1,
        Small::Yes => (1 << 20) / request.len() + 1,
    };
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a time-out");
    match client.stream.write_all(request.repeat(repeat).as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
    // Its answer is under way, and stays there.
    assert_eq!(client.stream.peek(&mut [0]).expect("an answer"), 1);
    client
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

fn put_files(root: &Path) {
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
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// Requests for later, 30 KB of them.
fn pipelined() -> String {
    get("/small", "").repeat(1_000)[..30_000].to_owned()
}
