//! Output that is not read, or cannot be written: haul works on, and ends on a signal.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::haul;
use crate::support::transport::leaves_out;
use crate::support::{Client, PATIENCE, TestServer, noise, own_address};

/// What standard output and standard error lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// The reading end of the pipe is closed.
    Gone,
    /// The pipe is full, and has no reader.
    Asleep,
    /// `/dev/full`.
    FullDisk,
    /// The descriptors are closed.
    Closed,
}

const READERS: [Reader; 4] = [
    Reader::Gone,
    Reader::Asleep,
    Reader::FullDisk,
    Reader::Closed,
];

/// A child with unread output, killed when dropped.
struct Unread {
    child: Child,
    _pipe: Option<PipeReader>,
}

impl Unread {
    fn start(command: &mut Command, reader: Reader) -> Self {
        command.stdin(Stdio::null());
        let mut pipe_kept = None;
        match reader {
            Reader::Gone | Reader::Asleep => {
                let (reading, mut writing) = pipe().expect("a pipe");
                if reader == Reader::Asleep {
                    fill(&mut writing);
                    pipe_kept = Some(reading);
                }
                command.stdout(writing.try_clone().expect("a descriptor"));
                command.stderr(writing);
            }
            Reader::FullDisk => {
                let full = File::options().write(true).open("/dev/full");
                let full = full.expect("/dev/full");
                command.stdout(full.try_clone().expect("a descriptor"));
                command.stderr(full);
            }
            Reader::Closed => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "exec \"$@\" >&- 2>&-", "sh"]);
                shell.arg(command.get_program()).args(command.get_args());
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => shell.env(name, value),
                        None => shell.env_remove(name),
                    };
                }
                *command = shell;
            }
        }
        let child = command.spawn().expect("it starts");
        // The command holds the writing end until it is gone.
        *command = Command::new("true");
        Self {
            child,
            _pipe: pipe_kept,
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it still runs");
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fill(pipe: &mut PipeWriter) {
    let is_writable = |pipe: &PipeWriter| {
        let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::ZERO).expect("poll") > 0
    };
    while is_writable(pipe) {
        pipe.write_all(&[b'x'; 4096]).expect("there was room");
    }
}

/// An address without a listener, on a host address of this test.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(own_address()).expect("an address");
    listener.local_addr().expect("bound")
}

#[track_caller]
fn connect_once_it_listens(address: SocketAddr) -> TcpStream {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn serve(address: SocketAddr, root: &std::path::Path) -> Command {
    let mut command = haul();
    command.args(["serve", "--listen", &address.to_string(), "--root"]);
    command.arg(root);
    command
}

#[test]
fn serve_answers_and_ends_on_a_signal_whoever_reads_it() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    for reader in READERS {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let address = free_address();
            let mut server = Unread::start(&mut serve(address, root.path()), reader);
            drop(connect_once_it_listens(address));
            assert_eq!(Client::connect(address).ask("f\n"), b"content");
            server.signal(signal);
            assert_eq!(server.end().code(), Some(0), "{reader:?} {signal}");
        }
    }
}

#[test]
fn a_second_signal_ends_serve_whoever_reads_it() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("big"), noise(24 << 20, 1)).expect("written");
    for reader in READERS {
        let address = free_address();
        let mut command = serve(address, root.path());
        let mut server = Unread::start(command.args(["--grace", "1h"]), reader);
        drop(connect_once_it_listens(address));
        let mut client = Client::with_small_window(address);
        client.send("big\n");
        let _ = client.take(1);
        server.signal(Signal::SIGTERM);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_ok() {
            assert!(Instant::now() < until, "it still listens");
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(server.end().code(), Some(143), "{reader:?}");
    }
}

#[test]
fn thousands_of_unread_log_lines_do_not_keep_serve_from_ending() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let address = free_address();
    let mut server = Unread::start(&mut serve(address, root.path()), Reader::Asleep);
    drop(connect_once_it_listens(address));
    let mut client = Client::connect(address);
    for _ in 0..2_000 {
        client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().body, b"content");
    }
    server.signal(Signal::SIGHUP);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn answer_replies_and_ends_on_a_signal_whoever_reads_it() {
    for reader in READERS {
        let address = free_address();
        let mut command = haul();
        command.args(["answer", "--listen", &address.to_string()]);
        let mut answerer = Unread::start(&mut command, reader);
        for _ in 0..3 {
            let mut stream = connect_once_it_listens(address);
            stream.write_all(b"hello").expect("sent");
            let mut reply = String::new();
            stream.read_to_string(&mut reply).expect("a reply");
            assert_eq!(reply, "thank you !", "{reader:?}");
        }
        answerer.signal(Signal::SIGTERM);
        assert_eq!(answerer.end().code(), Some(0), "{reader:?}");
    }
}

#[test]
fn what_cannot_start_ends_with_its_status_whoever_reads_it() {
    let refused = free_address().to_string();
    let cases: [(&[&str], i32); 4] = [
        (&["serve", "--root", "/no such directory"], 1),
        (&["say", &refused, "hello"], 1),
        (&["load", "-n", "1", "-d", "https://x/"], 2),
        (&["get", "-o", "x", "http://a/", "http://b/"], 2),
    ];
    for reader in READERS {
        for (arguments, status) in cases {
            let mut program = Unread::start(haul().args(arguments), reader);
            assert_eq!(
                program.end().code(),
                Some(status),
                "{reader:?} {arguments:?}"
            );
        }
    }
}

#[test]
fn get_and_load_end_on_a_signal_while_nobody_reads_them() {
    if leaves_out("`haul get` and `haul load` have tests of TLS of their own") {
        return;
    }
    let server = TestServer::start();
    server.put("big", noise(24 << 20, 1));
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("http://{}/big", server.address());
    let into = directory.path().to_str().expect("a name");
    let cases: [(&[&str], i32); 4] = [
        (&["get", "--rate", "100KB", "-d", into, &url], 130),
        (
            &["get", "--rate", "100KB", "--json", "-d", into, "-f", &url],
            130,
        ),
        (&["get", "-o", "-", &url], 130),
        (&["load", "-d", "1h", &url], 0),
    ];
    for (arguments, status) in cases {
        let before = server.counters().requests;
        let mut program = Unread::start(haul().args(arguments), Reader::Asleep);
        server.counters_when(|counters| counters.requests > before);
        program.signal(Signal::SIGTERM);
        let ended = program.end().code();
        // The figures of a load cannot be written either.
        let ended_by_signal = ended == Some(143);
        assert!(
            ended == Some(status) || ended_by_signal,
            "{arguments:?}: {ended:?}"
        );
    }
}

/// Verdicts that nobody got are none.
#[test]
fn sums_that_are_not_read_do_not_end_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("list");
    let zeros = "0".repeat(64);
    std::fs::write(&list, format!("{zeros}  list\n")).expect("a list");
    for arguments in [&["sum", "--check", "list"] as &[&str], &["sum", "list"]] {
        let mut command = haul();
        command.current_dir(directory.path()).args(arguments);
        let mut program = Unread::start(&mut command, Reader::Gone);
        assert_eq!(program.end().code(), Some(141), "{arguments:?}");
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    if leaves_out("`haul get` and `haul load` have tests of TLS of their own") {
        return;
    }
    let server = TestServer::start();
    server.put("f", "content");
    let url = format!("http://{}/f", server.address());
    for arguments in [
        &["man"] as &[&str],
        &["completions", "bash"],
        &["--help"],
        &["load", "-n", "1", &url],
    ] {
        let mut program = Unread::start(haul().args(arguments), Reader::Gone);
        assert_eq!(program.end().code(), Some(0), "{arguments:?}");
    }
}
