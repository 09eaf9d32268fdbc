//! The settings of a server's sessions: certificates by name, tickets, and the issuers of clients'
//! certificates. They can be loaded anew while sessions go on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm};

use crate::sys::kernel_tls::KernelTls;
use crate::tls::chain_report::ChainReport;
use crate::tls::identity::{self, IdentityError};
use crate::tls::pin::Pin;
use crate::tls::provider::{provider, ticketer};
use crate::tls::session::{Error, Session};

/// A server's certificates, and those that it asks clients for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate chains and their keys. A client that names no host, or one that is in none of
    /// them, gets the first.
    pub identities: Vec<IdentityFiles>,
    /// A key of the server's own.
    pub own: Option<OwnIdentity>,
    /// The issuers of clients' certificates; `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have one.
    pub client_auth: ClientAuth,
}

/// A certificate chain and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, the server's certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The place of a server's own key, and the names in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIdentity {
    /// The directory; `None` if there is none, which the operator is told as an error.
    pub directory: Option<PathBuf>,
    /// Host names and addresses.
    pub names: Vec<String>,
}

/// Whether clients need a certificate, where they are asked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// A handshake without a certificate fails.
    #[default]
    Require,
    /// A certificate may be missing, but not invalid.
    Allow,
}

/// The current settings of sessions.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: TlsConfig,
    /// Kernel TLS, if sessions may be handed to it.
    kernel: Option<KernelTls>,
    current: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    sessions: Arc<ServerConfig>,
    /// Whether a key is RSA, which takes about a millisecond to sign.
    is_slow: bool,
    /// The pins of all keys.
    pins: Vec<Pin>,
    chains: Vec<ChainReport>,
}

impl ServerTls {
    /// Loads what `config` names. Sessions can be handed to a `kernel` that takes any.
    ///
    /// # Errors
    /// [`IdentityError`] says which file, and what is wrong.
    pub(crate) fn new(config: TlsConfig, kernel: Option<KernelTls>) -> Result<Self, IdentityError> {
        let current = RwLock::new(load(&config, kernel.is_some())?);
        Ok(Self {
            config,
            kernel,
            current,
        })
    }

    /// Loads all anew, for sessions that begin from now on. A fault leaves the old settings in
    /// place.
    ///
    /// # Errors
    /// [`IdentityError`] says which file, and what is wrong.
    pub(crate) fn reload(&self) -> Result<(), IdentityError> {
        let loaded = load(&self.config, self.kernel.is_some())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// A new session.
    ///
    /// # Errors
    /// rustls finds the configuration incomplete, which no setting is known to cause.
    pub(crate) fn session(&self) -> Result<Session, Error> {
        let sessions = Arc::clone(&self.current().sessions);
        Session::server(sessions)
    }

    /// Kernel TLS, if sessions may be handed to it.
    pub(crate) fn kernel(&self) -> Option<KernelTls> {
        self.kernel
    }

    /// Whether a handshake may take about a millisecond, for a signature with RSA.
    pub(crate) fn is_slow(&self) -> bool {
        self.current().is_slow
    }

    /// The pins of all keys, the first one's first.
    pub(crate) fn pins(&self) -> Vec<Pin> {
        self.current().pins.clone()
    }

    /// Faults of the certificates that clients find, one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (current, now) = (self.current(), SystemTime::now());
        let warnings = current.chains.iter().flat_map(|it| it.warnings(now));
        warnings.collect()
    }

    /// The files of the certificates, and when the first one of each chain expires, since 1970.
    pub(crate) fn expiries(&self) -> BTreeMap<PathBuf, Duration> {
        let current = self.current();
        let expiries = current
            .chains
            .iter()
            .filter_map(|it| Some((it.file().clone(), it.not_after()?)));
        expiries.collect()
    }

    fn current(&self) -> RwLockReadGuard<'_, Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsConfig {
    /// The file of the server's own key, which may still have to be made.
    pub(crate) fn own_key(&self) -> Option<PathBuf> {
        let directory = self.own.as_ref()?.directory.as_deref()?;
        Some(identity::own_key_in(directory))
    }

    /// The directories whose files are read again by a reload. A renewed certificate may lie
    /// elsewhere than the link that names it (certbot's `archive` beside `live`).
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let files = self
            .identities
            .iter()
            .flat_map(|identity| [&identity.certificate, &identity.key])
            .chain(&self.client_ca);
        let places = files.flat_map(|file| [Some(file.clone()), file.canonicalize().ok()]);
        let own = self.own.iter().filter_map(|own| own.directory.clone());
        places
            .flatten()
            .filter_map(|file| Some(file.parent()?.to_owned()))
            .map(|parent| match parent.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => parent,
            })
            .chain(own)
            .collect()
    }
}

fn load(config: &TlsConfig, gives_keys: bool) -> Result<Loaded, IdentityError> {
    let mut keys = Vec::new();
    for files in &config.identities {
        let key = identity::load(&files.certificate, &files.key)?;
        keys.push((files.certificate.clone(), key));
    }
    if let Some(own) = &config.own {
        let directory = own.directory.as_ref().ok_or(IdentityError::NoDirectory)?;
        let key = identity::own(directory, own.names.clone())?;
        keys.push((directory.clone(), key));
    }
    let is_slow = |(_, key): &(_, CertifiedKey)| key.key.algorithm() == SignatureAlgorithm::RSA;
    let pin = |(_, key): &(_, CertifiedKey)| Pin::of(key.end_entity_cert().ok()?);
    let chain = |(file, key): &(PathBuf, CertifiedKey)| ChainReport::of(file.clone(), &key.cert);
    let (is_slow, pins, chains) = (
        keys.iter().any(is_slow),
        keys.iter().filter_map(pin).collect(),
        keys.iter().map(chain).collect(),
    );
    let mut sessions = sessions(config, Certificates::new(keys)?)?;
    sessions.enable_secret_extraction = gives_keys;
    Ok(Loaded {
        is_slow,
        pins,
        chains,
        sessions: Arc::new(sessions),
    })
}

fn sessions(config: &TlsConfig, keys: Certificates) -> Result<ServerConfig, IdentityError> {
    let unusable = |error: &dyn fmt::Display| {
        let file = config.client_ca.clone().unwrap_or_default();
        IdentityError::Unusable(file, error.to_string())
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in identity::certificates(file)? {
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
            let verifier = match config.client_auth {
                ClientAuth::Require => verifier,
                ClientAuth::Allow => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
        }
    };
    let mut sessions = builder.with_cert_resolver(Arc::new(keys));
    sessions.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // New ticket keys end the resumption of sessions that began under the old certificates.
    sessions.ticketer = ticketer().map_err(|error| unusable(&error))?;
    Ok(sessions)
}

/// The server's keys, by the names in their certificates.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// In lower case; a wildcard begins with `*.`.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    fn new(keys: Vec<(PathBuf, CertifiedKey)>) -> Result<Self, IdentityError> {
        let mut certificates = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
        };
        for (file, key) in keys {
            let unusable = |why: String| IdentityError::Unusable(file.clone(), why);
            let key = Arc::new(key);
            let end_entity = key.end_entity_cert().map_err(|e| unusable(e.to_string()))?;
            let parsed = webpki::EndEntityCert::try_from(end_entity)
                .map_err(|error| unusable(error.to_string()))?;
            for name in parsed.valid_dns_names() {
                let named = certificates.by_name.entry(name.to_ascii_lowercase());
                named.or_default().push(Arc::clone(&key));
            }
            certificates.all.push(key);
        }
        Ok(certificates)
    }

    /// The keys for a host: by its name, or by a wildcard for its first label.
    fn of(&self, host: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let host = host.to_ascii_lowercase();
        self.by_name.get(&host).or_else(|| {
            let (_, domain) = host.split_once('.')?;
            self.by_name.get(&format!("*.{domain}"))
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.of(host));
        let fits = |key: &&Arc<CertifiedKey>| {
            let schemes = hello.signature_schemes();
            key.key.choose_scheme(schemes).is_some()
        };
        let candidates = named.unwrap_or(&self.all);
        // Without any key the library would deny access; with one it says that nothing fits.
        let chosen = candidates.iter().find(fits).or_else(|| candidates.first());
        chosen.cloned()
    }
}
