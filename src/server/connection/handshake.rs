//! The handshake: a TLS connection's first state.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Instant;

use crate::http::parse;
use crate::server::config::Deadlines;
use crate::server::connection::request_buffer::RequestBuffer;
use crate::server::telemetry::HandshakeFailure;
use crate::server::transmit::tls::UserSpace;
use crate::sys::poller::Interest;
use crate::tls::session::{AlertDescription, CertificateError, Error};

/// A handshake that is not over.
#[derive(Debug)]
pub(super) struct Handshaking {
    /// The time of the accept, or of the first byte.
    since: Instant,
    has_begun: bool,
    failure: Option<HandshakeFailure>,
}

/// The result of a handshake's step.
pub(super) enum HandshakeStep {
    /// A flight has arrived for [`Handshaking::open`] to process.
    Opens,
    /// The socket has to become ready.
    Wait(Interest),
    /// Both sides have agreed.
    Done,
    /// The peer sends plain HTTP.
    PlainHttp,
    /// The handshake has failed, and the peer was sent an alert if possible.
    Failed(HandshakeFailure),
    /// The peer has closed the connection.
    Ended,
}

impl Handshaking {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            has_begun: false,
            failure: None,
        }
    }

    /// The time of the accept, if the connection has been silent since.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        (!self.has_begun).then_some(self.since)
    }

    pub(super) fn deadline(&self, deadlines: &Deadlines) -> Instant {
        match self.has_begun {
            true => self.since + deadlines.head,
            false => self.since + deadlines.first_byte,
        }
    }

    /// Sends what is queued and receives once.
    pub(super) fn advance(
        &mut self,
        (stream, tls): (&TcpStream, &mut UserSpace),
        received: &mut RequestBuffer,
        scratch: &mut [u8],
        now: Instant,
    ) -> HandshakeStep {
        let flushed = tls.flush(stream);
        if let Some(why) = self.failure {
            return HandshakeStep::Failed(why);
        }
        match flushed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return HandshakeStep::Wait(Interest::Write);
            }
            Err(_) => return HandshakeStep::Ended,
        }
        if !tls.session().is_handshaking() {
            return HandshakeStep::Done;
        }
        loop {
            let count = match received.read(stream, scratch, tls.most_wanted()) {
                Ok(None) => return HandshakeStep::Wait(Interest::Read),
                Ok(Some(0)) | Err(_) => return HandshakeStep::Ended,
                Ok(Some(count)) => count,
            };
            tls.take_in(&scratch[..count]);
            if !self.has_begun {
                self.has_begun = true;
                self.since = now;
            }
            // No record has this type; a handshake begins with 0x16.
            match tls.partial().first() {
                Some(first) if first.is_ascii_graphic() => {}
                _ => return HandshakeStep::Opens,
            }
            // The end of the stream may have come with the beginning of a method, and no later
            // event reports it.
            if let Some(step) = plain(tls.partial()) {
                return step;
            }
        }
    }

    /// Processes the received flight, which may take a signature's time.
    pub(super) fn open(&mut self, tls: &mut UserSpace, received: &mut RequestBuffer) {
        if let Err(error) = tls.open(received.plaintext()) {
            self.failure = Some(failure_of(&error));
        }
    }
}

/// The meaning of text on a port of TLS; `None` as long as it may become a request.
fn plain(text: &[u8]) -> Option<HandshakeStep> {
    if parse::begins_like_request(text) {
        return Some(HandshakeStep::PlainHttp);
    }
    let is_method_so_far = text.len() < MAX_METHOD_BYTES && text.iter().all(u8::is_ascii_uppercase);
    (!is_method_so_far).then_some(HandshakeStep::Failed(HandshakeFailure::PlainText))
}

fn failure_of(error: &Error) -> HandshakeFailure {
    use HandshakeFailure as Failure;
    match error {
        Error::AlertReceived(alert) => failure_by_alert(*alert),
        Error::NoCertificatesPresented => Failure::NoCertificate,
        Error::InvalidCertificate(why) => failure_of_certificate(why),
        Error::PeerIncompatible(_) => Failure::Incompatible,
        Error::NoApplicationProtocol => Failure::NoProtocol,
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Failure::Malformed,
        Error::PeerSentOversizedRecord => Failure::OversizedRecord,
        Error::DecryptError => Failure::Undecryptable,
        Error::PeerMisbehaved(_) | Error::InappropriateHandshakeMessage { .. } => {
            Failure::Misbehaved
        }
        _ => Failure::Other,
    }
}

fn failure_by_alert(alert: AlertDescription) -> HandshakeFailure {
    use AlertDescription as Alert;
    match alert {
        Alert::BadCertificate
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::UnsupportedCertificate => HandshakeFailure::CertificateRefused,
        _ => HandshakeFailure::Alert,
    }
}

fn failure_of_certificate(why: &CertificateError) -> HandshakeFailure {
    use CertificateError as Bad;
    match why {
        Bad::Expired | Bad::ExpiredContext { .. } => HandshakeFailure::ClientExpired,
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => HandshakeFailure::ClientNotYetValid,
        Bad::UnknownIssuer => HandshakeFailure::ClientUnknownIssuer,
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => HandshakeFailure::ClientPurpose,
        _ => HandshakeFailure::ClientRefused,
    }
}

/// `CONNECT`, `OPTIONS`.
const MAX_METHOD_BYTES: usize = 8;
