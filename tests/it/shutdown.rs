//! How it ends: idle connections at once, transfers within the grace, the rest by a reset.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use haul::server::telemetry::CloseReason;
use nix::sys::signal::Signal;

use crate::process::Program;
use crate::slowfs::{Call, SlowFs};
use crate::support::{Answer, Client, PATIENCE, TestServer, noise};

/// More than all buffers on the way hold.
const LARGE: usize = 24 << 20;

#[test]
fn idle_connections_are_closed_and_new_ones_once_they_stay_silent() {
    let server = TestServer::with(|config| config.grace = 2 * PATIENCE);
    server.put("f", "content");
    let mut fresh = server.connect();
    let mut kept = server.connect();
    kept.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.answer().body, b"content");
    server.counters_when(|counters| counters.accepted == 2);
    server.handle().shut_down();
    assert_eq!(fresh.rest(), b"");
    assert_eq!(kept.rest(), b"");
    let counters = server.shut_down();
    assert_eq!(counters.closed(CloseReason::Shutdown), 2);
    assert_eq!(counters.open, 0);
}

#[test]
fn the_first_request_of_a_connection_that_was_let_in_is_answered() {
    let server = TestServer::with(|config| config.grace = 2 * PATIENCE);
    server.put("f", "content");
    let mut client = server.connect();
    server.counters_when(|counters| counters.accepted == 1);
    server.handle().shut_down();
    client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().body, b"content");
    assert_eq!(client.rest(), b"");
    assert_eq!(server.shut_down().open, 0);
}

#[test]
fn a_drain_finishes_transfers_and_admits_no_connection() {
    for request in [
        "big\n",
        "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let server = TestServer::with(|config| config.grace = 2 * PATIENCE);
        let content = noise(LARGE, 1);
        server.put("big", &content);
        let mut client = Client::with_small_window(server.address());
        client.send(request);
        server.wait_until_under_way();
        server.handle().shut_down();
        wait_until_refused(&server);
        let bytes = client.rest();
        assert!(bytes.ends_with(&content) && bytes.len() < LARGE + 1_000);
        drop(client);
        let counters = server.shut_down();
        assert_eq!(counters.closed(CloseReason::Complete), 1);
        assert_eq!((counters.accepted, counters.open), (1, 0));
    }
}

#[test]
fn a_kept_connection_is_closed_after_the_response_under_way() {
    let server = TestServer::with(|config| config.grace = 2 * PATIENCE);
    let content = noise(LARGE, 2);
    server.put("big", &content);
    let mut client = Client::with_small_window(server.address());
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_until_under_way();
    server.handle().shut_down();
    wait_until_refused(&server);
    // It never said it would close; it must all the same, as soon as nothing is owed.
    let answer = Answer::parse(&client.rest());
    assert!(answer.body == content);
    let counters = server.shut_down();
    assert_eq!(counters.closed(CloseReason::Shutdown), 1, "{counters:#?}");
}

#[test]
fn a_request_in_the_pipe_is_answered_and_told_it_is_the_last() {
    let server = TestServer::with(|config| config.grace = 2 * PATIENCE);
    server.put("big", noise(LARGE, 3));
    server.put("f", "content");
    let mut client = Client::with_small_window(server.address());
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_until_under_way();
    server.handle().shut_down();
    wait_until_refused(&server);
    assert_eq!(client.answer().body.len(), LARGE);
    let last = client.answer();
    assert_eq!(
        (last.body.as_slice(), last.field("connection")),
        (b"content".as_slice(), Some("close"))
    );
    assert_eq!(client.rest(), b"");
}

#[test]
fn what_outlasts_the_grace_is_reset() {
    let server = TestServer::with(|config| config.grace = Duration::from_millis(100));
    server.put("big", noise(LARGE, 4));
    let mut clients = Vec::new();
    for request in ["big\n", "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = Client::with_small_window(server.address());
        client.send(request);
        let _ = client.take(1);
        clients.push(client);
    }
    let counters = server.shut_down();
    assert_eq!(counters.closed(CloseReason::Shutdown), 2);
    for mut client in clients {
        let (bytes, end) = client.try_rest();
        assert!(bytes.len() < LARGE);
        assert_eq!(
            end.expect_err("not whole").kind(),
            ErrorKind::ConnectionReset
        );
    }
}

#[test]
fn what_comes_back_from_a_slow_disk_after_the_grace_is_closed_as_well() {
    let server = TestServer::with(|config| config.grace = Duration::from_millis(50));
    let Some(mut slow) = SlowFs::mount(&server.root().join("slow")) else {
        return;
    };
    slow.delay(Call::Read, Duration::from_millis(500));
    let mut client = server.connect();
    client.send("slow/f1\n");
    slow.wait_for(Call::Read, 1);
    let counters = server.shut_down();
    assert_eq!(counters.open, 0, "{counters:#?}");
    assert_eq!(counters.closed(CloseReason::Shutdown), 1);
    drop(slow);
}

#[test]
fn it_ends_while_many_come_and_go() {
    let server = TestServer::with(|config| config.grace = Duration::from_millis(200));
    server.put("f", noise(100_000, 5));
    let address = server.address();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                while let Ok(stream) = TcpStream::connect(address) {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                    let client = Client::over(stream);
                    let _ = client.ask("f\n");
                }
            })
        })
        .collect();
    server.counters_when(|counters| counters.accepted > 50);
    let counters = server.shut_down();
    assert_eq!(counters.open, 0);
    assert_eq!(counters.accepted, counters.closed_in_all());
    for client in clients {
        client.join().expect("no panic");
    }
}

#[test]
fn sigterm_and_sigint_end_it_in_order() {
    let root = tempfile::tempdir().expect("a directory");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut program = Program::serve(["--root".as_ref(), root.path().as_os_str()]);
        let address = program.address();
        // Accepted for certain, and then idle.
        let mut idle = program.connect(address);
        idle.send("GET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(idle.answer().status, 404);
        program.signal(signal);
        assert_eq!(idle.rest(), b"");
        assert_eq!(program.end().code(), Some(0), "{:?}", program.said);
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn the_program_finishes_a_transfer_after_sigterm() {
    let root = tempfile::tempdir().expect("a directory");
    let content = noise(LARGE, 6);
    std::fs::write(root.path().join("big"), &content).expect("written");
    let mut program = Program::serve(["--root".as_ref(), root.path().as_os_str()]);
    let mut client = Client::with_small_window(program.address());
    client.send("big\n");
    let first = client.take(1);
    program.signal(Signal::SIGTERM);
    program.line("ending; ");
    let bytes = [first, client.rest()].concat();
    assert!(bytes == content);
    drop(client);
    assert_eq!(program.end().code(), Some(0));
    let access = program.said.iter().find(|line| line.contains("\"big\""));
    let access = access.expect("an access line");
    assert!(access.ends_with(" complete"), "{access}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("big"), noise(LARGE, 7)).expect("written");
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut program = Program::serve([
            "--grace".as_ref(),
            "1h".as_ref(),
            "--root".as_ref(),
            root.path().as_os_str(),
        ]);
        let address = program.address();
        let mut clients = ["big\n", "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"].map(|request| {
            let mut client = Client::with_small_window(address);
            client.send(request);
            let _ = client.take(1);
            client
        });
        program.signal(signal);
        program.line("ending; ");
        program.signal(signal);
        assert_eq!(program.end().code(), Some(code));
        // Half a file does not look whole, neither to the client nor in the log.
        assert!(clients.iter_mut().all(Client::ends_in_reset));
        let cut_off = |line: &&String| line.ends_with(" shutdown");
        assert_eq!(
            program.said.iter().filter(cut_off).count(),
            2,
            "{:?}",
            program.said
        );
    }
}

#[test]
fn sighup_opens_the_access_log_anew() {
    let root = tempfile::tempdir().expect("a directory");
    let logs = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let (log, moved) = (logs.path().join("log"), logs.path().join("log.1"));
    let mut program = Program::serve([
        "--root".as_ref(),
        root.path().as_os_str(),
        "--access-log".as_ref(),
        log.as_os_str(),
    ]);
    let address = program.address();
    let fetch = || {
        let mut client = Client::connect(address);
        client.send("f\n");
        assert_eq!(client.rest(), b"content");
    };
    fetch();
    wait_for_lines(&log, 1);
    std::fs::rename(&log, &moved).expect("moved");
    // It still writes to the one it has open.
    fetch();
    wait_for_lines(&moved, 2);
    program.signal(Signal::SIGHUP);
    // The new one is there before anything is written to it.
    wait_for_lines(&log, 0);
    fetch();
    wait_for_lines(&log, 1);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    assert_eq!(
        std::fs::read_to_string(&moved)
            .expect("there")
            .lines()
            .count(),
        2
    );
}

#[track_caller]
fn wait_for_lines(path: &std::path::Path, lines: usize) {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(path);
        if text
            .as_ref()
            .is_ok_and(|text| text.lines().count() == lines)
        {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}: {text:?}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the listener is closed.
#[track_caller]
fn wait_until_refused(server: &TestServer) {
    let begun = Instant::now();
    while TcpStream::connect(server.address()).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it still listens");
        std::thread::sleep(Duration::from_millis(2));
    }
}
