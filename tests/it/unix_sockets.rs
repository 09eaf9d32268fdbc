//! Unix sockets (unix(7)), and the user that serves.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use haul::server::config::LocalAddress;
use haul::server::telemetry::CloseReason;
use haul::server::telemetry::access_log::Destination;
use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::support::{Answer, Client, PATIENCE, TestServer, noise, own_address};

fn server(directory: &tempfile::TempDir) -> TestServer {
    TestServer::with(|config| {
        let socket = directory.path().join("socket");
        config.listen_local = vec![LocalAddress::Path(socket)];
        config.access_log = Destination::File(directory.path().join("log"));
    })
}

pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

pub fn exchange(mut stream: UnixStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    answer
}

const GET: &[u8] = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn files_go_over_unix_sockets_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    let content = noise(24 << 20, 1);
    server.put("large", &content);
    let path = directory.path().join("socket");
    let answer = Answer::parse(&exchange(connect(&path), GET));
    assert_eq!(answer.status, 200);
    assert!(answer.body == content);
    // One connection, several requests.
    let mut stream = connect(&path);
    for _ in 0..3 {
        let request = b"GET /large HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99999\r\n\r\n";
        stream.write_all(request).expect("taken");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let mut body = vec![0; 100_000];
        stream.read_exact(&mut body).expect("a body");
        assert!(body == content[..100_000]);
    }
    drop(stream);
    server.counters_when(|counters| counters.closed_in_all() == 2);
    server.shut_down();
    let log = fs::read_to_string(directory.path().join("log")).expect("a log");
    assert_eq!(log.lines().count(), 4, "{log}");
    let uid = nix::unistd::geteuid();
    assert!(
        log.lines()
            .all(|line| line.contains(&format!(" unix:{uid} http "))),
        "{log}"
    );
    assert!(log.lines().all(|line| line.ends_with("complete")), "{log}");
}

#[test]
fn a_reader_that_leaves_is_not_logged_as_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("large", noise(24 << 20, 1));
    let mut stream = connect(&directory.path().join("socket"));
    stream.write_all(GET).expect("taken");
    stream.read_exact(&mut [0; 1000]).expect("a beginning");
    drop(stream);
    server.counters_when(|counters| counters.closed(CloseReason::Aborted) == 1);
}

#[test]
fn a_name_over_a_unix_socket_gets_no_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory);
    server.put("name", "content");
    let answer = exchange(connect(&directory.path().join("socket")), b"name\n");
    assert_eq!(answer, b"");
    server.shut_down();
    let log = fs::read_to_string(directory.path().join("log")).expect("a log");
    assert!(
        log.contains("refused: names are not served over Unix sockets"),
        "{log}"
    );
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).expect("a socket"));
    let first = server(&directory);
    first.put("large", "x");
    assert_eq!(Answer::parse(&exchange(connect(&path), GET)).body, b"x");
    let refused = |path: &Path| {
        let listen = format!("unix:{}", path.display());
        let output = run(haul().args(["serve", "--listen", &listen]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    refused(&path);
    assert_eq!(Answer::parse(&exchange(connect(&path), GET)).body, b"x");
    let file = directory.path().join("file");
    fs::write(&file, "kept").expect("written");
    refused(&file);
    assert_eq!(fs::read(&file).expect("still there"), b"kept");
}

#[test]
fn abstract_sockets_and_permissions_are_as_asked_for() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("large"), "content").expect("written");
    let sockets = tempfile::tempdir().expect("a directory");
    let path = sockets.path().join("s");
    let name = format!("haul-test-{}", std::process::id());
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen", &format!("unix:@{name}")])
            .args(["--listen", &format!("unix:{}", path.display())])
            .args(["--unix-mode", "640", "--unix-owner", ":0", "--root"])
            .arg(root.path()),
    );
    program.line("listening on unix:@");
    program.line("listening on unix:/");
    let found = fs::metadata(&path).expect("a socket");
    assert_eq!(found.permissions().mode() & 0o777, 0o640);
    assert_eq!(found.gid(), 0);
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let stream = UnixStream::connect_addr(&address).expect("somebody listens");
    assert_eq!(Answer::parse(&exchange(stream, GET)).body, b"content");
    if Command::new("curl").arg("--version").output().is_ok() {
        let mut curl = Command::new("curl");
        let curl = curl
            .args(["--silent", "--fail", "--unix-socket"])
            .arg(&path);
        let output = curl.arg("http://there/large").output().expect("it runs");
        assert_eq!(output.stdout, b"content");
    }
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
fn it_becomes_another_user_once_it_is_bound() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        let path = root.path().join(name);
        fs::write(&path, "content").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen", &own_address().to_string()])
            .args(["--user", "nobody", "--log", "off", "--root"])
            .arg(root.path()),
    );
    let address = program.address();
    let status = |name| {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n");
        Answer::parse(&Client::connect(address).ask(request)).status
    };
    assert_eq!(status("open"), 200);
    assert_eq!(status("closed"), 403);
    let process = fs::read_to_string(format!("/proc/{}/status", program.id())).expect("it runs");
    let field = |name: &str| {
        let line = process.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a field")
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(field("Uid:").iter().all(|uid| uid == "65534"), "{process}");
    assert!(!field("Groups:").contains(&"0".to_owned()), "{process}");
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
fn wrong_options_get_a_line_each() {
    for (option, value) in [
        ("--listen", "unix:"),
        ("--listen", "unix:@"),
        ("--unix-mode", "999"),
        ("--unix-owner", "no-such-user"),
        ("--user", "no-such-user"),
    ] {
        let output = run(haul().args(["serve", option, value]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {said}");
        assert!(said.starts_with("error: invalid value"), "{said}");
    }
}
