//! A client's side: verification of servers, the client's own certificate, and the sessions
//! made of both.

mod channel;
mod explain;
mod options;
mod verify;

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

pub(crate) use channel::{Channel, Scratch};
pub(crate) use explain::{Failure, Kind};
pub use options::{ClientTls, Verification};

use super::provider::provider;
use super::session::Session;
use explain::explain;
use verify::{Roots, Verifier};

/// Makes sessions. Sessions of one connector with the same identity resume each other.
#[derive(Debug)]
pub(crate) struct Connector {
    options: ClientTls,
    with_identity: LazyConfig,
    without_identity: LazyConfig,
}

/// Made when it is first needed: the system's authorities take milliseconds to read.
type LazyConfig = OnceLock<Result<Arc<ClientConfig>, String>>;

/// Whether a server that asks for it gets the client's own certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Presented,
    Withheld,
}

impl Connector {
    pub(crate) fn new(options: ClientTls) -> Self {
        Self {
            options,
            with_identity: OnceLock::new(),
            without_identity: OnceLock::new(),
        }
    }

    /// A session with `host`, a name or an address, before its first flight has left.
    ///
    /// # Errors
    /// The system has no authorities, or `host` cannot be in a certificate.
    pub(crate) fn begin(&self, host: &str, identity: Identity) -> Result<Session, Failure> {
        let made = match (&self.options.identity, identity) {
            // Two configurations, since a resumed session is still the client's.
            (Some(_), Identity::Presented) => &self.with_identity,
            _ => &self.without_identity,
        };
        let made = made.get_or_init(|| configure(&self.options, identity));
        let config = made.as_ref().map_err(|text| Failure {
            kind: Kind::Untrusted,
            text: text.clone(),
        })?;
        let bare = host.trim_matches(['[', ']']).trim_end_matches('.');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Failure {
            kind: Kind::Permanent,
            text: format!("{host} is no name that a certificate can have"),
        })?;
        Session::client(Arc::clone(config), name).map_err(|error| explain(&error, &[]))
    }
}

fn configure(options: &ClientTls, identity: Identity) -> Result<Arc<ClientConfig>, String> {
    let roots = match (&options.authorities, options.verification) {
        (_, Verification::Off) => Roots::none(),
        _ if !options.pins.is_empty() => Roots::none(),
        (Some(authorities), _) => Roots::given(authorities),
        (None, _) => Roots::of_the_system()?,
    };
    let verifier = Verifier::new(roots, options.pins.clone(), options.verification);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&options.identity, identity) {
        (Some(own), Identity::Presented) => {
            let own = SingleCertAndKey::from(Arc::clone(own));
            config.with_client_cert_resolver(Arc::new(own) as Arc<dyn ResolvesClientCert>)
        }
        _ => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
