//! Digests that a server gives: RFC 9530, RFC 3230, block lists, and the store that keeps them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use haul::server::config::{DigestChoice, DigestPolicy};
use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256, Sha512};

use crate::process::Program;
use crate::support::{Answer, Client, PATIENCE, TestServer};

fn sha256(content: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(content)))
}

/// One request on a new connection.
fn ask(address: SocketAddr, method: &str, target: &str, fields: &str) -> Answer {
    let mut client = Client::connect(address);
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"
    ));
    Answer::parse(&client.rest())
}

/// Asks again until the field is there.
#[track_caller]
fn head_with(address: SocketAddr, target: &str, wish: &str, field: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = ask(address, "HEAD", target, wish);
        assert_eq!(answer.status, 200);
        if answer.field(field).is_some() {
            return answer;
        }
        let retry_after: u64 = answer
            .field("Retry-After")
            .expect("when")
            .parse()
            .expect("s");
        assert!(retry_after >= 1);
        assert!(begun.elapsed() < PATIENCE, "never a {field}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for a block list until it is there.
#[track_caller]
fn blocks_of(address: SocketAddr, target: &str, fields: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = ask(address, "GET", &format!("{target}?blocks"), fields);
        if answer.status != 503 {
            return answer;
        }
        assert!(answer.field("Retry-After").is_some());
        assert!(begun.elapsed() < PATIENCE, "never a list");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const WISH: &str = "Want-Repr-Digest: sha-256=5\r\n";

#[test]
fn the_digest_is_that_of_the_whole_file_on_every_kind_of_answer() {
    let server = TestServer::start();
    let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 7) as u8).collect();
    server.put("file", &content);
    let head = head_with(server.address(), "/file", WISH, "Repr-Digest");
    let expected = sha256(&content);
    assert_eq!(head.field("Repr-Digest"), Some(&*expected));
    assert_eq!(head.field("Retry-After"), None);
    let etag = head.field("ETag").expect("a tag").to_owned();

    let get = server.get("/file", WISH);
    assert_eq!(
        (get.status, get.field("Repr-Digest")),
        (200, Some(&*expected))
    );
    assert_eq!(get.body, content);
    let part = server.get("/file", &format!("{WISH}Range: bytes=5-9\r\n"));
    assert_eq!(
        (part.status, part.field("Repr-Digest")),
        (206, Some(&*expected))
    );
    let known = server.get("/file", &format!("{WISH}If-None-Match: {etag}\r\n"));
    assert_eq!(
        (known.status, known.field("Repr-Digest")),
        (304, Some(&*expected))
    );
    // A request without the field gets no digest.
    assert_eq!(server.get("/file", "").field("Repr-Digest"), None);

    let old = "Want-Digest: sha-512;q=0.5, MD5\r\n";
    let head = head_with(server.address(), "/file", old, "Digest");
    let sha512 = STANDARD.encode(Sha512::digest(&content));
    assert_eq!(head.field("Digest"), Some(&*format!("SHA-512={sha512}")));
    let both = "Want-Repr-Digest: sha-512=2, sha-256=10, blake3=1\r\n";
    let head = head_with(server.address(), "/file", both, "Repr-Digest-BLAKE3");
    let blake3 = format!(":{}:", STANDARD.encode(blake3::hash(&content).as_bytes()));
    assert_eq!(head.field("Repr-Digest-BLAKE3"), Some(&*blake3));
    assert_eq!(head.field("Repr-Digest"), Some(&*expected));
    assert_eq!(server.shut_down().hot_waits, 0);
}

#[test]
fn a_list_of_blocks_has_the_validators_of_its_file_and_ranges_of_its_own() {
    let server = TestServer::start();
    let content: Vec<u8> = (0..(9 << 20) + 5_u32).map(|at| (at / 11) as u8).collect();
    server.put("file", &content);
    let list = blocks_of(server.address(), "/file", "");
    assert_eq!(list.status, 200);
    assert_eq!(
        list.field("Content-Type"),
        Some("application/vnd.haul.blocks")
    );
    assert_eq!(list.field("ETag"), server.get("/file", "").field("ETag"));
    assert_eq!(list.body.len(), 64 + 3 * 32);
    assert_eq!(list.body[..8], *b"HAULBLK\x01");
    assert_eq!(list.body[8..16], (content.len() as u64).to_be_bytes());
    assert_eq!(list.body[32..64], *blake3::hash(&content).as_bytes());
    let part = blocks_of(server.address(), "/file", "Range: bytes=64-95\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &list.body[64..96]));
    let etag = list.field("ETag").expect("a tag");
    let known = blocks_of(
        server.address(),
        "/file",
        &format!("If-None-Match: {etag}\r\n"),
    );
    assert_eq!(known.status, 304);
    let empty = server.put("empty", b"");
    assert_eq!(fs::metadata(empty).expect("a file").len(), 0);
    assert_eq!(blocks_of(server.address(), "/empty", "").body.len(), 96);
    assert_eq!(blocks_of(server.address(), "/nope", "").status, 404);
}

#[test]
fn a_changed_file_never_gets_the_old_digest() {
    let server = TestServer::start();
    for round in 0..5_u8 {
        let content = vec![round; 300_000];
        server.put("file", &content);
        let head = head_with(server.address(), "/file", WISH, "Repr-Digest");
        assert_eq!(head.field("Repr-Digest"), Some(&*sha256(&content)));
    }
}

/// Through a mapping it could change without a time stamp that moves.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn a_file_that_is_open_for_writing_has_no_digest() {
    let server = TestServer::start();
    let path = server.put("file", b"content");
    server.put("other", b"content");
    let writer = fs::File::options().write(true).open(&path).unwrap();
    assert_eq!(server.get("/file", WISH).field("Repr-Digest"), None);
    // The two are hashed one after the other.
    head_with(server.address(), "/other", WISH, "Repr-Digest");
    assert_eq!(server.get("/file", WISH).field("Repr-Digest"), None);
    drop(writer);
    server.put("file", b"new content");
    let head = head_with(server.address(), "/file", WISH, "Repr-Digest");
    assert_eq!(head.field("Repr-Digest"), Some(&*sha256(b"new content")));
}

#[test]
fn without_digests_there_are_none() {
    let server = TestServer::with(|config| config.digests.choice = DigestChoice::Off);
    server.put("file", b"content");
    let head = ask(server.address(), "HEAD", "/file", WISH);
    assert_eq!(
        (head.field("Repr-Digest"), head.field("Retry-After")),
        (None, None)
    );
    assert_eq!(server.get("/file?blocks", "").status, 404);
}

/// The first question about one of many files is answered at once, as soon as the tree is hashed.
#[test]
fn all_files_are_hashed_without_a_question() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("a/b")).expect("directories");
    for number in 0..2_000 {
        fs::write(root.path().join(format!("a/b/{number}")), [1; 100]).expect("a file");
    }
    let path = root.path().to_owned();
    let server = TestServer::with(move |config| {
        config.root = path;
        config.digests = DigestPolicy {
            choice: DigestChoice::All,
            ..DigestPolicy::default()
        };
    });
    let is_known = (0..2_000).any(|number| {
        std::thread::sleep(Duration::from_millis(5));
        let head = ask(server.address(), "HEAD", &format!("/a/b/{number}"), WISH);
        head.field("Repr-Digest") == Some(&*sha256(&[1; 100]))
    });
    assert!(is_known);
}

/// What is new or changed is hashed without a question, also in a directory that is new.
#[test]
fn changes_of_the_tree_are_followed() {
    let server = TestServer::with(|config| config.digests.choice = DigestChoice::All);
    let is_followed = |prefix: &str, make: &dyn Fn(&str, &[u8])| {
        (0..200_u32).any(|number| {
            let (name, content) = (format!("{prefix}{number}"), number.to_be_bytes());
            make(&name, &content);
            // Hashing takes idle processors only.
            std::thread::sleep(Duration::from_millis(u64::from(20 + 5 * number)));
            // The first request for a digest of this file.
            let head = ask(server.address(), "HEAD", &format!("/{name}"), WISH);
            head.field("Repr-Digest") == Some(&*sha256(&content))
        })
    };
    let written = |name: &str, content: &[u8]| drop(server.put(name, content));
    assert!(is_followed("", &written));
    assert!(is_followed("new/directory/", &written));
    let outside = tempfile::tempdir_in(server.root().parent().unwrap()).unwrap();
    let renamed = |name: &str, content: &[u8]| {
        let path = outside.path().join("file");
        fs::write(&path, content).unwrap();
        fs::rename(path, server.root().join(name)).unwrap();
    };
    assert!(is_followed("renamed", &renamed));
    let linked = |name: &str, content: &[u8]| {
        let path = outside.path().join(name);
        fs::write(&path, content).unwrap();
        fs::hard_link(path, server.root().join(name)).unwrap();
    };
    assert!(is_followed("linked", &linked));
}

/// A server in a separate process, with its state.
fn serve(root: &Path, state: &Path) -> (Program, SocketAddr) {
    let arguments = [
        "--root".as_ref(),
        root.as_os_str(),
        "--state".as_ref(),
        state.as_os_str(),
        "--log=off".as_ref(),
    ];
    let mut program = Program::serve(arguments);
    let address = program.address();
    (program, address)
}

fn stop(program: &mut Program) {
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

/// Bytes that a process has read, by whatever call.
fn bytes_read(pid: i32) -> u64 {
    bytes_of(pid, "rchar: ")
}

/// A counter of a process's input and output (`proc_pid_io(5)`).
fn bytes_of(pid: i32, counter: &str) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("its counters");
    let line = io.lines().find_map(|line| line.strip_prefix(counter));
    line.expect("a line").parse().expect("a number")
}

#[test]
fn after_a_restart_the_file_is_not_read_again() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = vec![7; 20 << 20];
    fs::write(root.path().join("file"), &content).unwrap();
    let (mut first, address) = serve(root.path(), state.path());
    head_with(address, "/file", WISH, "Repr-Digest");
    stop(&mut first);

    let (mut second, address) = serve(root.path(), state.path());
    let before = bytes_read(second.id());
    let head = ask(address, "HEAD", "/file", WISH);
    assert_eq!(head.field("Repr-Digest"), Some(&*sha256(&content)));
    assert_eq!(blocks_of(address, "/file", "").status, 200);
    let read = bytes_read(second.id()) - before;
    assert!(read < 2 << 20, "{read} bytes read");
    let before = bytes_read(second.id());
    let head = ask(address, "HEAD", "/file", WISH);
    assert!(head.field("Repr-Digest").is_some());
    let read = bytes_read(second.id()) - before;
    assert!(read < 64 << 10, "{read} bytes read");
    stop(&mut second);
}

/// Small files that come one by one share a write of the store.
#[test]
fn a_digest_does_not_cost_a_write_of_the_store() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names: Vec<String> = (0..100).map(|number| format!("{number}")).collect();
    for name in &names {
        fs::write(root.path().join(name), name).unwrap();
    }
    let (mut program, address) = serve(root.path(), state.path());
    for name in &names {
        head_with(address, &format!("/{name}"), WISH, "Repr-Digest");
    }
    let written = bytes_of(program.id(), "wchar: ");
    assert!(written < 100 * 16_384, "{written} bytes written");
    stop(&mut program);
    // What waited for its write is on disk at the end.
    let (mut program, address) = serve(root.path(), state.path());
    let known = |name: &String| ask(address, "HEAD", &format!("/{name}"), WISH);
    let known = names.iter().map(known);
    let known = known.filter(|head| head.field("Repr-Digest").is_some());
    assert_eq!(known.count(), 100);
    stop(&mut program);
}

#[test]
fn a_second_server_goes_without_the_store() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), b"content").unwrap();
    let (mut first, address) = serve(root.path(), state.path());
    head_with(address, "/file", WISH, "Repr-Digest");
    let (mut second, address) = serve(root.path(), state.path());
    head_with(address, "/file", WISH, "Repr-Digest");
    assert!(second.line("haul: ").contains("in use"), "it says so");
    stop(&mut first);
    stop(&mut second);
}

#[test]
fn a_store_that_is_garbage_or_anothers_costs_a_word() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), b"content").unwrap();
    let store = state.path().join("digests.redb");
    fs::write(&store, vec![0x5a; 100_000]).unwrap();
    let (mut server, address) = serve(root.path(), state.path());
    head_with(address, "/file", WISH, "Repr-Digest");
    assert!(server.line("haul: ").contains("made anew"), "it says so");
    stop(&mut server);

    if nix::unistd::geteuid().is_root() {
        chown(&store, Some(65534), None).unwrap();
        let before = fs::read(&store).unwrap();
        let (mut server, address) = serve(root.path(), state.path());
        head_with(address, "/file", WISH, "Repr-Digest");
        assert!(
            server.line("haul: ").contains("another user's"),
            "it says so"
        );
        stop(&mut server);
        assert_eq!(fs::read(&store).unwrap(), before);
    }
}

/// Kills a server at any moment of its hashing and storing; the next one finds a whole store.
fn kill_again_and_again(rounds: u32) {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names: Vec<String> = (0..40).map(|number| format!("file{number}")).collect();
    let content = |name: &str| name.as_bytes().repeat(40_000);
    for name in &names {
        fs::write(root.path().join(name), content(name)).unwrap();
    }
    for round in 0..rounds {
        let (mut server, address) = serve(root.path(), state.path());
        for name in &names {
            let head = ask(address, "HEAD", &format!("/{name}"), WISH);
            if let Some(found) = head.field("Repr-Digest") {
                assert_eq!(found, sha256(&content(name)));
            }
        }
        // Other contents keep the store at work.
        let path = root.path().join(&names[round as usize % names.len()]);
        fs::copy(&path, root.path().join("new")).unwrap();
        fs::rename(root.path().join("new"), &path).unwrap();
        std::thread::sleep(Duration::from_micros(fastrand::u64(..60_000)));
        server.signal(Signal::SIGKILL);
        server.end();
        let said = server.said.join("\n");
        assert!(
            !said.contains("made anew") && !said.contains("failed"),
            "{said}"
        );
    }
    let (mut server, address) = serve(root.path(), state.path());
    for name in &names {
        let head = head_with(address, &format!("/{name}"), WISH, "Repr-Digest");
        assert_eq!(head.field("Repr-Digest"), Some(&*sha256(&content(name))));
    }
    stop(&mut server);
}

#[test]
fn a_kill_leaves_the_store_whole() {
    kill_again_and_again(25);
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_kills_leave_the_store_whole() {
    kill_again_and_again(1_000);
}
