//! The user's settings of TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::tls::pin::Pin;
use crate::tls::provider::provider;

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
        identity: Option<(&Path, &Path)>,
        verification: Verification,
    ) -> Result<Self, String> {
        Ok(Self {
            authorities: authorities.map(certificates).transpose()?,
            pins,
            identity: identity.map(read_identity).transpose()?.map(Arc::new),
            verification,
        })
    }

    /// Whether servers' certificates are verified.
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match found {
        Ok(certificates) if certificates.is_empty() => Err(format!(
            "{} has no certificate: a PEM file with BEGIN CERTIFICATE is needed",
            path.display()
        )),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn read_identity((chain, key): (&Path, &Path)) -> Result<CertifiedKey, String> {
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("cannot read a private key from {}: {error}", key.display()))?;
    CertifiedKey::from_der(certificates, private, &provider()).map_err(|error| {
        let (chain, key) = (chain.display(), key.display());
        format!("the certificate in {chain} and the key in {key} do not go together: {error}")
    })
}
