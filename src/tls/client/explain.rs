//! Faults of sessions in words for the user, with advice.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
};
use webpki::EndEntityCert;

use crate::tls::pin::Pin;

/// The failure of a session.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// The kind of a failure, by which it is decided whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server's certificate is not trusted.
    Untrusted,
    /// The server requires a client certificate.
    Refused,
    /// Another attempt will fail as well.
    Permanent,
    /// The network may be at fault: another attempt may succeed.
    Passing,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl StdError for Failure {}

/// The reason why a certificate is rejected.
#[derive(Debug)]
pub(super) struct Rejection(pub(super) String);

impl fmt::Display for Rejection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl StdError for Rejection {}

/// The meaning of `error`. The `first` bytes of the stream show a server without TLS.
pub(crate) fn explain(error: &Error, first: &[u8]) -> Failure {
    let failure = |kind, text: &str| Failure {
        kind,
        text: text.to_owned(),
    };
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
            if why.downcast_ref::<Rejection>().is_some() =>
        {
            failure(Kind::Untrusted, &why.to_string())
        }
        Error::InvalidCertificate(why) => {
            let text = format!("the server cannot prove that the certificate is its own: {why}");
            failure(Kind::Untrusted, &text)
        }
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) if !first.is_empty() && !is_record(first) => {
            let text = match first.starts_with(b"HTTP/") {
                true => {
                    "this port speaks plain HTTP, not TLS: try http:// in the place of https://"
                }
                false => "what this port speaks is not TLS: check the port",
            };
            failure(Kind::Permanent, text)
        }
        Error::AlertReceived(alert) => refused(*alert),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            failure(Kind::Permanent, TOO_OLD)
        }
        Error::PeerIncompatible(why) => {
            let text = format!("the server and haul have no kind of TLS in common: {why:?}");
            failure(Kind::Permanent, &text)
        }
        Error::DecryptError => failure(
            Kind::Passing,
            "a TLS record was damaged on its way: it does not decrypt",
        ),
        error => failure(Kind::Passing, &format!("TLS failed: {error}")),
    }
}

/// The meaning of the server's fatal alert (RFC 8446, 6.2).
fn refused(alert: AlertDescription) -> Failure {
    use AlertDescription as Alert;
    let (kind, text) = match alert {
        Alert::CertificateRequired | Alert::NoCertificate => (
            Kind::Refused,
            "the server wants a client certificate: --cert FILE --key FILE show one to the servers \
             that the command line names",
        ),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => (
            Kind::Refused,
            "the server refuses the client certificate of --cert, or wants one",
        ),
        Alert::ProtocolVersion => (
            Kind::Permanent,
            "the server speaks only TLS 1.1 or older, which nobody should trust, or no TLS on this \
             port: then the address begins with http://",
        ),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => (
            Kind::Permanent,
            "the server and haul have no kind of TLS in common, or it wants a client certificate",
        ),
        Alert::NoApplicationProtocol => {
            (Kind::Permanent, "the server does not speak HTTP/1.1 here")
        }
        Alert::UnrecognisedName => (
            Kind::Permanent,
            "the server has no site of this name: check the address",
        ),
        Alert::InternalError | Alert::UserCanceled => {
            (Kind::Passing, "the server gave the TLS session up")
        }
        _ => (Kind::Passing, "the server ended the TLS session"),
    };
    let text = format!("{text} (TLS alert {alert:?})");
    Failure { kind, text }
}

/// Whether the bytes may begin a TLS record: a content type, and a version of 3.x.
fn is_record(first: &[u8]) -> bool {
    matches!(first, [20..=24, 3, ..] | [20..=24])
}

/// Whether a server's certificate is marked as an authority's.
pub(super) fn is_authority(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => matches!(
            why.downcast_ref::<webpki::Error>(),
            Some(webpki::Error::CaUsedAsEndEntity)
        ),
        _ => false,
    }
}

/// The reason why the certificate of `name` is rejected, with advice.
pub(super) fn certificate(
    error: &Error,
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    pin: Option<Pin>,
) -> String {
    use CertificateError as Bad;
    let name = name.to_str();
    let pinned = pin.map_or_else(String::new, |pin| format!(" or --pin {pin}"));
    let Error::InvalidCertificate(why) = error else {
        return format!("the certificate of {name} is no good: {error}");
    };
    match why {
        Bad::Expired => format!("the certificate of {name} has expired{ASK_OPERATOR}"),
        Bad::ExpiredContext { time, not_after } => format!(
            "the certificate of {name} expired on {}, and it is {} here: if this clock is right, \
             the server's operator has to renew it",
            date(*not_after),
            date(*time)
        ),
        Bad::NotValidYet => format!("the certificate of {name} is not valid yet: {SET_CLOCK}"),
        Bad::NotValidYetContext { time, not_before } => format!(
            "the certificate of {name} is not valid before {}, and it is {} here: {SET_CLOCK}",
            date(*not_before),
            date(*time)
        ),
        Bad::NotValidForNameContext { presented, .. } => {
            let names = match presented.is_empty() {
                true => "no name at all".to_owned(),
                false => named(presented),
            };
            format!(
                "the certificate is not for {name}, but for {names}: use a name that it has{pinned}"
            )
        }
        Bad::NotValidForName => format!("the certificate is not for {name}{pinned}"),
        Bad::Revoked => format!(
            "the certificate of {name} was revoked: its key may be in the wrong hands{ASK_OPERATOR}"
        ),
        Bad::BadSignature => format!(
            "the certificate of {name} is forged or damaged: its signature is not its issuer's"
        ),
        Bad::BadEncoding => format!("the certificate of {name} cannot be read{ASK_OPERATOR}"),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            format!("the certificate of {name} is not one for servers{ASK_OPERATOR}")
        }
        _ if is_self_signed(certificate) => format!(
            "the certificate of {name} is self-signed: if it is the right one, --cacert FILE with \
             it{pinned} trusts it"
        ),
        Bad::UnknownIssuer => format!(
            "nobody known here vouches for the certificate of {name} (unknown issuer): if it is \
             the right one, --cacert FILE with the issuer's certificate{pinned} trusts it"
        ),
        why => format!("the certificate of {name} is no good: {why}"),
    }
}

/// The rejection of a key that is none of the pinned ones.
pub(super) fn other_key(name: &ServerName<'_>, seen: Pin) -> String {
    format!(
        "the key of {} is not the one of --pin, but {seen}: somebody else may be answering, or the \
         server has a new key",
        name.to_str()
    )
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|it| it.issuer() == it.subject())
}

/// The first few names, without webpki's types.
fn named(presented: &[String]) -> String {
    let shown = presented.iter().take(NAMES_SHOWN).map(|name| {
        // Names come as DnsName("a.example"), IpAddress(10.0.0.1).
        let value = name.split_once('(').map_or(&**name, |(_, value)| value);
        value.trim_end_matches(')').trim_matches('"')
    });
    let shown: Vec<_> = shown.collect();
    let more = match presented.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

const NAMES_SHOWN: usize = 8;
const ASK_OPERATOR: &str = ": the server's operator has to renew it";
const SET_CLOCK: &str = "set this machine's clock if it is wrong";
const TOO_OLD: &str = "the server speaks only TLS 1.1 or older, which nobody should trust";
