//! `haul load` against a small scripted server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use haul::internals::Persistence;
use haul::load::{self, Bodies, LoadConfig, LoadError, LoadReport, Pace, RunLength};
use socket2::{Domain, Socket, Type};

use crate::tls_front::{Authority, Ending, Front};

#[test]
fn every_request_is_counted_once() {
    let server = Server::start(|_, _| keep(ok(&[7; 1_000])));
    let report = run(LoadConfig {
        connections: 3,
        ..config(&server, "/a", 20)
    });
    assert_eq!(
        (report.requests, report.bytes, report.connects),
        (20, 20_000, 3)
    );
    assert!(report.errors.is_empty(), "{report:?}");
    assert_eq!(server.heads().len(), 20);
}

#[test]
fn several_threads_share_the_requests() {
    let server = Server::start(|_, _| keep(ok(&[7; 1_000])));
    let report = run(LoadConfig {
        connections: 4,
        threads: 3,
        ..config(&server, "/a", 50)
    });
    assert_eq!((report.requests, report.bytes), (50, 50_000));
    assert_eq!(server.heads().len(), 50);
}

#[test]
fn content_is_thrown_away_to_the_byte() {
    // More than one receive takes, and no multiple of anything.
    let server = Server::start(|_, _| keep(ok(&vec![1; 3_000_017])));
    let report = run(LoadConfig {
        connections: 2,
        ..config(&server, "/a", 4)
    });
    assert_eq!((report.requests, report.bytes), (4, 4 * 3_000_017));
    assert!(report.errors.is_empty(), "{report:?}");
}

#[test]
fn answers_in_chunks_are_counted_and_kept_alive() {
    let server = Server::start(|_, _| {
        let chunks: String = (1..=300)
            .map(|size| format!("{size:x}\r\n{:size$}\r\n", ""))
            .collect();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        keep(format!("{head}{chunks}0\r\nTrailer: x\r\n\r\n").into_bytes())
    });
    for bodies in [Bodies::Discard, Bodies::Verify] {
        let report = run(LoadConfig {
            bodies,
            ..config(&server, "/a", 5)
        });
        assert!(report.errors.is_empty(), "{report:?}");
        assert_eq!(
            (report.requests, report.bytes, report.connects),
            (5, 5 * 45_150, 1)
        );
    }
    let server = Server::start(|_, _| {
        hang_up(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n".to_vec())
    });
    assert_eq!(errors(&run(config(&server, "/a", 1))), [("bad chunks", 1)]);
}

#[test]
fn more_connections_than_open_files_are_refused_before_anything_is_asked_for() {
    let config = LoadConfig {
        connections: u32::MAX as usize,
        ..config_for("http://127.0.0.1:9/".to_owned(), 1)
    };
    let refused = load::run(&config, &AtomicBool::new(false), |_| {});
    assert!(
        matches!(refused, Err(LoadError::TooManyConnections { .. })),
        "{refused:?}"
    );
}

#[test]
fn without_keep_alive_each_request_connects() {
    let server = Server::start(|_, _| hang_up(ok(b"hello")));
    let persistence = Persistence::Close;
    let report = run(LoadConfig {
        connections: 2,
        persistence,
        ..config(&server, "/a", 9)
    });
    assert_eq!(
        (report.requests, report.connects, report.repeats),
        (9, 9, 0)
    );
    assert!(
        server
            .heads()
            .iter()
            .all(|head| head.contains("Connection: close\r\n"))
    );
}

#[test]
fn content_without_length_ends_with_the_connection() {
    let server = Server::start(|_, _| hang_up(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()));
    let report = run(config(&server, "/a", 3));
    assert_eq!((report.requests, report.bytes, report.connects), (3, 15, 3));
}

#[test]
fn a_connection_closed_between_requests_is_no_failure() {
    let server = Server::start(|_, _| hang_up(ok(b"hello")));
    let report = run(config(&server, "/a", 5));
    assert_eq!(
        (report.requests, report.connects, report.repeats),
        (5, 5, 4)
    );
    assert!(report.errors.is_empty(), "{report:?}");
}

#[test]
fn verified_answers_are_hashed_and_compared() {
    let content = vec![42; 700_000];
    let digest = blake3::hash(&content).to_string();
    let server = Server::start(move |_, _| keep(ok(&content)));
    let bodies = Bodies::Verify;
    let report = run(LoadConfig {
        connections: 2,
        bodies,
        ..config(&server, "/a", 6)
    });
    assert_eq!(report.digests.values().collect::<Vec<_>>(), [&digest]);
    assert!(report.errors.is_empty(), "{report:?}");

    let server = Server::start(|index, _| keep(ok(if index == 2 { b"odd" } else { b"all" })));
    let report = run(LoadConfig {
        bodies,
        ..config(&server, "/a", 5)
    });
    assert_eq!(
        (report.requests, errors(&report)),
        (4, vec![("mismatch", 1)])
    );
}

#[test]
fn failures_are_told_apart_and_end_nothing() {
    let server = Server::start(|index, _| match index {
        0 => keep(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_vec()),
        1 => hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec()),
        2 => hang_up(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        3 => hang_up(Vec::new()),
        _ => keep(ok(b"hello")),
    });
    let report = run(config(&server, "/a", 6));
    assert_eq!((report.requests, report.bytes), (2, 5 + 5 + 5));
    let expected = vec![("bad head", 1), ("short body", 2), ("status 404", 1)];
    assert_eq!(errors(&report), expected);
}

#[test]
fn a_refused_connection_is_counted() {
    // Bound, so that no other program gets the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let report = run(config_for(format!("http://{address}/"), 3));
    assert_eq!(
        (report.requests, errors(&report)),
        (0, vec![("refused", 3)])
    );
}

#[test]
fn nothing_moving_is_given_up() {
    let server = Server::start(|_, _| Reply::Silence);
    let timeout = Duration::from_millis(200);
    let report = run(LoadConfig {
        timeout,
        ..config(&server, "/a", 1)
    });
    assert_eq!(
        (report.requests, errors(&report)),
        (0, vec![("timed out", 1)])
    );
}

#[test]
fn ranges_are_aligned_and_inside_the_file() {
    const WHOLE: u64 = 1_050;
    let server = Server::start(|_, head| {
        let (first, last) = range(head);
        let last = last.min(WHOLE - 1);
        let length = last - first + 1;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n\
             Content-Range: bytes {first}-{last}/{WHOLE}\r\n\r\n"
        );
        keep([head.into_bytes(), vec![b'x'; length as usize]].concat())
    });
    let report = run(LoadConfig {
        range: NonZeroU64::new(100),
        ..config(&server, "/a", 60)
    });
    assert_eq!((report.requests, report.bytes), (60, 6_000));
    let ranges: Vec<_> = server.heads().iter().map(|head| range(head)).collect();
    assert_eq!(ranges[0], (0, 99));
    assert!(
        ranges
            .iter()
            .all(|(first, last)| first % 100 == 0 && last - first == 99)
    );
    assert!(ranges.iter().all(|&(_, last)| last < WHOLE));

    let server = Server::start(|_, _| keep(ok(b"all of it")));
    let report = run(LoadConfig {
        range: NonZeroU64::new(100),
        ..config(&server, "/a", 2)
    });
    assert_eq!(errors(&report), [("range ignored", 2)]);
}

#[test]
fn two_servers_are_both_asked() {
    let servers = [(); 2].map(|()| Server::start(|_, _| keep(ok(b"hello"))));
    let mut config = config(&servers[0], "/a", 8);
    config.urls.push(servers[1].url("/b").parse().unwrap());
    let error = load::run(&config, &AtomicBool::new(false), |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::TooFewConnections { servers: 2 }));
    let report = run(LoadConfig {
        connections: 2,
        ..config
    });
    assert_eq!((report.requests, report.connects), (8, 2));
    assert!(servers.iter().all(|server| !server.heads().is_empty()));
}

#[test]
fn the_name_protocol_ends_with_the_connection() {
    let server = Server::start(|_, _| hang_up(vec![9; 50_000]));
    let report = run(config_for(format!("name://{}/a%20b", server.address), 3));
    assert_eq!(
        (report.requests, report.bytes, report.connects),
        (3, 150_000, 3)
    );
    assert_eq!(server.heads()[0], "a b\n");

    let server = Server::start(|_, _| hang_up(Vec::new()));
    let report = run(config_for(format!("name://{}/nothere", server.address), 2));
    assert_eq!((report.requests, errors(&report)), (0, vec![("empty", 2)]));
}

#[test]
fn a_server_that_falls_behind_a_rate_cannot_hide_it() {
    let server = Server::start(|index, _| {
        if index == 0 {
            thread::sleep(Duration::from_millis(400));
        }
        keep(ok(b"hello"))
    });
    let pace = Pace::Open { per_second: 100.0 };
    let report = run(LoadConfig {
        pace,
        ..config(&server, "/a", 20)
    });
    // All twenty were due in the first 200 ms, and none was answered in the first 400.
    assert_eq!(report.requests, 20);
    assert!(report.latency.p50_us >= 200_000.0, "{:?}", report.latency);
}

#[test]
fn stalled_clients_ask_and_stay() {
    let server = Server::start(|_, _| keep(ok(b"hello")));
    let report = run(LoadConfig {
        stalled: 5,
        ..config(&server, "/a", 4)
    });
    assert_eq!((report.stalled, report.requests), (5, 4));
    // The stalled ones are not waited for by the run.
    server.wait_for_heads(9);
}

#[test]
fn a_stop_ends_it() {
    let server = Server::start(|_, _| keep(ok(b"hello")));
    let config = LoadConfig {
        extent: RunLength::For(FOR_EVER),
        ..config(&server, "/a", 0)
    };
    let stop = AtomicBool::new(false);
    let report = load::run(&config, &stop, |glance| {
        stop.store(glance.requests > 0, Ordering::Relaxed);
    });
    assert!(report.unwrap().requests > 0);
}

#[test]
fn what_a_local_server_uses_is_read() {
    let server = Server::start(|_, _| keep(ok(b"hello")));
    let this = Some(std::process::id());
    let usage = run(LoadConfig {
        server: this,
        ..config(&server, "/a", 4)
    })
    .server
    .unwrap();
    assert!(usage.resident_bytes > 0 && usage.processes > 0 && usage.threads > 0);
    let config = LoadConfig {
        server: Some(u32::MAX),
        ..config(&server, "/a", 4)
    };
    let error = load::run(&config, &AtomicBool::new(false), |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::NoSuchProcess(u32::MAX)));
}

#[test]
fn the_program_says_what_came_of_it() {
    let server = Server::start(|_, _| keep(ok(b"hello")));
    let haul = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command
            .arg("load")
            .args(arguments)
            .output()
            .expect("haul was built for this test")
    };
    let done = haul(&["-n", "7", "-c", "2", "--json", &server.url("/a")]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let figures: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&figures["requests"], &figures["bytes"]),
        (&7.into(), &35.into())
    );

    let table = String::from_utf8(haul(&["-n", "2", &server.url("/a")]).stdout).unwrap();
    assert!(table.contains("2 whole"), "{table}");

    let gone = Server::start(|_, _| hang_up(Vec::new()));
    assert_eq!(haul(&["-n", "1", &gone.url("/a")]).status.code(), Some(1));
    for wrong in [
        &["ftp://127.0.0.1/a"][..],
        &[],
        &["-n", "1", "--rate", "0", "127.0.0.1:1/a"],
    ] {
        assert_eq!(haul(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_opens_a_file_is_not_printed() {
    for (url, status) in [
        ("http://me:s3cret@h:99999/f?sig=s3cret", 2),
        ("ftp://me:s3cret@h/f?sig=s3cret", 2),
        ("http://me:s3cret@127.0.0.1:1/f?sig=s3cret", 1),
    ] {
        for format in [&[][..], &["--json"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
            command.args(["load", "-n", "1", url]).args(format);
            let ran = command.output().unwrap();
            assert_eq!(ran.status.code(), Some(status), "{ran:?}");
            let said = [ran.stdout, ran.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}

#[test]
fn answers_through_tls_are_counted_and_handshakes_timed() {
    let content = vec![7; 300_000];
    let expected = content.len() as u64;
    let server = Server::start(move |_, head| match head.contains("Connection: close") {
        true => hang_up(ok(&content)),
        false => keep(ok(&content)),
    });
    let authority = Authority::new("the tests' authority");
    let leaf = authority.sign(&["127.0.0.1"], |_| {});
    let front = Front::start(server.address, leaf.config(), Ending::CloseNotify);
    let files = tempfile::tempdir().expect("a directory");
    let trusted = files.path().join("ca.pem");
    authority.write(&trusted);
    let secure = |persistence, bodies| {
        let mut config = config_for(front.url("/f"), 6);
        let tls = load::ClientTls::new(Some(&trusted), vec![], None, Default::default());
        config.tls = tls.expect("a certificate");
        (config.persistence, config.bodies, config.connections) = (persistence, bodies, 2);
        run(config)
    };
    for bodies in [Bodies::Discard, Bodies::Verify] {
        for persistence in [Persistence::KeepAlive, Persistence::Close] {
            let report = secure(persistence, bodies);
            assert_eq!(
                (report.requests, report.bytes),
                (6, 6 * expected),
                "{report}"
            );
            assert_eq!(errors(&report), []);
            let connects = match persistence {
                Persistence::KeepAlive => 2,
                Persistence::Close => 6,
            };
            assert_eq!(report.connects, connects);
            assert!(report.handshake.is_some_and(|spread| spread.max_us > 0.0));
        }
    }
    let mut config = config_for(front.url("/f"), 3);
    config.stalled = 2;
    let stranger = run(config);
    assert_eq!(stranger.requests, 0);
    let errors = errors(&stranger);
    assert!(
        errors.iter().all(|(why, _)| why.contains("unknown issuer")),
        "{errors:?}"
    );
    assert!(run(config_for(server.url("/f"), 1)).handshake.is_none());
}

fn run(config: LoadConfig) -> LoadReport {
    load::run(&config, &AtomicBool::new(false), |_| {}).expect("the configuration is valid")
}

fn config(server: &Server, path: &str, requests: u64) -> LoadConfig {
    config_for(server.url(path), requests)
}

fn config_for(url: String, requests: u64) -> LoadConfig {
    LoadConfig {
        family: load::Family::Any,
        urls: vec![url.parse().expect("the test's URL is well-formed")],
        connections: 1,
        stalled: 0,
        threads: 1,
        extent: RunLength::Requests(requests),
        ramp: Duration::ZERO,
        range: None,
        pace: Pace::Closed,
        persistence: Persistence::KeepAlive,
        bodies: Bodies::Discard,
        receive_bytes: 256 * 1024,
        timeout: FOR_EVER,
        tls: load::ClientTls::default(),
        server: None,
    }
}

fn errors(report: &LoadReport) -> Vec<(&str, u64)> {
    report
        .errors
        .iter()
        .map(|(kind, &count)| (kind.as_str(), count))
        .collect()
}

fn ok(content: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    [head.as_bytes(), content].concat()
}

fn keep(bytes: Vec<u8>) -> Reply {
    Reply::Keep(bytes)
}

fn hang_up(bytes: Vec<u8>) -> Reply {
    Reply::HangUp(bytes)
}

/// A request is whole after an empty line, a name after its line.
fn is_whole(request: &str) -> bool {
    request.ends_with("\r\n\r\n") || (request.ends_with('\n') && !request.contains("HTTP/"))
}

fn range(head: &str) -> (u64, u64) {
    let (_, range) = head
        .split_once("Range: bytes=")
        .expect("every request has a range");
    let (first, rest) = range.split_once('-').expect("the range has a dash");
    let last = rest.lines().next().unwrap_or_default();
    (
        first.parse().expect("a number"),
        last.parse().expect("a number"),
    )
}

/// What the server does with a request.
enum Reply {
    Keep(Vec<u8>),
    HangUp(Vec<u8>),
    /// Nothing, until the client goes.
    Silence,
}

/// A server that answers each request, counted from 0, as a function says.
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// Answers the request of this number and head.
type Script = dyn Fn(usize, &str) -> Reply + Send + Sync;

struct Shared {
    reply: Box<Script>,
    count: AtomicUsize,
    heads: Mutex<Vec<String>>,
    another: Condvar,
    over: AtomicBool,
}

impl Server {
    fn start(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            reply: Box::new(reply),
            count: AtomicUsize::new(0),
            heads: Mutex::default(),
            another: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // A client that goes ends its thread, whatever it was about to do.
                    thread::spawn(move || stream.map(|stream| shared.converse(stream)));
                }
            }
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn wait_for_heads(&self, count: usize) {
        let heads = self.shared.heads.lock().unwrap();
        let (heads, _) = self
            .shared
            .another
            .wait_timeout_while(heads, PATIENCE, |heads| heads.len() < count)
            .unwrap();
        assert_eq!(heads.len(), count);
    }

    fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            assert!(
                woken.is_ok() && accepting.join().is_ok(),
                "the test's server has failed"
            );
        }
    }
}

impl Shared {
    fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut head = String::new();
            while !is_whole(&head) {
                if reader.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let index = self.count.fetch_add(1, Ordering::SeqCst);
            self.heads.lock().unwrap().push(head.clone());
            self.another.notify_all();
            match (self.reply)(index, &head) {
                Reply::Keep(bytes) => stream.write_all(&bytes)?,
                Reply::HangUp(bytes) => return stream.write_all(&bytes),
                Reply::Silence => return reader.read_to_end(&mut Vec::new()).map(|_| ()),
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const FOR_EVER: Duration = Duration::from_secs(600);
