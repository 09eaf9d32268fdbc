//! Shared by the tests: a root directory, a server on a free port, and a client of raw bytes.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use haul::server::config::{KernelTlsChoice, SendChoice, ServeConfig};
use haul::server::telemetry::Snapshot;
use haul::server::telemetry::access_log::Destination;
use haul::server::{Handle, Pin, Server, StartupError};
use socket2::{Domain, SockRef, Socket, Type};

pub use transport::Stream;

pub mod transport;

/// Nothing in a test waits longer than this for a peer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server over a temporary directory. Dropping it shuts it down.
pub struct TestServer {
    root: Option<tempfile::TempDir>,
    handle: Handle,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    pins: Vec<Pin>,
    /// The files of its certificate, if the suite runs over TLS.
    _identity: Option<tempfile::TempDir>,
    thread: Option<JoinHandle<Result<Snapshot, StartupError>>>,
}

impl TestServer {
    /// A server with two workers over an empty directory.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A server whose settings `adjust` has changed.
    pub fn with(adjust: impl FnOnce(&mut ServeConfig)) -> Self {
        let root = tempfile::tempdir().expect("a directory for the test");
        let mut config = ServeConfig {
            root: root.path().to_owned(),
            listen: vec![own_address()],
            workers: NonZeroUsize::new(2).expect("2 is not 0"),
            access_log: Destination::Nowhere,
            transmit: transmit_choice(),
            ..ServeConfig::default()
        };
        if std::env::var("HAUL_TEST_KTLS").as_deref() == Ok("off") {
            config.kernel_tls = KernelTlsChoice::Off;
        }
        adjust(&mut config);
        let identity =
            (transport::is_tls() && config.listen_tls.is_empty() && !config.listen.is_empty())
                .then(|| {
                    let (directory, files) = transport::identity();
                    config.tls.identities = vec![files];
                    config.listen_tls = std::mem::take(&mut config.listen);
                    directory
                });
        let server = Server::bind(config).expect("the server binds");
        let address = server.local_addrs()[0];
        transport::note_server(address, identity.is_some());
        let tls_address = server.tls_addrs().first().copied();
        let pins = server.pins();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.run()));
        Self {
            root: Some(root),
            handle,
            address,
            tls_address,
            pins,
            _identity: identity,
            thread,
        }
    }

    /// The directory that is served.
    pub fn root(&self) -> &Path {
        self.root.as_ref().expect("kept until the end").path()
    }

    /// Puts a file into the directory, with directories as needed.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("beneath the root")).expect("directories");
        fs::write(&path, content).expect("the file is written");
        path
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TLS, if it does.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls_address.expect("it listens for TLS")
    }

    /// The pins of its keys.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// The way to it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The counters now.
    pub fn counters(&self) -> Snapshot {
        self.handle.counters()
    }

    /// The counters, once `reached` says so; fails if it never does.
    #[track_caller]
    pub fn counters_when(&self, reached: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            let counters = self.counters();
            if reached(&counters) {
                return counters;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the counters never got there: {counters:#?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a response is under way; one of a large file to a client that does not read is
    /// then stuck in the middle.
    #[track_caller]
    pub fn wait_until_under_way(&self) {
        self.counters_when(|counters| counters.bytes_sent > 0);
    }

    /// Connects.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends `request` on a new connection and returns all bytes until the end.
    pub fn exchange(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut client = self.connect();
        client.send(request);
        client.rest()
    }

    /// Fetches a file by its bare name.
    pub fn by_name(&self, name: &str) -> Vec<u8> {
        self.exchange(format!("{name}\n"))
    }

    /// Fetches by HTTP on a new connection; `fields` are whole lines.
    pub fn get(&self, target: &str, fields: &str) -> Answer {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        Answer::parse(&self.exchange(request))
    }

    /// Shuts the server down, waits for its end and returns the final counters.
    pub fn shut_down(mut self) -> Snapshot {
        self.handle.shut_down();
        let thread = self.thread.take().expect("running until now");
        thread
            .join()
            .expect("the server does not panic")
            .expect("the server ends well")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.shut_down();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            let _ = thread.join();
        }
    }
}

/// The suite runs once more with `HAUL_TRANSMIT=copy`.
pub fn transmit_choice() -> SendChoice {
    match std::env::var("HAUL_TRANSMIT").as_deref() {
        Ok("copy") => SendChoice::Copy,
        _ => SendChoice::Auto,
    }
}

/// A client of raw bytes.
pub struct Client {
    pub stream: Stream,
}

impl Client {
    /// Connects, with time-outs set.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }

    /// Connects with a receive buffer so small that a few MiB fill all buffers on the way.
    pub fn with_small_window(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(128 << 10).expect("a size");
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .expect("connects");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time-out");
        Self::over(stream)
    }

    /// The socket alone, for tests with their own TLS or none.
    pub fn into_socket(self) -> TcpStream {
        self.stream.into_socket()
    }

    /// Speaks over this socket.
    pub fn over(socket: TcpStream) -> Self {
        let stream = Stream::over(socket);
        Self { stream }
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("still a socket");
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server takes it");
    }

    /// Closes our side, if the connection has not ended by then: over TLS the server may have had
    /// the alert before.
    pub fn half_close(&self) {
        match self.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            outcome => outcome.expect("our side can be closed"),
        }
    }

    /// Sends a request, closes our side, and returns what comes, whatever the end.
    pub fn ask(mut self, request: impl AsRef<[u8]>) -> Vec<u8> {
        // The server may have refused and closed before it took all.
        let _ = self.stream.write_all(request.as_ref());
        let _ = self.stream.shutdown(Shutdown::Write);
        self.try_rest().0
    }

    /// All that comes until an orderly end; panics at a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        self.try_rest().1.expect("an orderly end")
    }

    /// All that comes, and how it ends.
    pub fn try_rest(&mut self) -> (Vec<u8>, io::Result<Vec<u8>>) {
        let mut bytes = Vec::new();
        let end = self.stream.read_to_end(&mut bytes).map(|_| bytes.clone());
        (bytes, end)
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        take(&mut self.stream, len)
    }

    /// One HTTP response with its content, on a connection that goes on.
    pub fn answer(&mut self) -> Answer {
        Answer::read(&mut self.stream)
    }

    /// Whether the connection has ended by a reset rather than in order.
    pub fn ends_in_reset(&mut self) -> bool {
        matches!(self.try_rest().1, Err(error) if is_reset(&error))
    }
}

/// Whether this is a reset, or over TLS an end without `close_notify`.
pub fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
        || transport::is_tls() && error.kind() == io::ErrorKind::UnexpectedEof
}

/// An HTTP response, taken apart naively.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Exactly so many bytes.
pub fn take(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("that many bytes");
    bytes
}

impl Answer {
    /// One HTTP response with its content, from a stream that goes on.
    pub fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(take(stream, 1));
        }
        let mut answer = Self::parse(&head);
        if let Some(length) = answer.field("content-length") {
            answer.body = take(stream, length.parse().expect("a number"));
        }
        answer
    }

    /// Takes a response apart.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| {
            panic!(
                "no head in {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            )
        });
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head in ASCII");
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Self {
            status,
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Bytes that are different everywhere, the same every time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Waits until a change of a file is certain to get a new time stamp: file systems may use a clock
/// that ticks every few milliseconds.
pub fn wait_for_tick(path: &Path) {
    let changed = |path: &Path| {
        let meta = fs::metadata(path).expect("it is there");
        (meta.ctime(), meta.ctime_nsec())
    };
    let before = changed(path);
    let beside = tempfile::NamedTempFile::new_in(path.parent().expect("in a directory"));
    let beside = beside.expect("a file");
    let begun = Instant::now();
    while changed(beside.path()) <= before {
        assert!(begun.elapsed() < PATIENCE, "the file system's clock stands");
        std::thread::sleep(Duration::from_millis(1));
        beside.as_file().set_len(1).expect("the file is written");
        beside.as_file().set_len(0).expect("the file is written");
    }
}

/// An address of this host for one test, on a free port: a closed port is soon bound again, and a
/// test that connects to a closed server must not reach another one.
pub fn own_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, _, _, number] = TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 64 | high >> 2, low, number.clamp(1, 254)], 0))
}
