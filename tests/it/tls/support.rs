//! A certificate authority of the tests, and a client over TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use haul::server::config::{IdentityFiles, ServeConfig, TlsConfig};

use crate::support::{self, Answer, Client, PATIENCE, TestServer, own_address};

/// An authority, and the directory with what it signed.
pub struct Authority {
    pub directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "the tests' authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("signed");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { directory, issuer }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for these hosts; the files are `NAME.pem` and `NAME.key`.
    pub fn sign(&self, name: &str, hosts: &[&str], key: &KeyPair) -> IdentityFiles {
        self.sign_with(name, hosts, key, |_| {})
    }

    /// The same, with parameters that `adjust` has changed.
    pub fn sign_with(
        &self,
        name: &str,
        hosts: &[&str],
        key: &KeyPair,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> IdentityFiles {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("parameters");
        let names = &mut parameters.distinguished_name;
        names.push(DnType::CommonName, name);
        adjust(&mut parameters);
        let signed = parameters.signed_by(key, &self.issuer).expect("signed");
        let files = IdentityFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        std::fs::write(&files.certificate, signed.pem()).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    pub fn identity(&self, name: &str, hosts: &[&str]) -> IdentityFiles {
        self.sign(name, hosts, &KeyPair::generate().expect("a key"))
    }

    pub fn identity_of(
        &self,
        name: &str,
        hosts: &[&str],
        algorithm: &'static SignatureAlgorithm,
    ) -> IdentityFiles {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        self.sign(name, hosts, &key)
    }

    /// A client's settings that trust this authority.
    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, None)
    }

    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&IdentityFiles>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("ca.pem")).expect("the authority");
        roots.add(ca).expect("a root");
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = vec![CertificateDer::from_pem_file(&files.certificate).expect("PEM")];
                let key = PrivateKeyDer::from_pem_file(&files.key).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        }
    }
}

/// A server with a certificate for `localhost`, and its issuer.
pub struct TlsServer {
    pub server: TestServer,
    pub authority: Authority,
}

impl TlsServer {
    pub fn start() -> Self {
        Self::with(|_, _| {})
    }

    pub fn with(adjust: impl FnOnce(&mut ServeConfig, &Authority)) -> Self {
        let authority = Authority::new();
        let server = TestServer::with(|config| {
            config.listen_tls = vec![own_address()];
            config.tls = TlsConfig {
                identities: vec![authority.identity("localhost", &["localhost", "127.0.0.1"])],
                ..TlsConfig::default()
            };
            adjust(config, &authority);
        });
        Self { server, authority }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.tls_address()
    }

    /// A socket that has said nothing so far.
    pub fn socket(&self) -> TcpStream {
        Client::connect(self.address()).into_socket()
    }

    pub fn connect(&self) -> TlsClient {
        self.connect_as(self.authority.client())
    }

    pub fn connect_as(&self, config: ClientConfig) -> TlsClient {
        TlsClient::over(self.socket(), Arc::new(config), "localhost")
    }

    /// Fetches on a new connection.
    pub fn get(&self, target: &str, fields: &str) -> Answer {
        let mut client = self.connect();
        client.request(target, &format!("Connection: close\r\n{fields}"));
        Answer::parse(&client.rest().expect("a whole answer"))
    }
}

/// A client's settings with one suite of one version alone, by the end of its name.
pub fn client_with(tls: &TlsServer, suite: &str) -> ClientConfig {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .retain(|known| format!("{:?}", known.suite()) == suite);
    assert_eq!(provider.cipher_suites.len(), 1, "{suite}");
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(tls.authority.path("ca.pem")).expect("the authority");
    roots.add(ca).expect("a root");
    let version = match suite.starts_with("TLS13") {
        true => &rustls::version::TLS13,
        false => &rustls::version::TLS12,
    };
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client of raw bytes over TLS.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    pub fn over(socket: TcpStream, config: Arc<ClientConfig>, host: &str) -> Self {
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let session = ClientConnection::new(config, name).expect("a session");
        Self {
            stream: StreamOwned::new(session, socket),
        }
    }

    /// Finishes the handshake.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let stream = &mut self.stream;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("taken");
        self.stream.flush().expect("taken");
    }

    pub fn request(&mut self, target: &str, fields: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
    }

    /// All that comes until `close_notify`; an error without one.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let (bytes, end) = self.try_rest();
        end.map(|()| bytes)
    }

    /// All that comes, and how it ends.
    pub fn try_rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let end = self.stream.read_to_end(&mut bytes).map(|_| ());
        (bytes, end)
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        support::take(&mut self.stream, len)
    }

    /// One response with its content, on a connection that goes on.
    pub fn answer(&mut self) -> Answer {
        Answer::read(&mut self.stream)
    }

    /// Says `close_notify`, and nothing after it.
    pub fn close(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().expect("taken");
    }
}

/// Runs a program and returns its output; fails unless it succeeds within the tests' time-out.
#[track_caller]
pub fn run(command: &mut std::process::Command, input: &[u8]) -> (bool, Vec<u8>, String) {
    use std::process::Stdio;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input).map(|()| stdin));
    let mut stderr = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut output = Vec::new();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_to_end(&mut output).expect("read");
    let begun = std::time::Instant::now();
    let status = loop {
        match child.try_wait().expect("waited for") {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                let _ = child.kill();
                panic!("the program does not end");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let _ = feeder.join();
    (status.success(), output, errors.join().expect("read"))
}

/// Whether a program is installed; a test without it says so.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| Path::join(&directory, program).is_file())
    });
    if !found {
        eprintln!("skipped: there is no {program}");
    }
    found
}
