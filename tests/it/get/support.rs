//! A scripted HTTP server that can misbehave in every way, and the `haul` program to run against
//! it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No test waits longer than this for anything.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// One request, as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// How many requests came before it, on all connections.
    pub(super) number: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The requested range, half-open.
    pub(super) fn range(&self) -> Option<(u64, Option<u64>)> {
        let (start, last) = self
            .field("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let end = last.parse::<u64>().ok().map(|last| last + 1);
        Some((start.parse().ok()?, end))
    }
}

/// What the server does next with the connection.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<u8>),
    /// A piece at a time, with a pause after each: a slow line.
    Drip {
        bytes: Vec<u8>,
        piece: usize,
        pause: Duration,
    },
    /// Until the client or the test is through.
    Stall,
    /// Until the gate is open.
    Hold(Gate),
    Reset,
    Close,
}

/// Holds answers back until a test opens it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(super) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

type Handler = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

/// A server on a free port; dropping it ends all its threads.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    stopping: AtomicBool,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut busy = Vec::new();
                for stream in listener.incoming() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else {
                        continue;
                    };
                    busy.push(thread::spawn(move || shared.converse(stream)));
                }
                for thread in busy {
                    let _ = thread.join();
                }
            })
        };
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Serves `file` properly, whatever the path.
    pub(super) fn of(file: Served) -> Self {
        Self::start(move |request| vec![Act::Send(file.answer(request))])
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn converse(&self, mut stream: TcpStream) {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut input = Vec::new();
        while let Some(request) = self.read_request(&mut stream, &mut input) {
            self.requests.lock().unwrap().push(request.clone());
            for act in (self.handler)(&request) {
                if !self.act(&mut stream, act) {
                    return;
                }
            }
        }
    }

    fn read_request(&self, stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Request> {
        let deadline = Instant::now() + LONGEST;
        loop {
            if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&input[..end]).into_owned();
                input.drain(..end + 4);
                let mut lines = head.split("\r\n");
                let mut first = lines.next()?.split(' ');
                let fields = lines.filter_map(|line| line.split_once(": "));
                return Some(Request {
                    number: self.requests.lock().unwrap().len(),
                    method: first.next()?.to_owned(),
                    target: first.next()?.to_owned(),
                    fields: fields.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                });
            }
            let mut more = [0; 4096];
            match stream.read(&mut more) {
                Ok(0) => return None,
                Ok(count) => input.extend_from_slice(&more[..count]),
                Err(error) if is_tick(&error) && !self.is_over(deadline) => {}
                Err(_) => return None,
            }
        }
    }

    /// Says whether the connection goes on.
    fn act(&self, stream: &mut TcpStream, act: Act) -> bool {
        match act {
            Act::Send(bytes) => self.send(stream, &bytes),
            Act::Drip {
                bytes,
                piece,
                pause,
            } => bytes.chunks(piece).all(|bytes| {
                thread::sleep(pause);
                self.send(stream, bytes)
            }),
            Act::Stall => {
                let deadline = Instant::now() + LONGEST;
                let mut more = [0; 4096];
                while !self.is_over(deadline) {
                    match stream.read(&mut more) {
                        Err(error) if is_tick(&error) => {}
                        _ => break,
                    }
                }
                false
            }
            Act::Hold(gate) => {
                let deadline = Instant::now() + LONGEST;
                while !gate.is_open() && !self.is_over(deadline) {
                    thread::sleep(Duration::from_millis(2));
                }
                gate.is_open()
            }
            Act::Reset => {
                let socket = socket2::SockRef::from(&*stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
            Act::Close => {
                let _ = stream.shutdown(Shutdown::Write);
                // What the client still says must not turn the close into a reset.
                let mut more = [0; 4096];
                let deadline = Instant::now() + LONGEST;
                while !self.is_over(deadline) {
                    match stream.read(&mut more) {
                        Ok(0) => break,
                        Err(error) if !is_tick(&error) => break,
                        _ => {}
                    }
                }
                false
            }
        }
    }

    fn send(&self, stream: &mut TcpStream, mut bytes: &[u8]) -> bool {
        let deadline = Instant::now() + LONGEST;
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_tick(&error) && !self.is_over(deadline) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn is_over(&self, deadline: Instant) -> bool {
        self.stopping.load(Ordering::SeqCst) || Instant::now() >= deadline
    }
}

fn is_tick(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// A file with the metadata that a server shows of it.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// The date of all served files, long enough before any `Date` to be strong.
pub(super) const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

impl Served {
    /// `length` bytes that depend on `seed`, and a strong tag that does, too.
    pub(super) fn new(seed: u64, length: usize) -> Self {
        Self {
            bytes: Arc::new(noise(seed, length)),
            etag: Some(format!("\"{seed}\"")),
            last_modified: Some(MODIFIED.to_owned()),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A proper answer: whole, or a range if `If-Range` agrees.
    pub(super) fn answer(&self, request: &Request) -> Vec<u8> {
        let current = match request.field("if-range") {
            Some(validator) => {
                Some(validator) == self.etag.as_deref()
                    || Some(validator) == self.last_modified.as_deref()
            }
            None => true,
        };
        match request.range().filter(|_| current) {
            Some((start, _)) if start >= self.len() => self.head(
                "416 Range Not Satisfiable",
                0,
                &format!("Content-Range: bytes */{}\r\n", self.len()),
            ),
            Some((start, end)) => {
                let end = end.unwrap_or(self.len()).min(self.len());
                self.part(start, end)
            }
            None => self.whole(),
        }
    }

    pub(super) fn whole(&self) -> Vec<u8> {
        let mut answer = self.head("200 OK", self.len(), "");
        answer.extend_from_slice(&self.bytes);
        answer
    }

    pub(super) fn part(&self, start: u64, end: u64) -> Vec<u8> {
        let range = format!(
            "Content-Range: bytes {start}-{}/{}\r\n",
            end - 1,
            self.len()
        );
        let mut answer = self.head("206 Partial Content", end - start, &range);
        answer.extend_from_slice(&self.bytes[start as usize..end as usize]);
        answer
    }

    /// A head with `more` fields, CRLF included.
    pub(super) fn head(&self, status: &str, length: u64, more: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}");
        head.push_str("Date: Fri, 01 Jan 2021 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n");
        for (name, value) in [("ETag", &self.etag), ("Last-Modified", &self.last_modified)] {
            if let Some(value) = value {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The first `share` of an answer, in hundredths.
pub(super) fn cut(answer: &[u8], share: usize) -> Vec<u8> {
    answer[..answer.len() * share / 100].to_vec()
}

/// Bytes that are everywhere different.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A directory with a `haul` to run in it.
pub(super) struct Client {
    pub(super) directory: TempDir,
}

/// What a run of `haul` came to.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in the directory, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command.current_dir(self.directory.path()).arg("get");
        if !arguments.contains(&"--retry-wait") {
            command.args(["--retry-wait", "10ms"]);
        }
        command
            .args(arguments)
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("all_proxy")
            .env_remove("ALL_PROXY")
            .env_remove("no_proxy")
            .env_remove("NO_PROXY");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `haul get` with short waits between retries.
    pub(super) fn get(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// The file must be there, whole, and alone.
    #[track_caller]
    pub(super) fn assert_whole(&self, name: &str, bytes: &[u8]) {
        assert_same(&self.path(name), bytes);
        assert_eq!(self.names(), [name]);
    }
}

#[track_caller]
pub(super) fn assert_same(path: &Path, bytes: &[u8]) {
    let found = std::fs::read(path).unwrap();
    assert_eq!(found.len(), bytes.len(), "length of {}", path.display());
    let differs = found.iter().zip(bytes).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first different byte of {}", path.display());
}

/// Waits for a program to end, and ends it after [`LONGEST`].
pub(super) fn finish(mut child: Child) -> Ran {
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.map(|mut stream| stream.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = drain(child.stdout.take().map(|stream| Box::new(stream) as Box<_>));
    let stderr = drain(child.stderr.take().map(|stream| Box::new(stream) as Box<_>));
    let status = ended(&mut child);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (stdout.join().unwrap(), text(stderr.join().unwrap()));
    let status = status.unwrap_or_else(|| panic!("haul did not end within {LONGEST:?}: {stderr}"));
    Ran {
        status: status.code(),
        stdout,
        stderr,
    }
}

/// The program's exit status; `None` when a signal ended it.
pub(super) fn wait(child: &mut Child) -> Option<i32> {
    let status = ended(child);
    status
        .unwrap_or_else(|| panic!("haul did not end within {LONGEST:?}"))
        .code()
}

/// How the program ended; `None` if it did not, and was killed.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    // Steps are counted, not the clock: a test that is stopped for a while has not waited.
    for _ in 0..LONGEST.as_millis() / STEP.as_millis() {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(STEP);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

const STEP: Duration = Duration::from_millis(5);

/// Waits until `is_so`.
#[track_caller]
pub(super) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for nothing");
        thread::sleep(Duration::from_millis(2));
    }
}

impl Ran {
    #[track_caller]
    pub(super) fn assert_status(&self, expected: i32) -> &Self {
        assert_eq!(self.status, Some(expected), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(super) fn assert_says(&self, words: &str) -> &Self {
        assert!(
            self.stderr.contains(words),
            "no {words:?} in:\n{}",
            self.stderr
        );
        self
    }
}

impl Ran {
    /// The JSON events of one kind.
    pub(super) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.stdout.clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &serde_json::Value| event["event"] == kind)
            .collect()
    }
}
