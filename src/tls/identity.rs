//! Certificates and keys: from files, or self-signed.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use memchr::memmem;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::der::Decode;

use crate::sys::file::{check_directory, make_directory, read_bounded, read_trusted};
use crate::tls::provider::provider;

/// A fault of a certificate or key, for the operator.
#[derive(Debug)]
pub enum IdentityError {
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// A file is not in PEM.
    Pem(PathBuf, pem::Error),
    /// A file holds no certificate.
    NoCertificate(PathBuf),
    /// A file holds no private key.
    NoKey(PathBuf),
    /// A private key is encrypted.
    Encrypted(PathBuf),
    /// The key in the second file is not that of the certificate in the first.
    Mismatch(PathBuf, PathBuf),
    /// A certificate or key is of a kind that cannot be used.
    Unusable(PathBuf, String),
    /// There is no directory for the server's own key.
    NoDirectory,
    /// The server's own key cannot be made, kept or trusted.
    Own(PathBuf, String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(formatter, "cannot read {}: {error}", path.display()),
            Self::Pem(path, error) => {
                let why = words(error);
                write!(formatter, "{} is not in PEM: {why}", path.display())
            }
            Self::NoCertificate(path) => write!(
                formatter,
                "{} holds no certificate (-----BEGIN CERTIFICATE-----)",
                path.display()
            ),
            Self::NoKey(path) => write!(
                formatter,
                "{} holds no private key (-----BEGIN PRIVATE KEY-----)",
                path.display()
            ),
            Self::Encrypted(path) => write!(
                formatter,
                "the private key in {} has a passphrase: openssl pkey -in FILE -out FILE2 makes \
                 one without",
                path.display()
            ),
            Self::Mismatch(certificate, key) => write!(
                formatter,
                "the key in {} is not that of the first certificate in {}",
                key.display(),
                certificate.display()
            ),
            Self::Unusable(path, why) => {
                write!(formatter, "{} cannot be used: {why}", path.display())
            }
            Self::NoDirectory => formatter
                .write_str("there is no directory for the server's own key; name one with --state"),
            Self::Own(path, why) => write!(
                formatter,
                "cannot have the server's own key in {}: {why}; see --state",
                path.display()
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

/// Reads a chain, the end entity first, and its key.
///
/// # Errors
/// [`IdentityError`] names the file.
pub(crate) fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, IdentityError> {
    let chain = certificates(certificate)?;
    let pem = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        _ if memmem::find(&pem, b"ENCRYPTED").is_some() => IdentityError::Encrypted(key.to_owned()),
        pem::Error::NoItemsFound => IdentityError::NoKey(key.to_owned()),
        error => IdentityError::Pem(key.to_owned(), error),
    })?;
    let private = provider().key_provider.load_private_key(private);
    let private =
        private.map_err(|_| IdentityError::Unusable(key.to_owned(), KINDS_OF_KEYS.to_owned()))?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch(
            certificate.to_owned(),
            key.to_owned(),
        )),
        Err(error) => Err(IdentityError::Unusable(
            certificate.to_owned(),
            error.to_string(),
        )),
    }
}

/// The fault of a file; the library shows some bytes of it as numbers.
fn words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends within a section".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a section's first line has no end (-----BEGIN …-----)".to_owned()
        }
        pem::Error::Base64Decode(_) => "a section holds what is no base64".to_owned(),
        error => error.to_string(),
    }
}

/// All certificates in a file.
///
/// # Errors
/// [`IdentityError`] names the file; none at all is an error.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::Pem(path.to_owned(), error))?;
    match found.is_empty() {
        true => Err(IdentityError::NoCertificate(path.to_owned())),
        false => Ok(found),
    }
}

/// A self-signed certificate, for a key that is kept in `directory`. The certificate is new each
/// time; its pin stays, since it is the key's.
///
/// # Errors
/// The key cannot be made, kept or read.
pub(crate) fn own(directory: &Path, names: Vec<String>) -> Result<CertifiedKey, IdentityError> {
    let path = own_key_in(directory);
    let failed = |why: String| IdentityError::Own(path.clone(), why);
    let key = match find_own(directory)? {
        Some(key) => key,
        None => make_key(&path).map_err(failed)?,
    };
    let certificate = sign(&key, names).map_err(|error| failed(error.to_string()))?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    CertifiedKey::from_der(vec![certificate], private.into(), &provider())
        .map_err(|error| failed(error.to_string()))
}

/// The server's own key, if it was made before.
///
/// # Errors
/// It is no key, or another user may have put it there, or could replace it.
pub(crate) fn find_own(directory: &Path) -> Result<Option<KeyPair>, IdentityError> {
    let path = own_key_in(directory);
    let is_there = |found: io::Result<_>| match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    let found = is_there(check_directory(directory).and_then(|()| read_own(&path)));
    let failed = |why: String| IdentityError::Own(path.clone(), why);
    let pem = found.map_err(|error| failed(error.to_string()))?;
    let key = pem.map(|pem| KeyPair::from_pem(&pem)).transpose();
    key.map_err(|error| failed(error.to_string()))
}

fn read_own(path: &Path) -> io::Result<String> {
    read_trusted(path, MAX_OWN_KEY_BYTES)
}

/// The file in `directory` that holds the server's own key.
pub(super) fn own_key_in(directory: &Path) -> PathBuf {
    directory.join(OWN_KEY)
}

fn sign(key: &KeyPair, names: Vec<String>) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "haul");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters.self_signed(key)?.der().clone())
}

/// Makes a key that only this user can read. A key that another server made at the same moment is
/// taken instead.
fn make_key(path: &Path) -> Result<KeyPair, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    match keep_key(path, &key.serialize_pem()) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let pem = read_own(path).map_err(|error| error.to_string())?;
            KeyPair::from_pem(&pem).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn keep_key(path: &Path, pem: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    make_directory(directory)?;
    check_directory(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(pem.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    read_bounded(path, MAX_FILE_BYTES).map_err(|error| IdentityError::Read(path.to_owned(), error))
}

/// The subject of a certificate, as RFC 4514 writes names; `None` if there is none.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject().to_string();
    (!subject.is_empty()).then_some(subject)
}

/// Keys that the cryptography of all builds signs with.
const KINDS_OF_KEYS: &str = "a key is RSA (2048 to 4096 bits), ECDSA (P-256 or P-384) or Ed25519";

/// A bundle of all public authorities has some 200 KB, and 1 MB with comments.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The file of the server's own key, in its state directory.
const OWN_KEY: &str = "tls-self.key";

/// A key in PEM has 241 bytes, or 3,300 with RSA.
const MAX_OWN_KEY_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pin::Pin;

    #[test]
    fn the_own_key_stays_and_only_its_user_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("not/there/yet");
        let pin = || {
            let own = own(&state, vec!["localhost".into()]).expect("a key");
            Pin::of(own.end_entity_cert().expect("a certificate"))
        };
        assert_eq!(pin(), pin());
        let mode = std::fs::metadata(state.join(OWN_KEY))
            .expect("kept")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}
