//! A TLS session of either side, without a socket: ciphertext in, plaintext out, and the other
//! way round.
//!
//! The caller owns the buffers. What it receives goes to [`Session::open`]; what it sends goes
//! through [`Session::seal`] into a buffer of its choice. Sealed bytes are never sealed again (a
//! nonce is spent): what the socket has not taken the caller hands to [`Session::keep`].
//!
//! [`Session::unsent`] holds what must leave before anything that is sealed later: flights of the
//! handshake, tickets, key updates, alerts, and what was kept.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, ServerConfig};

pub(crate) use rustls::Error;

/// A session, of a server or a client.
#[derive(Debug)]
pub(crate) struct Session {
    side: Side,
    unsent: Unsent,
    is_closed_by_peer: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

impl fmt::Debug for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// Ciphertext that the socket has not taken yet, in order.
#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// So many of them were taken.
    taken: usize,
}

impl Session {
    /// A server's session, before the client's first byte.
    ///
    /// # Errors
    /// The configuration lacks something.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Side::Server(Box::new(connection))))
    }

    /// A client's session to `name`; its first flight is in [`Self::unsent`].
    ///
    /// # Errors
    /// The configuration lacks something.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut session = Self::new(Side::Client(Box::new(connection)));
        session.open(&mut [], &mut |_| {})?;
        Ok(session)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            unsent: Unsent::default(),
            is_closed_by_peer: false,
        }
    }

    /// Processes the records at the front of `received`, in place, and hands their plaintext to
    /// `take` piece by piece. Returns how many bytes of `received` are done with; those behind
    /// begin a record that is not whole.
    ///
    /// # Errors
    /// The peer broke the protocol, or its certificate is no good. An alert is in
    /// [`Self::unsent`]; the session is over.
    pub(crate) fn open(
        &mut self,
        received: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let (unsent, is_closed) = (&mut self.unsent, &mut self.is_closed_by_peer);
        match &mut self.side {
            Side::Client(connection) => open(&mut **connection, received, take, unsent, is_closed),
            Side::Server(connection) => open(&mut **connection, received, take, unsent, is_closed),
        }
    }

    /// Seals all of `plaintext` into the front of `sealed`, which has [`sealed_len`] bytes of
    /// room. Returns how many it fills.
    ///
    /// # Errors
    /// The handshake is not over, the session is closed, or its keys are used up.
    pub(crate) fn seal(&mut self, plaintext: &[u8], sealed: &mut [u8]) -> Result<usize, Error> {
        match &mut self.side {
            Side::Client(connection) => seal(&mut **connection, plaintext, sealed),
            Side::Server(connection) => seal(&mut **connection, plaintext, sealed),
        }
    }

    /// Seals all of `plaintext` behind what is unsent: for little.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn enqueue(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        let mut sealed = vec![0; sealed_len(plaintext.len())];
        let len = self.seal(plaintext, &mut sealed)?;
        self.keep(&sealed[..len]);
        Ok(())
    }

    /// Has `close_notify` sent behind what is unsent: the peer then knows that it has all.
    pub(crate) fn close(&mut self) {
        let mut alert = [0; CLOSE_ROOM];
        let closed = match &mut self.side {
            Side::Client(connection) => close(&mut **connection, &mut alert),
            Side::Server(connection) => close(&mut **connection, &mut alert),
        };
        if let Some(len) = closed {
            self.unsent.push(&alert[..len]);
        }
    }

    /// Sealed bytes that the socket has not taken.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.unsent.bytes[self.unsent.taken..]
    }

    /// Notes that the socket took the first bytes of [`Self::unsent`].
    pub(crate) fn note_sent(&mut self, len: usize) {
        self.unsent.taken += len;
        if self.unsent.taken >= self.unsent.bytes.len() {
            // An idle session holds no buffer.
            self.unsent = Unsent::default();
        }
    }

    /// Keeps sealed bytes that the socket has not taken, behind what is unsent already.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        self.unsent.push(sealed);
    }

    /// Whether the handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// Whether the peer has said that it sends nothing more (`close_notify`).
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.is_closed_by_peer
    }

    /// What both sides have agreed upon, for questions that only one kind of caller has.
    pub(crate) fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }
}

impl Unsent {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        // Doubling would take twice what is needed.
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }
}

/// Bytes that `len` bytes of plaintext take at the most once they are sealed, with a key update
/// in front.
pub(crate) const fn sealed_len(len: usize) -> usize {
    len + (len.div_ceil(RECORD_BYTES) + 1) * RECORD_OVERHEAD
}

/// Plaintext bytes of a full record (RFC 8446 section 5.1).
pub(crate) const RECORD_BYTES: usize = 16 << 10;

/// Header, explicit nonce or content type, and tag; a key update takes 5 bytes more.
const RECORD_OVERHEAD: usize = 64;

/// An alert, and what the library may put in front of it.
const CLOSE_ROOM: usize = 512;

/// One of rustls' two connections.
trait Connection<Data> {
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Data>;
}

impl Connection<ClientConnectionData> for UnbufferedClientConnection {
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(received)
    }
}

impl Connection<ServerConnectionData> for UnbufferedServerConnection {
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(received)
    }
}

fn open<Data>(
    connection: &mut impl Connection<Data>,
    received: &mut [u8],
    take: &mut dyn FnMut(&[u8]),
    unsent: &mut Unsent,
    is_closed_by_peer: &mut bool,
) -> Result<usize, Error> {
    let mut done = 0;
    let mut failure = None;
    loop {
        // After a failure only the alert is left to be had.
        let rest = match failure {
            None => &mut received[done..],
            Some(_) => &mut [],
        };
        let UnbufferedStatus { mut discard, state } = connection.process(rest);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    take(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut flight)) => {
                let needed = match flight.encode(&mut []) {
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        required_size
                    }
                    Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
                };
                let mut bytes = vec![0; needed];
                if let Ok(len) = flight.encode(&mut bytes) {
                    unsent.push(&bytes[..len]);
                }
            }
            // What is unsent is kept in order, so to the library it is sent.
            Ok(ConnectionState::TransmitTlsData(flight)) => flight.done(),
            Ok(ConnectionState::PeerClosed) => *is_closed_by_peer = true,
            // Early data is never invited.
            Ok(_) => return failure.map_or(Ok(done + discard), Err),
            Err(error) => match failure {
                None => failure = Some(error),
                Some(first) => return Err(first),
            },
        }
        done += discard;
    }
}

fn seal<Data>(
    connection: &mut impl Connection<Data>,
    plaintext: &[u8],
    sealed: &mut [u8],
) -> Result<usize, Error> {
    let UnbufferedStatus { state, .. } = connection.process(&mut []);
    match state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic
                .encrypt(plaintext, sealed)
                .map_err(|error| match error {
                    EncryptError::EncryptExhausted => Error::EncryptError,
                    EncryptError::InsufficientSize(_) => {
                        Error::General("no room to seal into".into())
                    }
                })
        }
        _ => Err(Error::HandshakeNotComplete),
    }
}

fn close<Data>(connection: &mut impl Connection<Data>, alert: &mut [u8]) -> Option<usize> {
    let UnbufferedStatus { state, .. } = connection.process(&mut []);
    match state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(alert).ok(),
        _ => None,
    }
}
