//! What the kernel needs to know for its records.

use std::fmt;
use std::io;

use zeroize::Zeroize;

/// A protocol version whose records the kernel may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// An AEAD that the kernel may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// Whose records a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Send,
    Receive,
}

/// The keys of one direction. What is dropped leaves none of them in memory, but for copies that a
/// move has made.
#[cfg_attr(
    not(all(target_os = "linux", not(feature = "portable"))),
    allow(dead_code, reason = "only Linux takes keys")
)]
pub(crate) struct TrafficKeys {
    pub version: Version,
    pub cipher: Cipher,
    /// The first [`Cipher::key_len`] bytes of it count.
    pub key: [u8; 32],
    /// What records' numbers are added to; with AES-GCM in TLS 1.2 the salt, and the nonce that the
    /// first record shows.
    pub nonce: [u8; NONCE_BYTES],
    /// The number of the next record.
    pub sequence: u64,
}

impl fmt::Debug for TrafficKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TrafficKeys")
            .field("version", &self.version)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl Drop for TrafficKeys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.nonce.zeroize();
    }
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];
}

impl Cipher {
    pub(crate) const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Bytes of its key.
    pub(crate) fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes that a record takes beside its content.
    pub(crate) fn overhead(self, version: Version) -> u64 {
        let (header, tag, content_type, explicit_nonce) = (5, 16, 1, 8);
        match (version, self) {
            (Version::Tls13, _) => header + content_type + tag,
            (Version::Tls12, Self::ChaCha20Poly1305) => header + tag,
            (Version::Tls12, _) => header + explicit_nonce + tag,
        }
    }
}

/// Why the kernel could not open a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordFault {
    /// It does not decrypt.
    Undecipherable,
    /// It is longer than a record may be.
    TooLong,
    /// Its header is that of no record.
    Malformed,
}

impl RecordFault {
    /// What an error of receiving means, or one that the socket has (`SO_ERROR`), if it is the
    /// record's (`EBADMSG`, `EMSGSIZE`, `EINVAL`). Calls that send fail with these for other reasons
    /// as well.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        use nix::libc::{EBADMSG, EINVAL, EMSGSIZE};
        match error.raw_os_error() {
            Some(EBADMSG) => Some(Self::Undecipherable),
            Some(EMSGSIZE) => Some(Self::TooLong),
            Some(EINVAL) => Some(Self::Malformed),
            _ => None,
        }
    }
}

/// The content types of records (RFC 8446 section 5.1).
pub(crate) mod record_type {
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;
