//! The name protocol: a name, its bytes, a close.

use std::io::Read;
use std::time::Duration;

use haul::server::config::Deadlines;
use haul::server::config::DotNames;
use haul::server::telemetry::CloseReason;

use crate::support::{PATIENCE, TestServer, noise};

#[test]
fn every_end_mark_ends_a_name() {
    let server = TestServer::start();
    let content = noise(100_003, 1);
    server.put("a b.bin", &content);
    for mark in ["\n", "\r\n", "\0"] {
        assert_eq!(
            server.exchange(format!("a b.bin{mark}")),
            content,
            "{mark:?}"
        );
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 3);
    assert_eq!(counters.closed(CloseReason::Complete), 3);
}

#[test]
fn the_half_close_ends_a_name() {
    let server = no_silence();
    let content = noise(100_003, 2);
    server.put("a", &content);
    for name in ["a", "a\r", "a\n", "a\r\n", "a\0"] {
        let mut client = server.connect();
        client.send(name);
        client.half_close();
        assert_eq!(client.rest(), content, "{name:?}");
    }
}

#[test]
fn silence_ends_a_name() {
    let server = TestServer::start();
    let content = noise(3_000_000, 3);
    server.put("Übung 1.bin", &content);
    // In one piece, and nothing more, as the tutorial's client does it.
    assert_eq!(server.exchange("Übung 1.bin"), content);
}

#[test]
fn a_name_comes_in_any_pieces() {
    let server = no_silence();
    let content = noise(70_000, 4);
    server.put("dir/Übung 文件.bin", &content);
    let request = "dir/Übung 文件.bin\r\n".as_bytes();
    for size in [1, 2, 3, 5, request.len()] {
        let mut client = server.connect();
        for piece in request.chunks(size) {
            client.send(piece);
        }
        assert_eq!(client.rest(), content, "in pieces of {size}");
    }
    // Pieces that the server is certain to see one by one: it parks between them.
    let mut client = server.connect();
    for byte in request {
        let parks = server.counters_when(|counters| counters.open == 1).parks;
        client.send([*byte]);
        if *byte != b'\n' {
            server.counters_when(|counters| counters.parks > parks);
        }
    }
    assert_eq!(client.rest(), content);
}

#[test]
fn the_bytes_may_come_one_at_a_time_and_end_in_silence() {
    let server = TestServer::with(|config| {
        // Long enough for a loaded machine, short enough for a test.
        config.deadlines.name_grace = Duration::from_secs(3);
    });
    let content = noise(12_345, 5);
    server.put("slowly.bin", &content);
    let mut client = server.connect();
    for byte in b"slowly.bin" {
        client.send([*byte]);
    }
    assert_eq!(client.rest(), content);
}

#[test]
fn bytes_that_begin_like_a_request_get_no_silence_rule() {
    let server = TestServer::with(|config| config.deadlines.head = Duration::from_millis(300));
    server.put("GETTING.txt", "there");
    server.put("a GET.txt", "too");
    server.put("a HTTP/1.1.txt", "as well");
    // A method and a space: it may be a slow browser, which gets its 408.
    let answer = server.exchange("GET well.txt");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    // Names that only hold such text are names.
    assert_eq!(server.by_name("a GET.txt"), b"too");
    assert_eq!(server.by_name("a HTTP/1.1.txt"), b"as well");
    assert_eq!(server.exchange("GETTING.txt"), b"there");
}

#[test]
fn files_of_all_small_sizes_come_whole() {
    let server = TestServer::start();
    for size in [
        0, 1, 2, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 65_536, 100_000,
    ] {
        let content = noise(size, size as u64);
        server.put("f", &content);
        assert_eq!(server.by_name("f"), content, "{size} bytes");
    }
    server.counters_when(|counters| counters.closed(CloseReason::Complete) == 11);
}

#[test]
fn what_cannot_be_served_is_answered_by_an_orderly_close() {
    let server = TestServer::start();
    server.put("dir/file", "x");
    server.put(".hidden", "secret");
    server.put("dir/.hidden/file", "secret");
    let names = [
        "missing",
        "dir",
        "dir/",
        "dir/file/",
        "dir/file/more",
        "dir/missing",
        ".hidden",
        "dir/.hidden/file",
        "/dir/file",
        "dir/../dir/file",
        "..",
        ".",
        "./",
        "",
    ];
    for name in names {
        // `rest` fails at a reset. A lone end mark may stand before a request; nothing follows it.
        let mut client = server.connect();
        client.send(format!("{name}\n"));
        client.half_close();
        assert_eq!(client.rest(), b"", "{name:?}");
    }
    let refused = names.len() as u64;
    let counters = server.counters_when(|counters| counters.closed_in_all() == refused);
    assert_eq!(counters.closed(CloseReason::Refused), refused);
    assert_eq!(counters.bytes_sent, 0);
}

/// An empty line may stand in front of an HTTP request (RFC 9112 section 2.2). With silence behind
/// it, it is the name of nothing.
#[test]
fn an_empty_line_and_silence_are_an_empty_name() {
    let server = TestServer::start();
    for line in ["\n", "\r\n", "\r"] {
        assert_eq!(server.exchange(line), b"", "{line:?}");
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 3);
    assert_eq!(counters.closed(CloseReason::Refused), 3, "{counters:#?}");
}

#[test]
fn hidden_names_are_served_if_wanted() {
    let server = TestServer::with(|config| config.dot_names = DotNames::Shown);
    server.put(".hidden/.file", "plain");
    assert_eq!(server.by_name(".hidden/.file"), b"plain");
    assert_eq!(server.get("/.hidden/.file", "").body, b"plain");
    assert_eq!(server.by_name(".hidden/../.hidden/.file"), b"");
}

#[test]
fn the_longest_name_is_4096_bytes() {
    let server = no_silence();
    // Spelt with superfluous dots and slashes, so that the name is long and the path is not.
    let component = "d".repeat(250);
    let path = format!("{component}/{component}/f");
    server.put(&path, "found");
    let spelt = |len: usize| {
        let mut name = path.clone();
        let (front, back) = ("./".repeat((len - name.len()) / 2), (len - name.len()) % 2);
        name.insert_str(0, &front);
        if back == 1 {
            name = name.replacen("/f", "//f", 1);
        }
        assert_eq!(name.len(), len);
        name
    };
    for mark in ["\n", "\r\n", "\0"] {
        let request = format!("{}{mark}", spelt(4_096));
        assert_eq!(server.exchange(request), b"found", "{mark:?}");
    }
    let mut client = server.connect();
    client.send(spelt(4_096));
    client.half_close();
    assert_eq!(client.rest(), b"found");
    for len in [4_097, 4_098, 5_000, 16_000] {
        let mut client = server.connect();
        client.send(format!("{}\n", spelt(len)));
        // What was not read may turn the close into a reset; not a byte comes in either case.
        assert_eq!(client.try_rest().0, b"", "{len}");
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 8);
    assert_eq!(counters.closed(CloseReason::Complete), 4);
    assert_eq!(counters.closed(CloseReason::Malformed), 4);
}

#[test]
fn rubbish_is_refused_at_once() {
    // No silence and no head is waited for here: refusals come from the bytes alone.
    let server = no_silence();
    let rubbish: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.6\r\x01\n",
        b"\x00\x00\x00\x2f\xffSMB",
        b"\xff\xfb\x1f\xff\xfb\x20",
        b"name\x1b[31m\n",
        b"latin-1 \xfcbung.bin\n",
        b"\x7f\n",
    ];
    for bytes in rubbish {
        let mut client = server.connect();
        client.send(bytes);
        assert_eq!(
            client.try_rest().0,
            b"",
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 6);
    // The second begins with an end mark: an empty name, refused as such.
    assert_eq!(
        counters.closed(CloseReason::Malformed) + counters.closed(CloseReason::Refused),
        6
    );
    assert!(
        counters.closed(CloseReason::Malformed) >= 5,
        "{counters:#?}"
    );
}

#[test]
fn one_connection_carries_one_name() {
    let server = TestServer::start();
    server.put("one", "1");
    server.put("two", "2");
    for request in [
        "one\ntwo\n",
        "one\0two\0",
        "one\r\nGET /two HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(server.exchange(request), b"1", "{request:?}");
    }
    let counters = server.counters_when(|counters| counters.closed_in_all() == 3);
    assert_eq!(counters.requests, 3);
}

#[test]
fn a_name_that_ends_like_a_request_is_one() {
    let server = TestServer::start();
    server.put("letter to HTTP", "not http");
    assert_eq!(server.by_name("letter to HTTP"), b"not http");
    let answer = server.exchange("letter to HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
}

#[test]
fn a_connection_without_a_byte_is_closed_in_time() {
    let server = TestServer::with(|config| config.deadlines.first_byte = Duration::from_millis(50));
    assert_eq!(server.connect().rest(), b"");
    let mut client = server.connect();
    client.half_close();
    // Without a session there is no `close_notify`.
    assert_eq!(client.try_rest().0, b"");
    let counters = server.counters_when(|counters| counters.closed_in_all() == 2);
    assert!(counters.closed(CloseReason::FirstByteTimeout) >= 1);
    assert_eq!(counters.requests, counters.closed(CloseReason::Refused));
}

#[test]
fn a_reader_that_has_closed_its_side_reads_on() {
    let server = TestServer::start();
    let content = noise(20 << 20, 7);
    server.put("big", &content);
    let mut client = server.connect();
    client.send("big\n");
    client.half_close();
    server.wait_until_under_way();
    assert!(client.rest() == content, "not the file");
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Complete), 1);
}

#[test]
fn what_the_client_sends_after_the_name_does_no_harm() {
    let server = TestServer::start();
    let content = noise(300_000, 8);
    server.put("f", &content);
    let mut client = server.connect();
    client.send([b"f\n".as_slice(), &noise(100_000, 9)].concat());
    let mut bytes = vec![0; content.len()];
    client.stream.read_exact(&mut bytes).expect("the file");
    assert!(bytes == content);
}

/// A server that takes no silence for the end of a name within a test's life.
fn no_silence() -> TestServer {
    TestServer::with(|config| {
        config.deadlines = Deadlines {
            name_grace: PATIENCE,
            head: PATIENCE,
            first_byte: PATIENCE,
            ..config.deadlines
        };
    })
}
