//! Which files are served, from the empty one to 5 GiB, under which names.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use haul::server::telemetry::CloseReason;

use crate::support::{Client, TestServer, noise};

#[test]
fn five_gibibytes_come_whole_and_by_ranges() {
    const LEN: u64 = 5 << 30;
    let islands: Vec<(u64, Vec<u8>)> = [
        0,
        (2 << 30) - 3,
        (3 << 30) + 77,
        (4 << 30) - 5,
        (4 << 30) + (1 << 20),
        LEN - 4_096,
    ]
    .into_iter()
    .map(|at| (at, noise(4_096, at + 1)))
    .collect();
    let server = TestServer::start();
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(server.root().join("huge"))
        .expect("a file");
    file.set_len(LEN).expect("sparse");
    for (at, bytes) in &islands {
        file.write_all_at(bytes, *at).expect("an island");
    }
    let expected = |offset: u64, len: usize| {
        let mut expected = vec![0; len];
        file.read_exact_at(&mut expected, offset).expect("there");
        expected
    };

    // Single ranges on one connection, over every border that could matter.
    let mut client = server.connect();
    for (first, last) in [
        (0, 0),
        ((2 << 30) - 10, (2 << 30) + 10),
        ((4 << 30) - 100, (4 << 30) + 100),
        ((4 << 30) + (1 << 20) - 7, (4 << 30) + (1 << 20) + 5_000),
        (LEN - 1, LEN - 1),
        (LEN - 5_000, LEN + 5_000),
    ] {
        client.send(format!(
            "GET /huge HTTP/1.1\r\nHost: x\r\nRange: bytes={first}-{last}\r\n\r\n"
        ));
        let answer = client.answer();
        let last = last.min(LEN - 1);
        assert_eq!(answer.status, 206);
        let range = format!("bytes {first}-{last}/{LEN}");
        assert_eq!(answer.field("content-range"), Some(range.as_str()));
        let len = usize::try_from(last - first + 1).expect("small");
        assert!(answer.body == expected(first, len), "{range}");
    }
    client.send("GET /huge HTTP/1.1\r\nHost: x\r\nRange: bytes=-10\r\n\r\n");
    assert_eq!(client.answer().body, expected(LEN - 10, 10));
    client.send("HEAD /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    let length = format!("Content-Length: {LEN}\r\n");
    assert!(String::from_utf8_lossy(&head).contains(&length));
    drop(client);

    // Whole, in the name protocol and from behind 4 GiB by HTTP.
    let mut client = server.connect();
    client.send("huge\n");
    let islands_from = |from: u64| islands.iter().filter(move |(at, _)| *at >= from);
    assert_eq!(read_islands(&mut client, 0, islands_from(0)), LEN);
    let from = (4 << 30) - 5;
    let mut client = server.connect();
    client.send(format!(
        "GET /huge HTTP/1.0\r\nRange: bytes={from}-\r\n\r\n"
    ));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    let range = format!("Content-Range: bytes {from}-{}/{LEN}\r\n", LEN - 1);
    assert!(String::from_utf8_lossy(&head).contains(&range));
    assert_eq!(read_islands(&mut client, from, islands_from(from)), LEN);
}

/// Reads to an orderly end from this offset of a file of zeros with islands in it, and checks
/// every byte. Returns the offset of the end.
fn read_islands<'a>(
    client: &mut Client,
    from: u64,
    islands: impl Iterator<Item = &'a (u64, Vec<u8>)>,
) -> u64 {
    let zeros = vec![0; 1 << 20];
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    let mut islands = islands.peekable();
    loop {
        let count = client.stream.read(&mut buffer).expect("no reset");
        if count == 0 {
            assert!(islands.next().is_none(), "islands are missing");
            return at;
        }
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            let len = match islands.peek() {
                Some((start, island)) if at >= *start => {
                    let done = usize::try_from(at - start).expect("within the island");
                    let len = bytes.len().min(island.len() - done);
                    assert!(bytes[..len] == island[done..done + len], "at {at}");
                    if done + len == island.len() {
                        islands.next();
                    }
                    len
                }
                next => {
                    let gap = next.map_or(u64::MAX, |(start, _)| start - at);
                    let len = bytes.len().min(usize::try_from(gap).unwrap_or(usize::MAX));
                    assert!(bytes[..len] == zeros[..len], "at {at}");
                    len
                }
            };
            at += len as u64;
            bytes = &bytes[len..];
        }
    }
}

#[test]
fn files_around_the_quantum_come_whole() {
    const QUANTUM: usize = 64 << 10;
    let server = TestServer::with(|config| config.quantum_bytes = QUANTUM as u64);
    for size in [
        QUANTUM - 1,
        QUANTUM,
        QUANTUM + 1,
        2 * QUANTUM - 1,
        2 * QUANTUM,
        2 * QUANTUM + 1,
        37 * QUANTUM,
        37 * QUANTUM + 1,
    ] {
        let content = noise(size, size as u64);
        server.put("f", &content);
        assert!(server.by_name("f") == content, "{size} by name");
        let answer = server.get("/f", "");
        assert_eq!(answer.field("content-length"), Some(&*size.to_string()));
        assert!(answer.body == content, "{size} by HTTP");
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 16);
    assert!(counters.yields > 0, "no quantum was ever spent");
}

#[test]
fn the_smallest_quantum_is_enough() {
    let server = TestServer::with(|config| config.quantum_bytes = 1);
    let content = noise(20_000, 1);
    server.put("f", &content);
    assert!(server.by_name("f") == content);
    assert!(server.get("/f", "").body == content);
}

#[test]
fn an_empty_file_is_whole_as_well() {
    let server = TestServer::start();
    server.put("empty", "");
    assert_eq!(server.by_name("empty"), b"");
    let answer = server.get("/empty", "");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.field("content-length"), Some("0"));
    let counters = server.counters_when(|counters| counters.closed_in_all() == 2);
    assert_eq!(counters.closed(CloseReason::Complete), 2);
}

#[test]
fn a_name_that_is_not_utf8_is_fetched_percent_encoded() {
    let server = TestServer::start();
    let name = OsStr::from_bytes(b"caf\xe9 \xff\x01");
    fs::write(server.root().join(name), "latin").expect("written");
    assert_eq!(server.get("/caf%E9%20%ff%01", "").body, b"latin");
    // The name protocol is of UTF-8 names.
    assert_eq!(server.exchange(b"caf\xe9 \xff\n"), b"");
}

#[test]
fn names_that_look_strange_are_names() {
    let server = TestServer::start();
    for name in [
        "a..b",
        "..a",
        "a..",
        "a.",
        "...",
        "%2e%2e",
        "a%b",
        "a+b",
        "a?b",
        "a#b",
        "~",
        "-rf",
        "C:",
        "back\\slash",
        "semi;colon",
        "quote\"s'",
        "<b>",
        "  ",
        "\u{202e}txt",
        "日本語",
        "a:b@c",
    ] {
        let path = format!("dir/{name}");
        server.put(&path, name);
        // A leading dot hides a name, whatever follows it.
        let hidden = name.starts_with('.');
        let expected = if hidden { "" } else { name };
        assert_eq!(server.by_name(&path), expected.as_bytes(), "{name:?}");
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = server.get(&format!("/dir/{encoded}"), "");
        assert_eq!(answer.status, if hidden { 404 } else { 200 }, "{name:?}");
        if !hidden {
            assert_eq!(answer.body, name.as_bytes(), "{name:?}");
        }
    }
}

#[test]
fn slashes_and_dots_in_between_do_not_matter_and_one_at_the_end_does() {
    let server = TestServer::start();
    server.put("dir/sub/file", "x");
    for name in ["dir//sub///file", "./dir/./sub/file", "dir/sub/./file"] {
        assert_eq!(server.by_name(name), b"x", "{name}");
        assert_eq!(server.get(&format!("/{name}"), "").body, b"x", "{name}");
    }
    for name in ["dir/sub/file/", "dir/sub/file/.", "dir/sub/file//"] {
        assert_eq!(server.by_name(name), b"", "{name}");
        assert_eq!(server.get(&format!("/{name}"), "").status, 404, "{name}");
    }
}

#[test]
fn links_inside_the_root_are_followed() {
    let server = TestServer::start();
    server.put("real/file", "linked");
    let root = server.root();
    let link = |to: &str, name: &str| symlink(to, root.join(name)).expect("a link");
    link("real/file", "to-file");
    link("real", "to-directory");
    link("to-file", "to-link");
    link("../real/file", "real/up");
    link("../real/../real/./file", "real/round");
    link("real/../real/file", "down-and-up");
    let mut previous = "real/file".to_owned();
    for number in 0..30 {
        let name = format!("chain-{number}");
        link(&previous, &name);
        previous = name;
    }
    for name in [
        "to-file",
        "to-directory/file",
        "to-link",
        "real/up",
        "real/round",
        "to-directory/up",
        "down-and-up",
        "chain-29",
    ] {
        assert_eq!(server.by_name(name), b"linked", "{name}");
        assert_eq!(
            server.get(&format!("/{name}"), "").body,
            b"linked",
            "{name}"
        );
    }
}

#[test]
fn links_that_lead_out_or_nowhere_are_refused() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("written");
    let secret = outside.path().join("secret");
    let server = TestServer::start();
    server.put("real/file", "inside");
    let root = server.root();
    let link = |to: &Path, name: &str| symlink(to, root.join(name)).expect("a link");
    let up = Path::new("..").join(outside.path().file_name().expect("a name"));
    link(&secret, "absolute");
    link(outside.path(), "directory");
    link(&up.join("secret"), "relative");
    link(Path::new("absolute"), "to-absolute");
    link(Path::new("/"), "slash");
    link(Path::new(".."), "parent");
    link(Path::new("real/../../x"), "climbing");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("/proc/self/cwd"), "magic-cwd");
    link(Path::new("loop"), "loop");
    link(Path::new("loop-b"), "loop-a");
    link(Path::new("loop-a"), "loop-b");
    link(Path::new("missing"), "dangling");
    let mut previous = "real/file".to_owned();
    for number in 0..60 {
        let name = format!("chain-{number}");
        link(Path::new(&previous), &name);
        previous = name;
    }
    let secret_path = secret.to_str().expect("UTF-8").trim_start_matches('/');
    for name in [
        "absolute",
        "directory/secret",
        "relative",
        "to-absolute",
        &format!("slash/{secret_path}"),
        "slash/etc/passwd",
        "parent/x",
        "climbing",
        "magic/etc/passwd",
        "magic-cwd/Cargo.toml",
        "loop",
        "loop-a",
        "loop/x",
        "dangling",
        "chain-59",
    ] {
        assert_eq!(server.by_name(name), b"", "{name}");
        let answer = server.get(&format!("/{name}"), "");
        assert!(
            matches!(answer.status, 403 | 404),
            "{name}: {}",
            answer.status
        );
    }
}

#[test]
fn irregular_files_are_refused_without_a_wait() {
    let server = TestServer::with(|config| {
        config.workers = std::num::NonZeroUsize::MIN;
        config.disk_workers = std::num::NonZeroUsize::MIN;
    });
    server.put("file", "still served");
    let root = server.root();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::Mode::from_raw_mode(0o666),
    )
    .expect("a FIFO");
    let _socket = UnixListener::bind(root.join("socket")).expect("a socket");
    symlink("fifo", root.join("to-fifo")).expect("a link");
    let mut names = vec!["fifo", "to-fifo", "socket"];
    // Only root may make devices.
    let device = rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("device"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 5),
    );
    match device {
        Ok(()) => names.push("device"),
        Err(error) => eprintln!("no device in the test: {error}"),
    }
    for round in 0..3 {
        for name in &names {
            assert_eq!(server.by_name(name), b"", "{name}, round {round}");
            let answer = server.get(&format!("/{name}"), "");
            assert_eq!(answer.status, 403, "{name}: {}", answer.head);
            assert_eq!(server.by_name("file"), b"still served", "after {name}");
        }
    }
}

#[test]
fn files_that_say_nothing_of_their_length_are_refused() {
    // Files of /proc have no length; nothing of them may be promised.
    let server = TestServer::with(|config| config.root = "/proc".into());
    assert_eq!(server.get("/version", "").status, 500);
    // Magic links are not for clients, wherever they lead.
    for target in [
        "/self/root/etc/passwd",
        "/self/exe",
        "/self/cwd",
        "/self/fd/0",
    ] {
        assert!(
            matches!(server.get(target, "").status, 403 | 404),
            "{target}"
        );
    }
}

#[test]
fn many_transfers_of_one_file_at_once_come_whole() {
    let server = TestServer::with(|config| config.quantum_bytes = 64 << 10);
    let content = noise(3_000_001, 1);
    server.put("f", &content);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (server, content) = (&server, &content);
            scope.spawn(move || {
                let bytes = if number % 2 == 0 {
                    server.by_name("f")
                } else {
                    server.get("/f", "").body
                };
                assert!(bytes == *content, "client {number}");
            });
        }
    });
    let counters = server.counters_when(|counters| counters.closed_in_all() == 24);
    assert_eq!(counters.closed(CloseReason::Complete), 24);
}

#[test]
fn what_is_forced_to_be_copied_is_the_same() {
    let server =
        TestServer::with(|config| config.transmit = haul::server::config::SendChoice::Copy);
    let content = noise(5_000_003, 1);
    server.put("f", &content);
    assert!(server.by_name("f") == content);
    let answer = server.get("/f", "Range: bytes=1000001-4000000\r\n");
    assert!(answer.body == content[1_000_001..=4_000_000]);
    assert_eq!(server.counters().copied_bodies, 0, "it was no fall-back");
}

#[test]
fn a_directory_that_is_moved_is_not_found_for_long() {
    let server = TestServer::start();
    server.put("a/f", "here");
    assert_eq!(server.by_name("a/f"), b"here");
    fs::rename(server.root().join("a"), server.root().join("b")).expect("renamed");
    assert_eq!(server.by_name("b/f"), b"here");
    // A worker may trust its look-up for a moment, and then no more.
    let begun = std::time::Instant::now();
    while server.by_name("a/f") == b"here" {
        assert!(begun.elapsed() < crate::support::PATIENCE, "for ever");
    }
}

#[test]
fn a_file_in_another_file_system_is_served() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no memory file system here");
        return;
    };
    let content = noise(4_000_001, 2);
    let path = directory.path().join("f");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&content).expect("written");
    let root = directory.path().to_owned();
    let server = TestServer::with(move |config| config.root = root);
    for _ in 0..3 {
        assert!(server.by_name("f") == content);
    }
}
