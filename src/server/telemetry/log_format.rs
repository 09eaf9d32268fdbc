//! The forms that a line of the access log can have.

use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::server::telemetry::close_reason::CloseReason;
use crate::server::telemetry::record::AccessRecord;
use crate::sys::peer::Peer;

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `TIME PEER PROTOCOL "REQUEST" STATUS SENT/INTENDED SECONDSs OUTCOME[: DETAIL]`.
    #[default]
    Haul,
    /// Apache's and nginx's `combined`: it has no place for the outcome.
    Combined,
    /// A JSON object.
    Json,
}

impl LogFormat {
    /// Appends a record to `text`, without a line end; what a peer sent breaks no line.
    pub(super) fn write(self, record: &AccessRecord, text: &mut Vec<u8>) {
        // Writing to a `Vec` cannot fail.
        let _ = match self {
            Self::Haul => write!(text, "{record}"),
            Self::Combined => write!(text, "{}", Combined(record)),
            Self::Json => serde_json::to_writer(text, &JsonRecord::new(record)).map_err(Into::into),
        };
    }
}

/// `HOST - USER [DATE] "REQUEST" STATUS BYTES "REFERER" "USER-AGENT"`.
struct Combined<'a>(&'a AccessRecord);

impl fmt::Display for Combined<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        match record.peer {
            Peer::Inet(address) => write!(formatter, "{} - ", address.ip().to_canonical())?,
            Peer::Unix { .. } => formatter.write_str("unix: - ")?,
        }
        match (&record.user, record.peer) {
            // A space would end the field.
            (Some(user), _) => {
                let user = Quoted(user).to_string().replace(' ', "\\x20");
                formatter.write_str(&user)?;
            }
            (None, Peer::Unix { uid }) => write!(formatter, "{uid}")?,
            (None, Peer::Inet(_)) => formatter.write_str("-")?,
        }
        let at = record.timestamp().strftime("%d/%b/%Y:%H:%M:%S +0000");
        write!(
            formatter,
            " [{at}] \"{}\" {} {}",
            Quoted(&record.request),
            status_of(record),
            record.sent
        )?;
        let fields = record.client_fields.as_deref();
        for field in [
            fields.map(|it| &it.referer),
            fields.map(|it| &it.user_agent),
        ] {
            match field.filter(|field| !field.is_empty()) {
                Some(field) => write!(formatter, " \"{}\"", Quoted(field))?,
                None => formatter.write_str(" \"-\"")?,
            }
        }
        Ok(())
    }
}

/// The status of a response; without one, the status that HTTP has for the outcome.
fn status_of(record: &AccessRecord) -> u16 {
    match (record.status, record.outcome) {
        (0, CloseReason::Refused) => 404,
        (0, CloseReason::Malformed) => 400,
        (0, CloseReason::HeadTimeout | CloseReason::FirstByteTimeout) => 408,
        (0, CloseReason::Overloaded) => 503,
        (0, _) => 200,
        (status, _) => status,
    }
}

/// As nginx escapes: all but printable ASCII, quotes and backslashes become `\xHH`.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b'"' | b'\\' | ..b' ' | 0x7f.. => write!(formatter, "\\x{byte:02X}")?,
                _ => write!(formatter, "{}", char::from(*byte))?,
            }
        }
        Ok(())
    }
}

/// A record's JSON form. Fields without a value are left out.
#[derive(Serialize)]
struct JsonRecord<'a> {
    /// When the request was whole, UTC (RFC 3339).
    time: String,
    /// The address; `unix` for a peer on a Unix socket.
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// The user of a peer on a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The authenticated user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Text<'a>>,
    /// `http`, `https` or `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    request: Text<'a>,
    /// The request's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Bytes of content that the client acknowledged.
    bytes: u64,
    /// Bytes of content that were to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    intended: Option<u64>,
    seconds: f64,
    /// A close reason's word; `complete` means success.
    outcome: &'a str,
    /// The subject of the client's certificate (RFC 4514).
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Text<'a>>,
}

type Text<'a> = std::borrow::Cow<'a, str>;

impl<'a> JsonRecord<'a> {
    fn new(record: &'a AccessRecord) -> Self {
        let (client, port, uid) = match record.peer {
            Peer::Inet(address) => {
                let ip = address.ip().to_canonical();
                // A client's address from a proxy's field has no port.
                let port = Some(address.port()).filter(|port| *port != 0);
                (ip.to_string(), port, None)
            }
            Peer::Unix { uid } => ("unix".into(), None, Some(uid)),
        };
        let is_text = str::from_utf8(&record.request).is_ok();
        let fields = record.client_fields.as_deref();
        let text = |field: &'a [u8]| (!field.is_empty()).then(|| String::from_utf8_lossy(field));
        Self {
            time: format!("{:.3}", record.timestamp()),
            client,
            port,
            uid,
            user: record.user.as_deref().map(String::from_utf8_lossy),
            protocol: record.protocol.map(|_| record.protocol_word()),
            request: String::from_utf8_lossy(&record.request),
            request_base64: (!is_text).then(|| BASE64_STANDARD.encode(&record.request)),
            status: (record.status != 0).then_some(record.status),
            bytes: record.sent,
            intended: record.intended,
            seconds: (record.duration.as_secs_f64() * 1e6).round() / 1e6,
            outcome: record.outcome.word(),
            subject: record.subject(),
            detail: record.detail,
            referer: fields.and_then(|it| text(&it.referer)),
            user_agent: fields.and_then(|it| text(&it.user_agent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::http::{ClientFields, Protocol};

    fn record(request: &[u8]) -> AccessRecord {
        AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            peer: SocketAddr::from(([192, 0, 2, 1], 9)).into(),
            protocol: Some(Protocol::Http),
            request: request.to_vec(),
            status: 206,
            sent: 3,
            intended: Some(5),
            duration: Duration::from_micros(20_001),
            outcome: CloseReason::Aborted,
            user: None,
            detail: "",
            tls: None,
            client_fields: Some(Box::new(ClientFields {
                referer: b"".as_slice().into(),
                user_agent: b"a\"\\\n\xff".as_slice().into(),
            })),
        }
    }

    fn line(format: LogFormat, record: &AccessRecord) -> String {
        let mut text = Vec::new();
        format.write(record, &mut text);
        String::from_utf8(text).expect("a line is UTF-8")
    }

    #[test]
    fn combined_is_as_nginx_writes_it() {
        assert_eq!(
            line(LogFormat::Combined, &record(b"GET /a\"b HTTP/1.1")),
            "192.0.2.1 - - [01/Jan/1970:00:00:01 +0000] \"GET /a\\x22b HTTP/1.1\" 206 3 \"-\" \
             \"a\\x22\\x5C\\x0A\\xFF\""
        );
        let mut name = record("ä".as_bytes());
        (name.protocol, name.status) = (Some(Protocol::Name), 0);
        (name.peer, name.client_fields) = (Peer::Unix { uid: 7 }, None);
        assert_eq!(
            line(LogFormat::Combined, &name),
            "unix: - 7 [01/Jan/1970:00:00:01 +0000] \"\\xC3\\xA4\" 200 3 \"-\" \"-\""
        );
    }

    #[test]
    fn json_is_one_object_a_line_and_loses_no_byte_of_a_request() {
        assert_eq!(
            line(LogFormat::Json, &record(b"GET /\n HTTP/1.1")),
            r#"{"time":"1970-01-01T00:00:01.500Z","client":"192.0.2.1","port":9,"protocol":"http","request":"GET /\n HTTP/1.1","status":206,"bytes":3,"intended":5,"seconds":0.020001,"outcome":"aborted","user_agent":"a\"\\\n�"}"#
        );
        let odd = line(LogFormat::Json, &record(b"\xff"));
        assert!(
            odd.contains(r#""request":"�","request_base64":"/w==""#),
            "{odd}"
        );
    }
}
