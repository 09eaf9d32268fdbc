//! The transport of HTTP and names in tests: TCP, or TLS over it.
//!
//! The suite runs once more with `HAUL_TEST_TLS=1.3`, or `1.2`: plain listeners become TLS
//! listeners then, and clients connect by TLS.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use haul::server::config::IdentityFiles;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Whether servers and clients of the tests use TLS.
pub fn is_tls() -> bool {
    std::env::var_os("HAUL_TEST_TLS").is_some()
}

/// The URL scheme of the suite's transport.
pub fn scheme() -> &'static str {
    if is_tls() { "https" } else { "http" }
}

/// Whether this test is left out because the suite runs over TLS; says so, and why.
pub fn leaves_out(why: &str) -> bool {
    if is_tls() {
        eprintln!("left out over TLS: {why}");
    }
    is_tls()
}

/// The certificate of all servers, and the client configuration that trusts it.
struct Trust {
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
}

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).expect("a certificate");
    let versions = match std::env::var("HAUL_TEST_TLS").as_deref() {
        Ok("1.2") => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A server's tickets are of no use to the next test's.
    client.resumption = rustls::client::Resumption::disabled();
    Trust {
        certificate: own.cert.pem(),
        key: own.signing_key.serialize_pem(),
        client: Arc::new(client),
    }
});

const NAME: &str = "localhost";

/// The files of the servers' certificate, for as long as the directory is kept.
pub fn identity() -> (tempfile::TempDir, IdentityFiles) {
    let directory = tempfile::tempdir().expect("a directory");
    let [certificate, key] = ["certificate", "key"].map(|name| directory.path().join(name));
    std::fs::write(&certificate, &TRUST.certificate).expect("written");
    std::fs::write(&key, &TRUST.key).expect("written");
    (directory, IdentityFiles { certificate, key })
}

/// Test servers that use TLS in place of plain text.
static SPEAKS_TLS: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());

/// Makes clients of the server at this address use TLS, or plain text.
pub fn note_server(address: SocketAddr, speaks_tls: bool) {
    let mut all = locked(&SPEAKS_TLS);
    match speaks_tls {
        true => all.insert(address),
        false => all.remove(&address),
    };
}

/// A connection to a server, with TLS or without. Its clones are one connection.
pub struct Stream {
    socket: TcpStream,
    tls: Option<Arc<Tls>>,
}

struct Tls {
    session: Mutex<Session>,
    /// Held for the handshake: of two threads that wait for the same flight one would wait for ever.
    handshake: Mutex<()>,
    /// Held while records are sealed and sent, which keeps their order.
    sending: Mutex<()>,
}

struct Session {
    connection: ClientConnection,
    /// Ciphertext that came, and how much of it was opened.
    received: Vec<u8>,
    opened: usize,
    has_ended: bool,
}

impl Stream {
    /// A transport over this socket, as its server expects. The handshake happens at the first use.
    pub fn over(socket: TcpStream) -> Self {
        let peer = socket.peer_addr();
        let speaks_tls = peer.is_ok_and(|peer| locked(&SPEAKS_TLS).contains(&peer));
        let tls = speaks_tls.then(|| {
            let name = ServerName::try_from(NAME).expect("a name");
            let connection = ClientConnection::new(Arc::clone(&TRUST.client), name);
            let mut connection = connection.expect("a session");
            connection.set_buffer_limit(None);
            Arc::new(Tls {
                session: Mutex::new(Session {
                    connection,
                    received: Vec::new(),
                    opened: 0,
                    has_ended: false,
                }),
                handshake: Mutex::new(()),
                sending: Mutex::new(()),
            })
        });
        Self { socket, tls }
    }

    /// The socket underneath.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The socket alone.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Another handle of the connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            tls: self.tls.clone(),
        })
    }

    /// Ends a direction, or both; over TLS our own one in order.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let (Some(tls), Shutdown::Write) = (&self.tls, how)
            && !locked(&tls.session).connection.is_handshaking()
        {
            tls.send(&self.socket, |connection| {
                connection.send_close_notify();
                Ok(())
            })?;
        }
        self.socket.shutdown(how)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            Some(tls) => tls.read(&self.socket, buffer),
            None => self.socket.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.socket.write(bytes);
        };
        tls.shake_hands(&self.socket)?;
        tls.send(&self.socket, |connection| connection.writer().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// Plaintext that has come, or comes; none behind `close_notify`. A cut is an error.
    fn read(&self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        self.shake_hands(socket)?;
        loop {
            let read = locked(&self.session).connection.reader().read(buffer);
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.receive(socket)?,
                done => return done,
            }
        }
    }

    fn shake_hands(&self, socket: &TcpStream) -> io::Result<()> {
        if !locked(&self.session).connection.is_handshaking() {
            return Ok(());
        }
        let _alone = locked(&self.handshake);
        while locked(&self.session).is_beginning() {
            self.receive(socket)?;
        }
        self.send(socket, |_| Ok(()))
    }

    /// Opens some of what has come, or waits for more.
    fn receive(&self, socket: &TcpStream) -> io::Result<()> {
        if locked(&self.session).connection.wants_write() {
            self.send(socket, |_| Ok(()))?;
        }
        if locked(&self.session).is_used_up() {
            let mut received = vec![0; 16 << 10];
            let count = (&*socket).read(&mut received)?;
            received.truncate(count);
            let mut session = locked(&self.session);
            (session.received, session.opened) = (received, 0);
            session.has_ended = count == 0;
        }
        let opened = locked(&self.session).open();
        if opened.is_err() {
            // The alert.
            let _ = self.send(socket, |_| Ok(()));
        }
        opened
    }

    /// Sends what `change` has the session say.
    fn send<T>(
        &self,
        socket: &TcpStream,
        change: impl FnOnce(&mut ClientConnection) -> io::Result<T>,
    ) -> io::Result<T> {
        let _in_order = locked(&self.sending);
        let mut sealed = Vec::new();
        let done = {
            let connection = &mut locked(&self.session).connection;
            let done = change(connection)?;
            while connection.wants_write() {
                connection.write_tls(&mut sealed)?;
            }
            done
        };
        // Reads must be able to continue meanwhile.
        (&*socket).write_all(&sealed)?;
        Ok(done)
    }
}

impl Session {
    /// Whether the handshake is under way, and may yet come to an end.
    fn is_beginning(&self) -> bool {
        self.connection.is_handshaking() && !self.has_ended
    }

    fn is_used_up(&self) -> bool {
        self.opened == self.received.len()
    }

    /// Opens some of what came; that nothing came is the stream's end.
    fn open(&mut self) -> io::Result<()> {
        let mut rest = &self.received[self.opened..];
        self.opened += self.connection.read_tls(&mut rest)?;
        let processed = self.connection.process_new_packets();
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
