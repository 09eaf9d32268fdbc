//! The program itself, as a child: started, listened to, signalled, always ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Client, PATIENCE, own_address, transport};

/// A running `haul`. Dropping it kills it.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    /// The files of its certificate, if the suite runs over TLS.
    identity: Option<tempfile::TempDir>,
    /// What it has said so far, on standard error.
    pub said: Vec<String>,
}

/// Adds a listener on a free port for the suite's transport. Returns the directory with its
/// certificate, if that is TLS.
fn listen(command: &mut Command) -> Option<tempfile::TempDir> {
    let address = own_address().to_string();
    if !transport::is_tls() {
        command.args(["--listen", &address]);
        return None;
    }
    let (directory, files) = transport::identity();
    command.args(["--listen-tls", &address]);
    command.arg("--tls-cert").arg(files.certificate);
    command.arg("--tls-key").arg(files.key);
    Some(directory)
}

impl Program {
    /// `haul serve` with these arguments, on a free port.
    pub fn serve(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = haul();
        command.arg("serve").args(arguments);
        Self::listening(command)
    }

    /// `haul serve` as `command` has it, on a free port.
    pub fn listening(mut command: Command) -> Self {
        let identity = listen(&mut command);
        let mut program = Self::start(&mut command);
        program.identity = identity;
        program
    }

    /// Starts what `command` says.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            identity: None,
            said: Vec::new(),
        }
    }

    /// Waits for a line that begins like this, and returns the rest of it.
    #[track_caller]
    pub fn line(&mut self, start: &str) -> String {
        match self.try_line(start) {
            Some(rest) => rest,
            None => panic!("never said {start:?}, but {:#?}", self.said),
        }
    }

    /// As [`Self::line`]; `None` if it ends, or goes on, without saying so.
    pub fn try_line(&mut self, start: &str) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            self.said.push(line.clone());
            if let Some(rest) = line.strip_prefix(start) {
                return Some(rest.to_owned());
            }
        }
    }

    /// Waits until it listens, and returns where.
    #[track_caller]
    pub fn address(&mut self) -> SocketAddr {
        let address = self.line("listening on ");
        let address = address.parse().expect("an address, and nothing behind it");
        transport::note_server(address, self.identity.is_some());
        address
    }

    /// Connects to an address of it.
    pub fn connect(&self, address: SocketAddr) -> Client {
        Client::connect(address)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(directory).expect("it runs").count()
    }

    /// Its memory that is resident (`/proc/PID/statm`).
    pub fn resident_bytes(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()));
        let statm = statm.expect("it runs");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        pages.expect("a number") * 4096
    }

    /// Lowers its limit on open files, whatever it has open (`prlimit(2)`).
    pub fn limit_open_files(&self, limit: u64) {
        let id = i32::try_from(self.child.id()).ok();
        let id = id.and_then(rustix::process::Pid::from_raw);
        let limit = rustix::process::Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        rustix::process::prlimit(id, rustix::process::Resource::Nofile, limit)
            .expect("it is ours to limit");
    }

    /// Waits until the number of open files satisfies `reached`, and returns it with the number of
    /// sockets among them. Files that are open for a moment only do not count.
    #[track_caller]
    pub fn open_files_when(&self, reached: impl Fn(usize) -> bool) -> (usize, usize) {
        let directory = format!("/proc/{}/fd", self.child.id());
        let look = |_| {
            std::thread::sleep(Duration::from_millis(1));
            let files = std::fs::read_dir(&directory).expect("it runs").flatten();
            let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            let (sockets, others): (Vec<_>, Vec<_>) =
                targets.partition(|target| target.to_string_lossy().starts_with("socket:"));
            (sockets.len() + others.len(), sockets.len())
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = (0..10).map(look).min().expect("ten looks");
            if reached(open.0) {
                return open;
            }
            assert!(Instant::now() < deadline, "{open:?} files are open");
        }
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id()), signal).expect("it still runs");
    }

    /// Waits for its end, whatever other processes write to its pipe.
    #[track_caller]
    pub fn end_alone(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without the environment's opinions.
pub fn haul() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HAUL_") && name != "HAUL_TRANSMIT" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, for so long at the most.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut pipes = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipes.0.read_to_end(&mut bytes);
        bytes
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipes.1.read_to_end(&mut bytes);
        bytes
    });
    let status = wait(&mut child);
    Output {
        status,
        stdout: out.join().expect("no panic"),
        stderr: err.join().expect("no panic"),
    }
}

/// Waits for a child; kills it and fails if it does not end.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let step = Duration::from_millis(5);
    // Steps are counted, not the clock: a test that is stopped for a while has not waited.
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if let Some(status) = child.try_wait().expect("our child") {
            return status;
        }
        std::thread::sleep(step);
    }
    let _ = child.kill();
    panic!("it does not end");
}
