//! Running out: of descriptors, connections, transfers. And everything taken comes back.

use std::path::Path;
use std::process::Command;

use haul::server::telemetry::CloseReason;
use nix::sys::signal::Signal;

use crate::limits::occupy;
use crate::process::{Program, haul};
use crate::support::{Answer, Client, TestServer, noise};

const LARGE: usize = 24 << 20;

/// A server with one worker of each kind that may have so many files open, and what it reports at
/// its end.
fn with_open_files(limit: u64, root: &Path) -> Program {
    let haul = haul();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"])
        .arg(haul.get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "debug"])
        .args(["--max-connections", "1000", "--workers", "1"])
        // An admitted connection stays silent for the whole test.
        .args(["--first-byte", "10m"])
        .args(["--disk-workers", "1", "--root"])
        .arg(root);
    Program::start(&mut command)
}

/// The least number of connections that such a server with two threads admits, of so many
/// descriptors: all but two for each thread and some more.
const fn full(limit: usize) -> usize {
    limit - 2 * 2 - 32
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux tells what is open")]
fn out_of_descriptors_it_waits_and_goes_on() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let mut program = with_open_files(128, root.path());
    let address = program.address();
    // More than it has descriptors for; the kernel's queue holds the rest.
    let mut clients: Vec<_> = (0..200).map(|_| program.connect(address)).collect();
    let mut last = clients.split_off(190);
    for client in &mut last {
        client.send("f\n");
    }
    program.open_files_when(|open| open >= full(128));
    // Those in front leave without a word, and the others get their turn.
    drop(clients);
    let taken: Vec<_> = last.iter_mut().map(Client::rest).collect();
    drop(last);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    let said = program.said.join("\n");
    assert!(taken.iter().all(|taken| taken == b"content"), "{said}");
    let exhausted = said
        .split("accept_exhausted: ")
        .nth(1)
        .expect("the counter");
    assert!(!exhausted.starts_with('0'), "it never ran out: {said}");
    assert!(
        said.contains("--max-connections 1000 is more than"),
        "{said}"
    );
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux tells what is open")]
fn single_connections_do_not_use_the_descriptors_for_files() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let mut program = with_open_files(128, root.path());
    let address = program.address();
    let (_, own_sockets) = program.open_files_when(|_| true);
    let mut clients: Vec<_> = (0..200).map(|_| program.connect(address)).collect();
    for client in &mut clients {
        client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let (open, sockets) = program.open_files_when(|open| open >= full(128));
    // Each closed connection makes room for one, in the order of arrival.
    let mut clients: Vec<_> = clients.into_iter().map(Some).collect();
    let inside = sockets - own_sockets;
    for number in 0..60 {
        clients[number] = None;
        let newcomer = clients[inside + number].as_mut().expect("it has not left");
        assert_eq!(newcomer.answer().status, 200);
    }
    let (open_now, _) = program.open_files_when(|_| true);
    assert!(open_now <= open + 2, "{open_now}, and {open} at first");
    program.signal(Signal::SIGTERM);
    drop(clients);
    assert!(program.end().success());
}

#[test]
fn one_client_may_ask_for_more_files_than_can_be_open() {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..400 {
        std::fs::write(root.path().join(number.to_string()), "content").expect("written");
    }
    let mut program = with_open_files(200, root.path());
    let address = program.address();
    let mut client = program.connect(address);
    for number in 0..400 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.answer().status, 200, "file {number}");
    }
}

/// The server's limit on open files is lowered under it until no look-up can have one.
#[test]
fn without_a_descriptor_for_the_file_clients_are_told_to_come_back() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let mut program = Program::serve(["--root".as_ref(), root.path().as_os_str()]);
    let address = program.address();
    let mut client = program.connect(address);
    client.send("GET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().status, 404);
    program.limit_open_files(8);
    client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
}

/// However few there are: those for the look-up and not for the names, too.
#[test]
fn without_descriptors_for_a_listing_clients_are_told_to_come_back() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(root.path().join("a/b")).expect("a directory");
    for spare in 0..6 {
        let mut program = Program::serve(["--root".as_ref(), root.path().as_os_str()]);
        let address = program.address();
        let mut client = program.connect(address);
        client.send("GET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().status, 404);
        let (open, _) = program.open_files_when(|_| true);
        program.limit_open_files(open as u64 + spare);
        client.send("GET /a/b/?format=json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let status = Answer::parse(&client.rest()).status;
        assert!(matches!(status, 200 | 503), "{status} with {spare} left");
    }
}

#[test]
fn beyond_the_limit_connections_are_told_to_come_back() {
    let server = TestServer::with(|config| config.limits.connections = 2);
    server.put("f", "content");
    // Silent ones would make room.
    let busy = occupy(&server, 2);
    let answer = Answer::parse(&server.exchange("GET /f HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("connection"), Some("close"));
    let retry_after = answer.field("retry-after").expect("Retry-After");
    assert!(retry_after.parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(server.by_name("f"), b"");
    let counters = server.counters_when(|counters| counters.closed_in_all() == 2);
    assert_eq!(counters.closed(CloseReason::Overloaded), 2);
    // With a place free again, the next one is welcome.
    drop(busy);
    server.counters_when(|counters| counters.open == 0);
    assert_eq!(server.by_name("f"), b"content");
}

#[test]
fn beyond_even_that_they_wait_and_are_served_when_others_leave() {
    let server = TestServer::with(|config| config.limits.connections = 1);
    server.put("f", "content");
    // One that is served, and as many as get 503.
    let told = (0..9).map(|_| server.connect()).collect::<Vec<_>>();
    server.counters_when(|counters| counters.accepted == 9);
    let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    }
    drop(told);
    for mut client in waiting {
        assert!(matches!(Answer::parse(&client.rest()).status, 200 | 503));
    }
    server.counters_when(|counters| counters.open == 0);
    assert_eq!(server.by_name("f"), b"content");
    assert_eq!(server.counters().accepted, 30);
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let server = TestServer::with(|config| config.limits.connections_per_client = 1);
    server.put("f", "content");
    let mut first = server.connect();
    server.counters_when(|counters| counters.accepted == 1);
    assert_eq!(
        Answer::parse(&server.exchange("GET /f HTTP/1.1\r\nHost: x\r\n\r\n")).status,
        503
    );
    // The first one is none the worse for it.
    first.send("GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(first.answer().body, b"content");
    drop(first);
    server.counters_when(|counters| counters.open == 0);
    assert_eq!(server.by_name("f"), b"content");
}

#[test]
fn large_transfers_leave_room_for_small_requests() {
    let server = TestServer::with(|config| config.limits.bulk_transfers = 1);
    server.put("big", noise(LARGE, 1));
    server.put("small", "small");
    let mut first = Client::with_small_window(server.address());
    first.send("big\n");
    let _ = first.take(1);
    let answer = server.get("/big", "");
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(server.by_name("big"), b"");
    assert_eq!(server.by_name("small"), b"small");
    assert_eq!(server.get("/big", "Range: bytes=0-99\r\n").body.len(), 100);
    let before = server.counters().closed_in_all();
    first.reset();
    server.counters_when(|counters| counters.closed_in_all() > before);
    server.counters_when(|counters| counters.open == 0);
    assert_eq!(server.get("/big", "").body.len(), LARGE);
}

#[test]
fn a_permit_for_a_large_transfer_comes_back_with_each_response() {
    let server = TestServer::with(|config| config.limits.bulk_transfers = 1);
    server.put("big", noise(2 << 20, 2));
    let mut client = server.connect();
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5));
    for _ in 0..5 {
        assert_eq!(client.answer().status, 200);
    }
    // The connection is kept; its permit is not.
    assert_eq!(server.by_name("big").len(), 2 << 20);
}

#[test]
fn all_that_was_taken_comes_back_however_connections_end() {
    let server = TestServer::with(|config| {
        config.limits.connections = 64;
        config.limits.bulk_transfers = 64;
    });
    server.put("big", noise(LARGE, 3));
    server.put("small", "small");
    for round in 0..10 {
        let mut clients: Vec<_> = (0..20)
            .map(|_| Client::with_small_window(server.address()))
            .collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(match number % 6 {
                0 => "big\n",
                1 => "GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
                2 => "GET /small HTTP/1.1\r\nHost: x\r\n\r\n",
                3 => "missing\n",
                4 => "\x16\x03\x01",
                _ => "GET /",
            });
        }
        for (number, client) in clients.into_iter().enumerate() {
            if (number + round) % 2 == 0 {
                client.reset();
            }
        }
    }
    let counters = server.counters_when(|counters| counters.accepted == 200 && counters.open == 0);
    assert_eq!(counters.closed_in_all(), 200);
    assert_eq!(counters.panics, 0);
    let large: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::with_small_window(server.address());
            client.send("big\n");
            client.take(1)
        })
        .collect();
    assert_eq!(large.len(), 40);
}

#[test]
fn no_descriptor_is_left_behind() {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..300 {
        std::fs::write(root.path().join(number.to_string()), noise(10_000, number))
            .expect("written");
    }
    let mut program = Program::serve([
        "--log".as_ref(),
        "off".as_ref(),
        "--root".as_ref(),
        root.path().as_os_str(),
    ]);
    let address = program.address();
    let descriptors = || program.descriptors();
    let fetch_all = || {
        for number in 0..300 {
            let mut client = Client::connect(address);
            client.send(format!("{number}\n"));
            assert_eq!(client.rest().len(), 10_000);
        }
    };
    fetch_all();
    // Looked-up files stay open for a second.
    let begun = std::time::Instant::now();
    while descriptors() > 40 {
        assert!(
            begun.elapsed() < crate::support::PATIENCE,
            "{} are open",
            descriptors()
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
