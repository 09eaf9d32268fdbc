//! TLS in front of any server of the tests: certificates of every kind, and connections that end
//! in every way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Leaf {
    pub certificate: CertificateDer<'static>,
    key: KeyPair,
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for `names`, otherwise as `change` has it.
    pub fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = params("leaf", names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let certificate = certificate.der().clone();
        Leaf { certificate, key }
    }

    pub fn write(&self, path: &Path) {
        write_pem(path, "CERTIFICATE", self.certificate());
    }

    fn certificate(&self) -> &CertificateDer<'static> {
        self.0.as_ref().der()
    }
}

impl Leaf {
    pub fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params("own", names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key }
    }

    /// The digest of the public key, in base64.
    pub fn pin(&self) -> String {
        STANDARD.encode(self.digest())
    }

    /// The same in hexadecimal digits.
    pub fn hex_pin(&self) -> String {
        let bytes = self.digest().into_iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.key.subject_public_key_info()).to_vec()
    }

    pub fn write(&self, certificate: &Path, key: &Path) {
        write_pem(certificate, "CERTIFICATE", &self.certificate);
        std::fs::write(key, self.key.serialize_pem()).unwrap();
    }

    /// A server's configuration with this certificate.
    pub fn config(&self) -> ServerConfig {
        self.config_of(None, rustls::ALL_VERSIONS)
    }

    /// The same, which requires client certificates from `clients`.
    pub fn config_of(
        &self,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        builder
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap()
    }
}

fn write_pem(path: &Path, label: &str, der: &[u8]) {
    let text = STANDARD.encode(der);
    std::fs::write(
        path,
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"),
    )
    .unwrap();
}

/// How a front ends a connection whose server has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should be.
    CloseNotify,
    /// Without a word.
    Cut,
    /// Without a word, once so many bytes of ciphertext were sent.
    CutAfter(usize),
}

/// Takes TLS connections and passes what is in them on to a plain server.
pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    config: Arc<ServerConfig>,
    server: SocketAddr,
    ending: Ending,
    stopping: AtomicBool,
    handshakes: Mutex<Vec<HandshakeKind>>,
    names: Mutex<Vec<Option<String>>>,
    /// Bytes of ciphertext that go to the last client.
    sent: Mutex<usize>,
}

impl Front {
    pub fn start(server: SocketAddr, config: ServerConfig, ending: Ending) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            server,
            ending,
            stopping: AtomicBool::new(false),
            handshakes: Mutex::default(),
            names: Mutex::default(),
            sent: Mutex::default(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut busy = Vec::new();
                for stream in listener.incoming() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else {
                        continue;
                    };
                    // A client that goes away ends its connection, and nothing else.
                    busy.push(thread::spawn(move || drop(shared.pass(stream))));
                }
                for thread in busy {
                    let _ = thread.join();
                }
            }
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The kinds of all handshakes that were completed.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        self.shared.handshakes.lock().unwrap().clone()
    }

    /// The names in clients' SNI.
    pub fn names(&self) -> Vec<Option<String>> {
        self.shared.names.lock().unwrap().clone()
    }

    /// Bytes of ciphertext that went to the last client.
    pub fn last_sent(&self) -> usize {
        *self.shared.sent.lock().unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let mut session = ServerConnection::new(Arc::clone(&self.config)).map_err(other)?;
        let mut server = TcpStream::connect(self.server)?;
        client.set_write_timeout(Some(Duration::from_secs(60)))?;
        let (mut sent, mut shaken) = (0, false);
        let mut buffer = vec![0; 64 << 10];
        while !self.stopping.load(Ordering::SeqCst) {
            let [from_client, from_server] = ready(&client, &server)?;
            if from_client {
                if session.read_tls(&mut client)? == 0 {
                    return Ok(());
                }
                let processed = session.process_new_packets();
                self.flush(&mut session, &mut client, &mut sent)?;
                let state = processed.map_err(other)?;
                if !shaken && !session.is_handshaking() {
                    shaken = true;
                    let kind = session.handshake_kind().unwrap();
                    self.handshakes.lock().unwrap().push(kind);
                    let name = session.server_name().map(str::to_owned);
                    self.names.lock().unwrap().push(name);
                }
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                session.reader().read_exact(&mut plain)?;
                server.write_all(&plain)?;
                if state.peer_has_closed() {
                    let _ = server.shutdown(Shutdown::Write);
                }
            }
            if from_server {
                match server.read(&mut buffer) {
                    Ok(0) => return self.end(&mut session, client, &mut sent),
                    Ok(count) => session.writer().write_all(&buffer[..count])?,
                    Err(error) => {
                        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
                        return Err(error);
                    }
                }
                self.flush(&mut session, &mut client, &mut sent)?;
            }
        }
        Ok(())
    }

    fn flush(
        &self,
        session: &mut ServerConnection,
        client: &mut TcpStream,
        sent: &mut usize,
    ) -> io::Result<()> {
        let mut sealed = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut sealed)?;
        }
        if let Ending::CutAfter(limit) = self.ending {
            sealed.truncate(limit.saturating_sub(*sent));
        }
        *sent += sealed.len();
        // Before the client can see it.
        *self.sent.lock().unwrap() = *sent;
        client.write_all(&sealed)
    }

    fn end(
        &self,
        session: &mut ServerConnection,
        mut client: TcpStream,
        sent: &mut usize,
    ) -> io::Result<()> {
        if self.ending != Ending::Cut {
            session.send_close_notify();
            self.flush(session, &mut client, sent)?;
        }
        client.shutdown(Shutdown::Write)?;
        // What the client still says must not turn the close into a reset.
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut rest = [0; 4096];
        while !self.stopping.load(Ordering::SeqCst) {
            match client.read(&mut rest) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Which of the two has something to read, after 50 ms at most.
fn ready(client: &TcpStream, server: &TcpStream) -> io::Result<[bool; 2]> {
    let mut polled = [client, server].map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
    poll(&mut polled, PollTimeout::from(50_u8))?;
    Ok(polled.map(|it| it.any().unwrap_or(true)))
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
