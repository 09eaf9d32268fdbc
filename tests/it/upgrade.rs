//! SIGUSR2: another process takes the sockets over, and no connection is refused or closed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use serde_json::Value;

use crate::process::{Program, haul, run};
use crate::support::{Answer, Client, PATIENCE, noise, own_address};
use crate::systemd::Notified;
use crate::unix_sockets::{connect, exchange};

/// The process that took over; ended with this.
struct Successor(Pid);

impl Successor {
    /// Waits until one has taken over.
    #[track_caller]
    fn of(program: &mut Program) -> Self {
        let told = program.line("process ");
        let id = told.split(' ').next().and_then(|id| id.parse().ok());
        Self(Pid::from_raw(id.expect("a number")))
    }

    /// Ends it in order, and waits until it has.
    fn end(self) {
        kill(self.0, Signal::SIGTERM).expect("it runs");
        let begun = Instant::now();
        // The successor may not have started yet.
        let is_there = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
            status.is_ok_and(|status| !status.contains(") Z "))
        };
        while is_there() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

fn fetch(address: SocketAddr) -> Vec<u8> {
    let answer =
        Client::connect(address).ask("GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    Answer::parse(&answer).body
}

/// A server, and the file of its settings, of which there are none.
fn with_settings(root: &tempfile::TempDir) -> (Program, PathBuf) {
    let settings = root.path().join("haul.toml");
    std::fs::write(&settings, "").expect("written");
    let mut command = haul();
    command.args(["serve", "--root"]).arg(root.path());
    command.arg("--config").arg(&settings);
    (Program::listening(command), settings)
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    root
}

#[test]
fn under_load_none_is_refused_and_no_transfer_breaks() {
    let root = root();
    let large = noise(32 << 20, 1);
    std::fs::write(root.path().join("large"), &large).expect("written");
    let mut command = haul();
    command.args(["serve", "--drain-timeout", "unlimited", "--root"]);
    command.arg(root.path());
    let mut program = Program::listening(command);
    let address = program.address();
    let mut slow = Client::with_small_window(address);
    slow.send("large\n");
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut fetched = 0;
                    while !ends.load(Ordering::Relaxed) {
                        assert_eq!(fetch(address), b"content");
                        fetched += 1;
                    }
                    fetched
                })
            })
            .collect();
        for _ in 0..2 {
            // The second changes nothing.
            program.signal(Signal::SIGUSR2);
        }
        let successor = Successor::of(&mut program);
        for _ in 0..20 {
            assert_eq!(fetch(address), b"content");
        }
        ends.store(true, Ordering::Relaxed);
        let fetched: u32 = clients
            .into_iter()
            .map(|it| it.join().expect("served"))
            .sum();
        assert!(fetched > 20, "{fetched}");
        assert!(slow.rest() == large, "the old one's transfer is whole");
        drop(slow);
        successor.end();
    });
    assert!(program.end().success());
}

/// What the admin interface says of transfers.
fn transfers(admin: &Path) -> Value {
    let request = b"GET /transfers HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = exchange(connect(admin), request);
    serde_json::from_slice(&Answer::parse(&answer).body).expect("JSON")
}

#[test]
fn what_is_taken_over_from_is_seen_until_it_has_ended() {
    let root = root();
    let large = noise(32 << 20, 1);
    std::fs::write(root.path().join("large"), &large).expect("written");
    let admin = root.path().join("admin");
    let admin_option = format!("unix:{}", admin.display());
    let mut command = haul();
    command.args(["serve", "--drain-timeout", "unlimited", "--root"]);
    command.arg(root.path()).args(["--admin", &admin_option]);
    let mut program = Program::listening(command);
    let address = program.address();
    let mut slow = Client::with_small_window(address);
    slow.send("large\n");
    let wait_for = |what: &str, reached: &dyn Fn(&Value) -> bool| {
        let begun = Instant::now();
        loop {
            let told = transfers(&admin);
            if reached(&told) {
                return told;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {told}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let first = wait_for("a transfer", &|told| {
        told["transfers"][0]["request"] == "large"
    });
    assert!(first["predecessor"].is_null(), "{first}");
    program.signal(Signal::SIGUSR2);
    let second = Successor::of(&mut program);
    let is_seen = |told: &Value| {
        let of = &told["predecessor"];
        of["draining"] == true && of["transfers"][0]["request"] == "large"
    };
    let told = wait_for("the first server", &is_seen);
    assert_eq!(told["process"], second.0.as_raw());
    assert_eq!(told["predecessor"]["process"], first["process"]);
    let shown = run(haul().args(["top", "--once", &admin_option]));
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    let drains = format!(
        "; process {} drains, waits for 1 transfers",
        first["process"]
    );
    assert!(shown.contains(&drains), "{shown}");
    assert!(shown.contains("peer, old large"), "{shown}");
    // The second server has a transfer when a third one starts.
    let mut other = Client::with_small_window(address);
    other.send("large\n");
    wait_for("another transfer", &|told| {
        told["transfers"][0]["request"] == "large"
    });
    kill(second.0, Signal::SIGUSR2).expect("it runs");
    let third = Successor::of(&mut program);
    let told = wait_for("both", &|told| {
        is_seen(told) && is_seen(&told["predecessor"])
    });
    assert_eq!(told["process"], third.0.as_raw());
    assert!(slow.rest() == large, "the first one's transfer is whole");
    assert!(other.rest() == large, "the second one's transfer is whole");
    drop((slow, other));
    wait_for("none", &|told| told["predecessor"].is_null());
    third.end();
}

#[test]
fn what_does_not_start_is_said_and_the_old_one_goes_on() {
    let root = root();
    let (mut program, settings) = with_settings(&root);
    let address = program.address();
    std::fs::write(&settings, "sped = 1").expect("written");
    program.signal(Signal::SIGUSR2);
    assert!(
        program
            .line("error: ")
            .contains("there is no option `sped`")
    );
    let told = program.line("haul: goes on");
    assert!(told.ends_with("it ended with exit status: 2"), "{told}");
    assert_eq!(fetch(address), b"content");
    std::fs::write(&settings, "").expect("written");
    program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut program);
    assert_eq!(fetch(address), b"content");
    successor.end();
    assert!(program.end().success());
}

#[test]
fn a_supervisor_is_told_who_serves_on_and_sockets_of_all_kinds_are_handed_over() {
    let (notified, root) = (Notified::new(), root());
    let socket = root.path().join("sock");
    let admin = root.path().join("admin");
    let mut command = notified.serve(&root);
    command
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()));
    command
        .arg("--admin")
        .arg(format!("unix:{}", admin.display()));
    let mut program = Program::start(command.env("WATCHDOG_USEC", "200000"));
    let address = program.address();
    program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut program);
    notified.wait_for(&format!("MAINPID={}", successor.0));
    assert!(program.end_alone().success());
    notified.wait_for("WATCHDOG=1");
    assert_eq!(fetch(address), b"content");
    for (socket, path) in [(&socket, "/f"), (&admin, "/readyz")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = exchange(connect(socket), request.as_bytes());
        assert_eq!(Answer::parse(&answer).status, 200, "{path}");
    }
    successor.end();
}

/// An address whose port the system chose stands for the socket that it was chosen for.
#[test]
fn each_socket_is_handed_over_for_what_it_was_opened_for() {
    let root = root();
    let any = own_address().to_string();
    let mut command = haul();
    command.args(["serve", "--listen", &any, "--admin", &any, "--root"]);
    let mut program = Program::start(command.arg(root.path()));
    let address = program.address();
    let admin = program.line("admin on http://");
    let admin = admin.trim_end_matches('/').parse().expect("an address");
    let is_healthy = || {
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        Answer::parse(&Client::connect(admin).ask(request)).body == b"ok\n"
    };
    assert!(is_healthy());
    program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut program);
    assert!(program.end_alone().success());
    assert_eq!(Client::connect(address).ask("f\n"), b"content");
    assert!(is_healthy());
    successor.end();
}

/// Whoever starts it may leave a descriptor open, and no close-on-exec is set for it.
#[test]
fn sockets_are_handed_over_around_a_descriptor_that_was_left_open() {
    let root = root();
    let program = haul();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 4</dev/null"]);
    command.arg(program.get_program());
    command.args(["serve", "--admin", &own_address().to_string(), "--root"]);
    command.arg(root.path());
    let mut program = Program::listening(command);
    let address = program.address();
    program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut program);
    assert_eq!(fetch(address), b"content");
    successor.end();
    assert!(program.end().success());
}

/// It would have been ready before it had its threads, whose stacks have 2 MiB each.
#[test]
fn the_old_one_goes_on_where_the_new_one_gets_no_threads() {
    let root = root();
    let settings = root.path().join("haul.toml");
    std::fs::write(&settings, "").expect("written");
    let haul = haul();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 3000000; exec \"$@\"", "sh"])
        .arg(haul.get_program())
        .args(["serve", "--listen", &own_address().to_string(), "--root"])
        .arg(root.path())
        .arg("--config")
        .arg(&settings);
    let mut program = Program::start(&mut command);
    let address = program.address();
    std::fs::write(&settings, "disk-workers = 4096").expect("written");
    program.signal(Signal::SIGUSR2);
    let told = program.line("haul: goes on");
    assert!(told.ends_with("it ended with exit status: 1"), "{told}");
    assert_eq!(fetch(address), b"content");
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
fn without_the_process_that_starts_another_it_goes_on_and_says_what_helps() {
    let root = root();
    let (mut program, _settings) = with_settings(&root);
    let address = program.address();
    let launcher = child_of(program.id());
    kill(launcher, Signal::SIGKILL).expect("it runs");
    wait_for_state(launcher, 'Z');
    for _ in 0..2 {
        program.signal(Signal::SIGUSR2);
        let told = program.line("haul: goes on");
        assert!(told.contains("a restart"), "{told}");
    }
    assert_eq!(fetch(address), b"content");
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

/// A debugger, a container's pause: the process that waits for the new one is stopped, and goes on.
#[test]
fn a_launcher_that_is_stopped_for_a_moment_goes_on_waiting() {
    let root = root();
    let (mut program, settings) = with_settings(&root);
    let address = program.address();
    // The new one waits for its settings.
    std::fs::remove_file(&settings).expect("removed");
    nix::unistd::mkfifo(&settings, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    program.signal(Signal::SIGUSR2);
    let launcher = child_of(program.id());
    child_of(launcher.as_raw());
    wait_for_state(launcher, 'S');
    kill(launcher, Signal::SIGSTOP).expect("it runs");
    wait_for_state(launcher, 'T');
    kill(launcher, Signal::SIGCONT).expect("it runs");
    std::fs::write(&settings, "").expect("read");
    let successor = Successor::of(&mut program);
    assert_eq!(fetch(address), b"content");
    successor.end();
    assert!(program.end().success());
}

/// Waits until a process has started another one.
#[track_caller]
fn child_of(parent: i32) -> Pid {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let begun = Instant::now();
    loop {
        let found = std::fs::read_to_string(&children).expect("it runs");
        if let Some(id) = found.split(' ').next().and_then(|id| id.parse().ok()) {
            return Pid::from_raw(id);
        }
        assert!(begun.elapsed() < PATIENCE, "it starts nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process is in this state (proc_pid_stat(5)).
#[track_caller]
fn wait_for_state(id: Pid, state: char) {
    let begun = Instant::now();
    loop {
        let told = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
        if told.contains(&format!(") {state} ")) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
