//! A server's session whose records the kernel seals and opens. rustls derives the next keys.

use std::fmt;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{CommonState, ConnectionTrafficSecrets, Error, ProtocolVersion, SupportedCipherSuite};

use crate::sys::kernel_tls::{Cipher, Direction, NONCE_BYTES, TrafficKeys, Version};

/// The parameters of a session's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub version: Version,
    pub cipher: Cipher,
    /// Records that one key may seal (RFC 8446 section 5.5).
    pub record_limit: u64,
}

/// A session that the kernel can take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    pub parameters: Parameters,
    /// Upper bound of the records sealed so far.
    pub sealed: u64,
}

/// A session's keys in both directions.
#[derive(Debug)]
pub(crate) struct SessionKeys {
    pub send: TrafficKeys,
    pub receive: TrafficKeys,
}

/// A session whose keys the kernel has.
pub(crate) struct KernelSession {
    connection: KernelConnection<ServerConnectionData>,
    parameters: Parameters,
}

impl fmt::Debug for KernelSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KernelSession")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl KernelSession {
    /// Takes the keys out of a session. No bytes may be under way in it.
    ///
    /// # Errors
    /// The handshake is not over, something is to be sent, or its settings keep keys inside.
    pub(super) fn new(
        connection: UnbufferedServerConnection,
    ) -> Result<(Self, SessionKeys), Error> {
        let parameters = Parameters::of(&connection).ok_or(Error::HandshakeNotComplete)?;
        let (secrets, connection) = connection.dangerous_into_kernel_connection()?;
        let session = Self {
            connection,
            parameters,
        };
        let (sequence, secret) = secrets.tx;
        let mut send = session.keys(sequence, &secret)?;
        if parameters.version == Version::Tls12 && parameters.cipher != Cipher::ChaCha20Poly1305 {
            send.nonce = unused_nonce(send.nonce);
        }
        let (sequence, secret) = secrets.rx;
        let receive = session.keys(sequence, &secret)?;
        Ok((session, SessionKeys { send, receive }))
    }

    pub(crate) fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// The keys of one direction that follow those in use (RFC 8446 section 7.2).
    ///
    /// # Errors
    /// The session is of TLS 1.2, which has no key updates.
    pub(crate) fn next_keys(&mut self, direction: Direction) -> Result<TrafficKeys, Error> {
        let (sequence, secret) = match direction {
            Direction::Send => self.connection.update_tx_secret(),
            Direction::Receive => self.connection.update_rx_secret(),
        }?;
        self.keys(sequence, &secret)
    }

    fn keys(&self, sequence: u64, secret: &ConnectionTrafficSecrets) -> Result<TrafficKeys, Error> {
        let (material, iv) = match secret {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
            _ => return Err(unknown()),
        };
        let Parameters {
            version, cipher, ..
        } = self.parameters;
        let nonce = *iv.first_chunk::<NONCE_BYTES>().ok_or_else(unknown)?;
        if material.len() != cipher.key_len() {
            return Err(unknown());
        }
        let mut keys = TrafficKeys {
            version,
            cipher,
            key: [0; 32],
            nonce,
            sequence,
        };
        keys.key[..material.len()].copy_from_slice(material);
        Ok(keys)
    }
}

impl Parameters {
    /// A session's parameters; `None` before they are agreed upon, or if the kernel lacks them.
    pub(crate) fn of(state: &CommonState) -> Option<Self> {
        use rustls::CipherSuite as Suite;
        let version = match state.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => return None,
        };
        let suite = state.negotiated_cipher_suite()?;
        let cipher = match suite.suite() {
            Suite::TLS13_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
            Suite::TLS13_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
            Suite::TLS13_CHACHA20_POLY1305_SHA256
            | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
            _ => return None,
        };
        let record_limit = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Some(Self {
            version,
            cipher,
            record_limit,
        })
    }
}

/// A nonce for the kernel to count up from, none of which rustls has used with this key.
///
/// A record of TLS 1.2 with AES-GCM carries the nonce behind the salt (RFC 5288 section 3). rustls
/// varies its last 4 bytes alone, for fewer records than they have values. The changed byte in
/// front of them keeps both ranges apart.
fn unused_nonce(mut nonce: [u8; NONCE_BYTES]) -> [u8; NONCE_BYTES] {
    nonce[SALT_BYTES] ^= 0x80;
    nonce[NONCE_BYTES - 4..].fill(0);
    nonce
}

fn unknown() -> Error {
    Error::General("the kernel knows no such keys".into())
}

/// The secret part of a nonce of TLS 1.2 with AES-GCM (RFC 5288 section 3).
const SALT_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_is_used_twice() {
        for initial in [[0; NONCE_BYTES], [0xff; NONCE_BYTES], *b"saltexplicit"] {
            let kernel = unused_nonce(initial);
            assert_eq!(
                kernel[..SALT_BYTES],
                initial[..SALT_BYTES],
                "the salt is a secret of both"
            );
            // rustls and the kernel vary the last 4 bytes alone.
            let upper = SALT_BYTES..NONCE_BYTES - 4;
            assert_ne!(kernel[upper.clone()], initial[upper]);
            assert_eq!(kernel[NONCE_BYTES - 4..], [0; 4]);
        }
    }
}
