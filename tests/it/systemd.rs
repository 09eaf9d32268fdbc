//! Notifications to supervisors (sd_notify(3)), and inherited sockets (sd_listen_fds(3)).

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::support::{Answer, Client, PATIENCE, own_address};

/// A supervisor's socket.
pub struct Notified {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Notified {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { socket, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// Waits for a message with this line, and returns the message.
    #[track_caller]
    pub fn wait_for(&self, line: &str) -> String {
        loop {
            let mut bytes = [0; 1024];
            let len = self.socket.recv(&mut bytes);
            let len = len.unwrap_or_else(|error| panic!("{line} never came: {error}"));
            let message = String::from_utf8(bytes[..len].to_vec()).expect("text");
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
    }

    pub fn serve(&self, root: &tempfile::TempDir) -> Command {
        let mut command = haul();
        command
            .args(["serve", "--listen", &own_address().to_string(), "--root"])
            .arg(root.path())
            .env("NOTIFY_SOCKET", self.path());
        command
    }
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    root
}

fn serves(address: SocketAddr) {
    let answer = Client::connect(address).ask("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(Answer::parse(&answer).body, b"content");
}

#[test]
fn a_supervisor_is_told_of_each_phase() {
    let (notified, root) = (Notified::new(), root());
    let mut program = Program::start(notified.serve(&root).env("WATCHDOG_USEC", "200000"));
    notified.wait_for("READY=1");
    serves(program.address());
    notified.wait_for("WATCHDOG=1");
    program.signal(Signal::SIGHUP);
    let reloading = notified.wait_for("RELOADING=1");
    let monotonic = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        monotonic.is_some_and(|time| time.parse::<u64>().is_ok()),
        "{reloading}"
    );
    notified.wait_for("READY=1");
    program.signal(Signal::SIGTERM);
    notified.wait_for("STOPPING=1");
    assert!(program.end().success());
}

#[test]
fn a_supervisor_that_does_not_listen_stops_nothing() {
    let (notified, root) = (Notified::new(), root());
    // Its queue is full, so that senders wait.
    let flood = UnixDatagram::unbound().expect("a socket");
    flood.set_nonblocking(true).expect("a flag");
    while flood.send_to(b"x", notified.path()).is_ok() {}
    let mut program = Program::start(&mut notified.serve(&root));
    let address = program.address();
    serves(address);
    for _ in 0..16 {
        program.signal(Signal::SIGHUP);
    }
    serves(address);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
fn sockets_that_were_passed_on_are_served() {
    let root = root();
    let listener = TcpListener::bind(own_address()).expect("a port");
    let address = listener.local_addr().expect("bound");
    // A copy that a child inherits.
    let copy = fcntl(&listener, FcntlArg::F_DUPFD(200)).expect("a descriptor");
    let mut program = Program::start(
        haul()
            .args(["serve", "--root"])
            .arg(root.path())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDS_FIRST_FD", copy.to_string()),
    );
    assert_eq!(program.address(), address);
    drop(listener);
    serves(address);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    assert!(
        !program.said.iter().any(|line| line.contains("7788")),
        "{:?}",
        program.said
    );
    let _ = nix::unistd::close(copy);
}

#[test]
fn what_is_passed_on_and_no_socket_is_refused_in_a_line() {
    let file = tempfile::tempfile().expect("a file");
    let copy = fcntl(&file, FcntlArg::F_DUPFD(200)).expect("a descriptor");
    let output = run(haul()
        .args(["serve"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", copy.to_string()));
    let _ = nix::unistd::close(copy);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("LISTEN_FDS"), "{said}");
}

#[test]
fn systemd_socket_activate_starts_it_at_the_first_connection() {
    let activate = "systemd-socket-activate";
    if Command::new(activate).arg("--version").output().is_err() {
        eprintln!("SKIPPED: no {activate} here");
        return;
    }
    let root = root();
    let probe = TcpListener::bind(own_address()).expect("a port");
    let address = probe.local_addr().expect("bound");
    drop(probe);
    let mut command = Command::new(activate);
    command.args(["--listen", &address.to_string()]);
    command
        .arg(haul().get_program())
        .args(["serve", "--root"])
        .arg(root.path());
    let mut program = Program::start(&mut command);
    program.line("Listening on");
    serves(address);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    assert!(listener_is_gone(address));
}

#[test]
fn the_journal_is_told_of_warnings_and_nobody_else_is() {
    for (is_journal, expected) in [(true, "<4>haul: "), (false, "haul: ")] {
        let mut errors = tempfile::NamedTempFile::new().expect("a file");
        let found = errors.as_file().metadata().expect("there");
        let inode = found.ino() + u64::from(!is_journal);
        let status = haul()
            .args(["serve", "--root", "/nowhere"])
            .env("JOURNAL_STREAM", format!("{}:{inode}", found.dev()))
            .stderr(errors.reopen().expect("a file"))
            .status();
        assert_eq!(status.expect("it ends").code(), Some(1));
        let mut said = String::new();
        errors.read_to_string(&mut said).expect("text");
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn the_units_are_good_and_the_service_is_confined() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: no systemd-analyze here");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let units = ["haul.service", "haul.socket"].map(|name| {
        let unit = format!("{}/scripts/systemd/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(unit).expect("there");
        // What a package installs is not on this host.
        let text = text.replace("/usr/bin/haul", env!("CARGO_BIN_EXE_haul"));
        let text = text.replace("Documentation=", "#");
        let copy = directory.path().join(name);
        std::fs::write(&copy, text).expect("written");
        copy
    });
    let analyze = |arguments: &[&str], units: &[PathBuf]| {
        let output = run(Command::new("systemd-analyze").args(arguments).args(units));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let (is_good, said) = analyze(&["verify"], &units);
    assert!(is_good && said.is_empty(), "{said}");
    // 2.0, in tenths.
    let confined = ["security", "--offline=yes", "--threshold=20"];
    let (is_good, said) = analyze(&confined, &units[..1]);
    assert!(is_good, "{said}");
}

#[test]
fn the_settings_of_the_package_would_start() {
    let root = root();
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/systemd/haul.toml");
    let address = own_address().to_string();
    let output = run(haul()
        .args([
            "serve", "--check", "--config", settings, "--admin", "0", "--root",
        ])
        .arg(root.path())
        .args(["--listen", &address]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

fn listener_is_gone(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok_and(|listener| listener.as_raw_fd() >= 0)
}
