//! The truth about every transfer: a file that changes under it never passes for whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul::server::telemetry::CloseReason;

use crate::support::transport::is_tls;
use crate::support::{Answer, Client, TestServer, noise, wait_for_tick};

/// More than the socket buffers of both sides hold with a client that does not read.
const LARGE: usize = 24 << 20;

/// The protocol of a transfer.
#[derive(Clone, Copy, Debug)]
enum By {
    Name,
    Http,
}

/// A transfer that has begun and waits for its reader.
struct Transfer {
    server: TestServer,
    client: Client,
    by: By,
    content: Vec<u8>,
}

impl Transfer {
    fn begin(by: By) -> Self {
        let server = TestServer::start();
        let content = noise(LARGE, 1);
        wait_for_tick(&server.put("big", &content));
        let mut client = Client::with_small_window(server.address());
        client.send(match by {
            By::Name => "big\n",
            By::Http => "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        });
        server.wait_until_under_way();
        Self {
            server,
            client,
            by,
            content,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.server.root().join("big")
    }

    /// All bytes of content that come, and whether the connection ended in order.
    fn end(&mut self) -> (Vec<u8>, bool) {
        let (mut bytes, end) = self.client.try_rest();
        if let By::Http = self.by {
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            bytes.drain(..head.map_or(0, |head| head + 4));
        }
        (bytes, end.is_ok())
    }

    /// It must not look whole: in order and with all the bytes that were promised.
    #[track_caller]
    fn must_break(mut self, reason: CloseReason) {
        let (bytes, orderly) = self.end();
        assert!(
            !orderly,
            "{:?}: {} bytes and an orderly end",
            self.by,
            bytes.len()
        );
        assert!(bytes.len() < LARGE, "{:?}: the last byte was sent", self.by);
        let counters = self
            .server
            .counters_when(|counters| counters.closed_in_all() == 1);
        assert_eq!(counters.closed(reason), 1, "{:?}: {counters:#?}", self.by);
        self.serves_others();
    }

    /// It must bring exactly what the file held at its beginning.
    #[track_caller]
    fn must_be_whole(mut self) {
        let (bytes, orderly) = self.end();
        assert!(orderly, "{:?}: broken after {} bytes", self.by, bytes.len());
        assert!(bytes == self.content, "{:?}: other bytes", self.by);
        // The server lingers until the client has finished, too.
        self.client.half_close();
        let counters = self
            .server
            .counters_when(|counters| counters.closed_in_all() == 1);
        assert_eq!(counters.closed(CloseReason::Complete), 1, "{:?}", self.by);
        self.serves_others();
    }

    fn serves_others(&self) {
        self.server.put("other", "still here");
        assert_eq!(self.server.by_name("other"), b"still here");
    }
}

#[test]
fn a_file_that_is_truncated_breaks_its_transfer() {
    for by in [By::Name, By::Http] {
        for len in [0, 1_000, LARGE as u64 - 1] {
            let transfer = Transfer::begin(by);
            open(&transfer.path()).set_len(len).expect("truncated");
            transfer.must_break(CloseReason::Changed);
        }
    }
}

#[test]
fn a_file_that_is_rewritten_in_place_breaks_its_transfer() {
    for by in [By::Name, By::Http] {
        let transfer = Transfer::begin(by);
        // The same length; one byte, of those sent last.
        open(&transfer.path())
            .write_all_at(b"!", LARGE as u64 - 10)
            .expect("written");
        transfer.must_break(CloseReason::Changed);
    }
}

#[test]
fn a_rewrite_that_puts_the_old_mtime_back_is_seen_all_the_same() {
    let transfer = Transfer::begin(By::Name);
    let file = open(&transfer.path());
    let modified = file
        .metadata()
        .and_then(|meta| meta.modified())
        .expect("an mtime");
    file.write_all_at(b"!", 5_000_000).expect("written");
    file.set_modified(modified).expect("set back");
    transfer.must_break(CloseReason::Changed);
}

#[test]
fn a_file_that_grows_is_sent_to_the_length_that_was_promised() {
    for by in [By::Name, By::Http] {
        let transfer = Transfer::begin(by);
        let mut file = open(&transfer.path());
        file.seek(SeekFrom::End(0)).expect("at the end");
        file.write_all(&noise(1_000_000, 2)).expect("appended");
        drop(file);
        transfer.must_be_whole();
    }
}

#[test]
fn a_file_that_is_touched_breaks_its_transfer() {
    let transfer = Transfer::begin(By::Http);
    open(&transfer.path())
        .set_modified(SystemTime::UNIX_EPOCH)
        .expect("touched");
    transfer.must_break(CloseReason::Changed);
}

#[test]
fn the_next_transfer_of_a_changed_file_is_of_the_new_content() {
    let server = TestServer::start();
    for round in 0..20 {
        let content = noise(50_000 + round, round as u64);
        // In place, and by rename, in turn.
        if round % 2 == 0 {
            server.put("f", &content);
        } else {
            let fresh = server.put("fresh", &content);
            fs::rename(fresh, server.root().join("f")).expect("renamed");
        }
        assert!(server.by_name("f") == content, "round {round}");
        assert!(server.get("/f", "").body == content, "round {round}");
    }
}

#[test]
fn a_file_removed_before_it_is_asked_for_again_is_gone() {
    let server = TestServer::start();
    let path = server.put("f", "here");
    for _ in 0..4 {
        assert_eq!(server.by_name("f"), b"here");
    }
    fs::remove_file(path).expect("removed");
    for _ in 0..4 {
        assert_eq!(server.by_name("f"), b"");
        assert_eq!(server.get("/f", "").status, 404);
    }
}

#[test]
fn a_file_that_is_asked_for_again_and_again_is_looked_at_each_time() {
    let server = TestServer::start();
    // Kept in memory, sent in one piece, and sent piece by piece.
    let lens = [5, 64 << 10, 3 << 20];
    let content = |round: usize, len: usize| noise(len, round as u64);
    let paths = lens.map(|len| server.put(&len.to_string(), content(0, len)));
    // Files are kept once their time stamps cannot hide another write.
    let age = |path: &Path| {
        let changed = fs::metadata(path).expect("it is there").ctime();
        SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(changed as u64))
    };
    while age(&paths[2]).unwrap_or_default() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut connection = server.connect();
    for (len, path) in lens.into_iter().zip(&paths) {
        let request = format!("GET /{len} HTTP/1.1\r\nHost: x\r\n\r\n");
        for round in 0..3 {
            let old = content(round, len);
            let mut tags = Vec::new();
            for _ in 0..4 {
                connection.send(&request);
                let response = connection.answer();
                assert!(response.body == old, "{len} bytes, round {round}");
                assert!(server.by_name(&len.to_string()) == old);
                let range = server.get(&format!("/{len}"), "Range: bytes=1-2\r\n");
                assert_eq!(range.body, &old[1..3]);
                tags.push(response.field("etag").map(str::to_owned));
            }
            tags.dedup();
            assert_eq!(tags.len(), 1);
            // In place, with the same length and the old mtime: only the ctime changes.
            let file = open(path);
            let modified = file.metadata().and_then(|meta| meta.modified());
            file.write_all_at(&content(round + 1, len), 0)
                .expect("rewritten");
            file.set_modified(modified.expect("its mtime"))
                .expect("put back");
        }
    }
}

#[test]
fn a_file_that_changes_before_its_first_byte_has_left_is_answered_anew() {
    const ROUNDS: usize = 600;
    let server = TestServer::start();
    // Elsewhere the head of what is more than a few pages, or a record, has left before the file is
    // read.
    let lens: &[usize] = if cfg!(feature = "portable") || is_tls() {
        &[100, 12_000]
    } else {
        &[100, 12_000, 64 << 10]
    };
    let put = |len: &usize| server.put(&len.to_string(), noise(*len, 1));
    let files: Vec<_> = lens.iter().map(|len| open(&put(len))).collect();
    let (asked, changed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One change a request, so that the second try finds the file at rest.
            for round in 1..=ROUNDS {
                while asked.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
                for _ in 0..fastrand::u32(..2_000) {
                    std::hint::spin_loop();
                }
                let at = round % lens.len();
                let part = 1 + round / lens.len() % 2;
                files[at]
                    .set_len((lens[at] / part) as u64)
                    .expect("cut or restored");
                changed.store(round, Ordering::Release);
            }
        });
        let reader = scope.spawn(|| {
            for round in 1..=ROUNDS {
                let len = lens[round % lens.len()];
                let mut connection = server.connect();
                connection.send(format!(
                    "GET /{len} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                ));
                asked.store(round, Ordering::Release);
                if let (bytes, Ok(_)) = connection.try_rest() {
                    let got = Answer::parse(&bytes).body.len();
                    assert!(got == len || got == len / 2, "{got} of {len}");
                }
                while changed.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
            }
        });
        let outcome = reader.join();
        asked.store(ROUNDS, Ordering::Release);
        outcome.expect("all answers were whole");
    });
    // A change that comes between the first byte and the last look cannot be answered anew.
    let counters = server.shut_down();
    let broken = counters.closed(CloseReason::Changed);
    assert!(
        broken < ROUNDS as u64 / 20,
        "{broken} broken: {counters:#?}"
    );
}

#[test]
fn a_small_response_that_was_taken_in_part_does_not_go_on_in_a_changed_file() {
    const LEN: usize = 12_000;
    let server = TestServer::start();
    let path = server.put("f", vec![b'a'; LEN + 1]);
    wait_for_tick(&path);
    let mut client = Client::with_small_window(server.address());
    // Not the whole file, which might be kept in memory; and so many that they fill all buffers.
    let request = format!(
        "GET /f HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{}\r\n\r\n",
        LEN - 1
    );
    client.send(request.repeat(400));
    client.half_close();
    wait_until_stuck(&server);
    open(&path)
        .write_all_at(&[b'b'; LEN + 1], 0)
        .expect("rewritten");
    let (bytes, _) = client.try_rest();
    let mut left = bytes.as_slice();
    let mut whole = 0;
    while let Some(head) = left.windows(4).position(|four| four == b"\r\n\r\n") {
        let Some(content) = left.get(head + 4..head + 4 + LEN) else {
            break;
        };
        assert!(
            content.iter().all(|byte| *byte == content[0]),
            "answer {whole} is of both"
        );
        left = &left[head + 4 + LEN..];
        whole += 1;
    }
    assert!(whole > 0);
}

/// Waits until the server cannot send any more to a client that does not read.
fn wait_until_stuck(server: &TestServer) {
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let sent = server.counters().bytes_sent;
        if sent > 0 && sent == before {
            return;
        }
        before = sent;
    }
}

#[test]
fn a_kept_connection_ends_with_the_response_that_broke() {
    let server = TestServer::start();
    let path = server.put("big", noise(LARGE, 3));
    wait_for_tick(&path);
    server.put("small", "small");
    let mut client = Client::with_small_window(server.address());
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /small HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_until_under_way();
    open(&path).set_len(100).expect("truncated");
    let (bytes, end) = client.try_rest();
    assert!(end.is_err());
    assert!(!bytes.ends_with(b"small"));
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Changed), 1);
    assert_eq!(counters.requests, 1);
}

#[test]
fn a_rewritten_file_breaks_a_range_as_well() {
    let server = TestServer::start();
    let path = server.put("big", noise(LARGE, 4));
    wait_for_tick(&path);
    let mut client = Client::with_small_window(server.address());
    client.send("GET /big HTTP/1.1\r\nHost: x\r\nRange: bytes=1000-20000000\r\n\r\n");
    server.wait_until_under_way();
    // A byte outside of the range: the file is another one now all the same.
    open(&path).write_all_at(b"!", 0).expect("written");
    assert!(client.try_rest().1.is_err());
    server.counters_when(|counters| counters.closed(CloseReason::Changed) == 1);
}

#[test]
fn a_file_that_is_replaced_or_removed_is_sent_as_it_was() {
    for by in [By::Name, By::Http] {
        let transfer = Transfer::begin(by);
        let fresh = transfer.server.put("fresh", noise(LARGE, 5));
        fs::rename(fresh, transfer.path()).expect("renamed");
        transfer.must_be_whole();

        let transfer = Transfer::begin(by);
        fs::remove_file(transfer.path()).expect("removed");
        transfer.must_be_whole();
    }
}

#[test]
fn a_file_that_is_rewritten_and_then_removed_breaks_its_transfer() {
    let transfer = Transfer::begin(By::Http);
    open(&transfer.path())
        .write_all_at(b"!", LARGE as u64 - 10)
        .expect("written");
    fs::remove_file(transfer.path()).expect("removed");
    transfer.must_break(CloseReason::Changed);
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is there")
}
