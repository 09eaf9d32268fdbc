//! A TLS session of either side, without a socket: ciphertext in, plaintext out, and the reverse.
//!
//! The caller owns the buffers. Received bytes go to [`Session::open`]; bytes to send go through
//! [`Session::seal`] into a buffer of the caller's choice. Sealed bytes are never sealed again (a
//! nonce is spent): the caller hands those that the socket has not taken to [`Session::keep`].
//!
//! [`Session::unsent`] holds the bytes that go before any sealed later: flights of the handshake,
//! tickets, key updates, alerts, and kept bytes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

pub(crate) use rustls::{AlertDescription, CertificateError, Error};

use crate::tls::identity::subject;
use crate::tls::kernel::{Handover, KernelSession, Parameters, SessionKeys};

/// A session, of a server or a client.
#[derive(Debug)]
pub(crate) struct Session {
    side: Side,
    unsent: Unsent,
    is_closed_by_peer: bool,
    /// Received records that begin a message after the handshake. rustls keeps its place in them,
    /// and wants them again at each call.
    joining: Vec<u8>,
    /// No record has come since bytes were last sealed. One may request new keys, which rustls
    /// answers in front of the bytes sealed next.
    has_answered: bool,
    /// Upper bound of the records sealed after the handshake.
    sealed: u64,
    /// rustls is not called again after a failure.
    has_failed: bool,
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
    /// Bytes at the front that the socket has taken.
    taken: usize,
}

impl Session {
    /// A server's session, before the client's first byte.
    ///
    /// # Errors
    /// The configuration is incomplete.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Side::Server(Box::new(connection))))
    }

    /// A client's session to `name`; its first flight is in [`Self::unsent`].
    ///
    /// # Errors
    /// The configuration is incomplete.
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
            joining: Vec::new(),
            has_answered: false,
            sealed: 0,
            has_failed: false,
        }
    }

    /// Processes the records at the front of `received`, in place, and hands their plaintext to
    /// `take` piece by piece. Returns the bytes of `received` that are done with; those behind
    /// begin an incomplete record.
    ///
    /// # Errors
    /// The peer broke the protocol, or its certificate is invalid. An alert is in
    /// [`Self::unsent`]; the session is over.
    pub(crate) fn open(
        &mut self,
        received: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        if self.has_failed {
            return Err(Error::General("the session has failed".into()));
        }
        self.has_answered &= received.is_empty();
        let (unsent, is_closed) = (&mut self.unsent, &mut self.is_closed_by_peer);
        let done = match &mut self.side {
            Side::Client(connection) => open(&mut **connection, received, take, unsent, is_closed),
            Side::Server(connection) => open(&mut **connection, received, take, unsent, is_closed),
        };
        self.has_failed |= done.is_err();
        let done = done?;
        self.joining.clear();
        // During the handshake rustls is called for new bytes alone.
        if !self.is_handshaking() && begins_with_a_record(&received[done..]) {
            self.joining.extend_from_slice(&received[done..]);
        }
        Ok(done)
    }

    /// Seals all of `plaintext` into the front of `sealed`, which has [`sealed_len`] bytes of
    /// room. Returns how many it fills.
    ///
    /// # Errors
    /// The handshake is not over, the session is closed, or its keys are used up.
    pub(crate) fn seal(&mut self, plaintext: &[u8], sealed: &mut [u8]) -> Result<usize, Error> {
        if self.has_failed {
            return Err(Error::General("the session has failed".into()));
        }
        if self.is_handshaking() {
            return Err(Error::HandshakeNotComplete);
        }
        let joining = &mut self.joining;
        let sealed = match &mut self.side {
            Side::Client(connection) => seal(&mut **connection, joining, plaintext, sealed),
            Side::Server(connection) => seal(&mut **connection, joining, plaintext, sealed),
        };
        // rustls would send `close_notify` behind an incomplete response.
        self.has_failed |= sealed == Err(Error::EncryptError);
        self.has_answered |= sealed.is_ok() && !plaintext.is_empty();
        self.sealed += plaintext.len().div_ceil(RECORD_BYTES) as u64 + 1;
        sealed
    }

    /// Seals all of a short `plaintext` behind the unsent bytes.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn enqueue(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        let mut sealed = vec![0; sealed_len(plaintext.len())];
        let len = self.seal(plaintext, &mut sealed)?;
        self.keep(&sealed[..len]);
        Ok(())
    }

    /// Puts `close_notify` behind the unsent bytes, by which the peer knows that it has all.
    pub(crate) fn close(&mut self) {
        if self.has_failed || self.is_handshaking() {
            return;
        }
        let mut alert = [0; CLOSE_ROOM];
        let closed = match &mut self.side {
            Side::Client(connection) => close(&mut **connection, &mut self.joining, &mut alert),
            Side::Server(connection) => close(&mut **connection, &mut self.joining, &mut alert),
        };
        if let Some(len) = closed {
            self.unsent.push(&alert[..len]);
        }
    }

    /// The session for the kernel; `None` while bytes are under way in either direction.
    pub(crate) fn for_kernel(&self) -> Option<Handover> {
        let is_open = !self.has_failed && !self.is_closed_by_peer && !self.is_handshaking();
        let is_quiet = self.has_answered && self.joining.is_empty() && self.unsent().is_empty();
        if !is_open || !is_quiet {
            return None;
        }
        Some(Handover {
            parameters: Parameters::of(self.state())?,
            sealed: self.sealed + HANDSHAKE_RECORDS,
        })
    }

    /// Takes the keys out of a server's session, for which [`Self::for_kernel`] is `Some`.
    ///
    /// # Errors
    /// The session is a client's, or its settings forbid to extract keys.
    pub(crate) fn into_kernel(self) -> Result<(KernelSession, SessionKeys), Error> {
        match self.side {
            Side::Server(connection) => KernelSession::new(*connection),
            Side::Client(_) => Err(Error::General("a client's session".into())),
        }
    }

    /// Received bytes that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.joining.len()
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

    /// Keeps sealed bytes that the socket has not taken, behind the unsent ones.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        self.unsent.push(sealed);
    }

    /// Whether the handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// The subject of the peer's certificate, if it has shown one.
    pub(crate) fn peer_subject(&self) -> Option<String> {
        subject(self.state().peer_certificates()?.first()?)
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the version is TLS 1.3, once the handshake is over; else it is TLS 1.2.
    pub(crate) fn is_tls13(&self) -> bool {
        self.state().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether the peer has said that it sends nothing more (`close_notify`).
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.is_closed_by_peer
    }

    /// The state that the connections of both sides share.
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

const HEADER_BYTES: usize = 5;

/// Records of the handshake that are sealed with the traffic keys: its end, and tickets.
const HANDSHAKE_RECORDS: u64 = 64;

/// Bytes of an alert, and of records that rustls may put in front of it.
const CLOSE_ROOM: usize = 512;

/// A connection of rustls, on either side.
trait Connection<Data> {
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Data>;

    /// Whether bytes wait to be encoded.
    fn has_unsent(&self) -> bool;
}

impl Connection<ClientConnectionData> for UnbufferedClientConnection {
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(received)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
    }
}

impl Connection<ServerConnectionData> for UnbufferedServerConnection {
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(received)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
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
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process(&mut received[done..]);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    take(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(flight)) => encode(flight, unsent),
            // Unsent records are kept in order, so rustls may count them as sent.
            Ok(ConnectionState::TransmitTlsData(flight)) => flight.done(),
            Ok(ConnectionState::PeerClosed) => *is_closed_by_peer = true,
            // Early data is never enabled.
            Ok(_) => return Ok(done + discard),
            Err(error) => {
                // The alert is the last to be encoded. A further call would fail on the same bytes
                // and add an alert.
                let rest = &mut received[done + discard..];
                while connection.has_unsent()
                    && let Ok(ConnectionState::EncodeTlsData(flight)) =
                        connection.process(rest).state
                {
                    encode(flight, unsent);
                }
                return Err(error);
            }
        }
        done += discard;
    }
}

fn encode<Data>(mut flight: EncodeTlsData<'_, Data>, unsent: &mut Unsent) {
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

fn seal<Data>(
    connection: &mut impl Connection<Data>,
    joining: &mut [u8],
    plaintext: &[u8],
    sealed: &mut [u8],
) -> Result<usize, Error> {
    let UnbufferedStatus { state, .. } = connection.process(joining);
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

/// Whether the first record is whole, so that rustls has begun to read it.
fn begins_with_a_record(bytes: &[u8]) -> bool {
    record_len(bytes).is_some_and(|len| len <= bytes.len())
}

/// Bytes of the first record, by its header.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low] = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])))
}

/// Bytes that are missing of the last record, if its header has come.
pub(crate) fn missing(mut received: &[u8]) -> Option<usize> {
    while let Some(len) = record_len(received) {
        match received.get(len..) {
            Some(rest) => received = rest,
            None => return Some(len - received.len()),
        }
    }
    None
}

fn close<Data>(
    connection: &mut impl Connection<Data>,
    joining: &mut [u8],
    alert: &mut [u8],
) -> Option<usize> {
    let UnbufferedStatus { state, .. } = connection.process(joining);
    match state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(alert).ok(),
        _ => None,
    }
}
