//! A response, as a line of the access log.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::http::{ClientFields, Protocol};
use crate::printable::is_unprintable;
use crate::server::telemetry::close_reason::CloseReason;
use crate::sys::peer::Peer;

/// A response, for the access log.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the request was whole.
    pub at: SystemTime,
    /// The client.
    pub peer: Peer,
    /// The protocol; `None` if it was not recognized.
    pub protocol: Option<Protocol>,
    /// The raw request line or name, unescaped.
    pub request: Vec<u8>,
    /// The status code; 0 where the protocol has none.
    pub status: u16,
    /// Bytes of content given to the kernel.
    pub sent: u64,
    /// Bytes of content intended; `None` where it was not known beforehand.
    pub intended: Option<u64>,
    /// From the whole request to the last byte given to the kernel.
    pub duration: Duration,
    /// The outcome.
    pub outcome: CloseReason,
    /// The user that has logged in.
    pub user: Option<Box<[u8]>>,
    /// The detail of the outcome, or empty.
    pub detail: &'static str,
    /// The identity of a TLS client.
    pub tls: Option<TlsClient>,
    /// The client's description of itself, where the log's format has it.
    pub client_fields: Option<Box<ClientFields>>,
}

/// A TLS client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClient {
    /// The subject of the certificate that it has shown.
    pub subject: Option<Arc<str>>,
}

impl AccessRecord {
    /// The subject of the client's certificate.
    pub(super) fn subject(&self) -> Option<&str> {
        self.tls.as_ref()?.subject.as_deref()
    }

    /// The word for the protocol; `-` if it was not recognized.
    pub(super) fn protocol_word(&self) -> &'static str {
        match self.protocol {
            Some(Protocol::Http) if self.tls.is_some() => "https",
            Some(protocol) => protocol.word(),
            None => "-",
        }
    }

    /// When, to the millisecond.
    pub(super) fn timestamp(&self) -> jiff::Timestamp {
        jiff::Timestamp::try_from(self.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for AccessRecord {
    /// `TIME PEER PROTOCOL "REQUEST" STATUS SENT/INTENDED SECONDSs [user="USER"] OUTCOME[: DETAIL]`, one
    /// line; the subject of a client's certificate comes last, as ` "CN=NAME"`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, protocol) = (self.timestamp(), self.protocol_word());
        write!(
            formatter,
            "{at:.3} {} {protocol} \"{}\" ",
            self.peer,
            Escaped(&self.request)
        )?;
        match self.status {
            0 => formatter.write_str("-")?,
            status => write!(formatter, "{status}")?,
        }
        write!(formatter, " {}/", self.sent)?;
        match self.intended {
            Some(intended) => write!(formatter, "{intended}")?,
            None => formatter.write_str("-")?,
        }
        write!(formatter, " {:.3}s ", self.duration.as_secs_f64())?;
        if let Some(user) = &self.user {
            write!(formatter, "user=\"{}\" ", Escaped(user))?;
        }
        write!(formatter, "{}", self.outcome)?;
        if !self.detail.is_empty() {
            write!(formatter, ": {}", self.detail)?;
        }
        match self.subject() {
            Some(subject) => write!(formatter, " \"{}\"", Escaped(subject.as_bytes())),
            None => Ok(()),
        }
    }
}

/// Bytes from a peer, made safe for a log line or a terminal: control characters, quotes,
/// backslashes and what is not UTF-8 are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => write!(formatter, "\\{character}")?,
                    _ if is_unprintable(character) => {
                        write!(formatter, "{}", character.escape_unicode())?;
                    }
                    _ => formatter.write_char(character)?,
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_the_peer_sent() {
        let record = AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 9)).into(),
            protocol: Some(Protocol::Name),
            request: b"a\"b\n\x1b[2J\xff\xe2\x80\xae".to_vec(),
            status: 0,
            sent: 3,
            intended: Some(5),
            duration: Duration::from_millis(20),
            outcome: CloseReason::Aborted,
            user: None,
            detail: "",
            tls: None,
            client_fields: None,
        };
        assert_eq!(
            record.to_string(),
            "1970-01-01T00:00:01.500Z 127.0.0.1:9 name \
             \"a\\\"b\\u{a}\\u{1b}[2J\\xff\\u{202e}\" - 3/5 0.020s aborted"
        );
    }
}
