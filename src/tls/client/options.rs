//! The user's settings of TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::tls::identity;
use crate::tls::pin::Pin;

/// The authorities and pins that servers are verified by, and the client's own certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// Authorities in the place of the system's.
    pub(super) authorities: Option<Vec<CertificateDer<'static>>>,
    pub(super) pins: Vec<Pin>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) verification: Verification,
}

/// Whether servers' certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Servers' certificates are verified.
    #[default]
    On,
    /// Any certificate is accepted (`--insecure`).
    Off,
}

impl ClientTls {
    /// Reads PEM files: authorities in the place of the system's, and a certificate chain with its
    /// private key, for servers that ask for one. With `pins`, a server's key has to be one of
    /// them, and its certificate is not verified otherwise.
    ///
    /// # Errors
    /// The file with a fault, and the fault.
    pub fn new(
        authorities: Option<&Path>,
        pins: Vec<Pin>,
        chain_and_key: Option<(&Path, &Path)>,
        verification: Verification,
    ) -> Result<Self, String> {
        Ok(Self {
            authorities: authorities
                .map(identity::certificates)
                .transpose()
                .map_err(|error| error.to_string())?,
            pins,
            identity: chain_and_key
                .map(|(chain, key)| identity::load(chain, key))
                .transpose()
                .map_err(|error| error.to_string())?
                .map(Arc::new),
            verification,
        })
    }

    /// Whether servers' certificates are verified.
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }
}
