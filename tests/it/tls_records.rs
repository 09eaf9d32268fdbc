//! Records of TLS 1.3 that no library sends by itself, in a session that one has begun.

use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ExtractedSecrets, ProtocolVersion,
    ServerConnection, SupportedCipherSuite,
};

/// Seals what one side sends from now on.
pub struct RecordSealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl RecordSealer {
    /// Goes on with a client's session, whose settings let keys out.
    pub fn of_client(session: ClientConnection) -> Self {
        let suite = session.negotiated_cipher_suite().expect("agreed upon");
        let secrets = session.dangerous_extract_secrets();
        Self::new(suite, secrets.expect("nothing is under way"))
    }

    /// Goes on with a server's session, whose settings let keys out.
    pub fn of_server(session: ServerConnection) -> Self {
        let suite = session.negotiated_cipher_suite().expect("agreed upon");
        let secrets = session.dangerous_extract_secrets();
        Self::new(suite, secrets.expect("nothing is under way"))
    }

    fn new(suite: SupportedCipherSuite, secrets: ExtractedSecrets) -> Self {
        let SupportedCipherSuite::Tls13(suite) = suite else {
            panic!("a session of TLS 1.3");
        };
        let (sequence, secrets) = secrets.tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("a known cipher");
        };
        Self {
            encrypter: suite.aead_alg.encrypter(key, iv),
            sequence,
        }
    }

    /// The next record.
    pub fn seal(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_2,
            payload: content.into(),
        };
        let sealed = self.encrypter.encrypt(message, self.sequence);
        self.sequence += 1;
        sealed.expect("it fits").encode()
    }
}
