//! The verification of servers' certificates, with the reasons of rejections in words.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::explain::{self, Rejection};
use super::options::Verification;
use crate::tls::pin::Pin;
use crate::tls::provider::provider;

/// The authorities that certificates have to come from.
#[derive(Debug)]
pub(super) struct Roots {
    store: RootCertStore,
    /// The certificates as given: a server's own may be among them.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// An empty list: certificates are not verified by their issuer.
    pub(super) fn none() -> Self {
        Self::given(&[])
    }

    pub(super) fn given(certificates: &[CertificateDer<'static>]) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self {
            store,
            given: certificates.to_vec(),
        }
    }

    /// The issuers of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub(super) fn of_the_system() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let roots = Self::given(&found.certs);
        if !roots.store.is_empty() {
            return Ok(roots);
        }
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        Err(format!(
            "this system has no certificates of authorities to know https servers by{why}: install \
             ca-certificates, or give --cacert FILE"
        ))
    }
}

/// The verifier of servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Roots,
    pins: Vec<Pin>,
    verification: Verification,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(roots: Roots, pins: Vec<Pin>, verification: Verification) -> Self {
        Self {
            roots,
            pins,
            verification,
            algorithms: provider().signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots.store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match signed {
            // webpki checks this mark after the dates and before the issuer, so the dates hold.
            Err(error) if explain::is_authority(&error) && self.is_given(certificate) => {}
            signed => signed?,
        }
        verify_server_name(&parsed, name)
    }

    fn is_given(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.given.iter().any(|given| given == certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verification == Verification::Off {
            return Ok(ServerCertVerified::assertion());
        }
        let pin = Pin::of(certificate);
        let text = if self.pins.is_empty() {
            match self.verify(certificate, intermediates, name, now) {
                Ok(()) => return Ok(ServerCertVerified::assertion()),
                Err(error) => explain::certificate(&error, certificate, name, pin),
            }
        } else {
            match pin {
                Some(pin) if self.pins.contains(&pin) => {
                    return Ok(ServerCertVerified::assertion());
                }
                Some(pin) => explain::other_key(name, pin),
                None => explain::certificate(
                    &CertificateError::BadEncoding.into(),
                    certificate,
                    name,
                    pin,
                ),
            }
        };
        let rejection = OtherError(Arc::new(Rejection(text)));
        Err(CertificateError::Other(rejection).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
