//! A URL with its weight, turned into the bytes of a request.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::dial::{Dialer, split_zone};
use crate::http::Persistence;
use crate::http::query_secrets;

/// A URL, and how often it is requested in proportion to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedUrl {
    url: Url,
    /// The zone of a link-local address, which `url` has no place for.
    zone: Option<String>,
    wire: Wire,
    /// How often this URL is requested, in proportion to the weights of the others.
    pub weight: u32,
}

/// The protocol of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http,
    Name,
}

/// Why a URL cannot be requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// The text is no URL.
    Malformed {
        /// The fault; the address itself may hold a password.
        reason: String,
    },
    /// The host has no address.
    Unresolvable {
        /// The host as given.
        host: String,
        /// The resolver's message.
        reason: String,
    },
}

impl fmt::Display for TargetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { reason } => write!(
                out,
                "an address makes no sense: {reason}; write http://HOST:PORT/PATH, https://… or \
                 name://HOST[:PORT]/PATH, with @WEIGHT behind it if it has one"
            ),
            Self::Unresolvable { host, reason } => {
                write!(
                    out,
                    "no address for \"{host}\": {reason}; check its spelling"
                )
            }
        }
    }
}

impl std::error::Error for TargetError {}

impl FromStr for WeightedUrl {
    type Err = TargetError;

    /// Reads `http://HOST[:PORT]/PATH`, the same with `https`, `name://HOST[:PORT]/PATH` or `HOST:PORT/PATH`, each with an
    /// optional `@WEIGHT` behind the path.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let malformed = |reason: &str| TargetError::Malformed {
            reason: reason.to_owned(),
        };
        let (address, weight) = split_weight(text);
        if weight == 0 {
            return Err(malformed("a weight is at least 1"));
        }
        let with_scheme = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let (zoneless, zone) = split_zone(&with_scheme);
        let url = Url::parse(&zoneless).map_err(|error| malformed(&error.to_string()))?;
        let wire = match url.scheme() {
            "http" | "https" => Wire::Http,
            "name" => Wire::Name,
            _ => return Err(malformed("only http, https and name are spoken")),
        };
        if url.host().is_none() {
            return Err(malformed("the host is missing"));
        }
        Ok(Self {
            url,
            zone,
            wire,
            weight,
        })
    }
}

impl fmt::Display for WeightedUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Figures are passed on; a login is not, nor what opens a file.
        let mut shown = self.url.clone();
        let _ = (shown.set_username(""), shown.set_password(None));
        shown.set_query(self.url.query().map(query_secrets::redact).as_deref());
        shown.fmt(out)
    }
}

/// A target with a resolved address.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) wire: Wire,
    /// The name that the server has to prove, where it is spoken to through TLS.
    pub(super) secure: Option<String>,
    pub(super) weight: u32,
    /// The request but for its end, where a range may still be added.
    request: Vec<u8>,
}

impl Target {
    /// Finds the address of the host that takes connections, and composes the request.
    pub(super) fn resolve(
        url: &WeightedUrl,
        persistence: Persistence,
        dialer: &Dialer,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<Self, TargetError> {
        let request = match url.wire {
            Wire::Http => http_request(&url.url, persistence),
            Wire::Name => percent_decode_str(url.url.path().trim_start_matches('/')).collect(),
        };
        Ok(Self {
            address: address(url, dialer, timeout, stop)?,
            wire: url.wire,
            secure: (url.url.scheme() == "https")
                .then(|| url.url.host_str().unwrap_or_default().to_owned()),
            weight: url.weight,
            request,
        })
    }

    /// A connection may carry requests for both.
    pub(super) fn has_same_server(&self, other: &Self) -> bool {
        self.address == other.address && self.secure == other.secure
    }

    /// Appends the request's bytes to `out`; `range` holds the first and the last byte.
    pub(super) fn write_request(&self, range: Option<(u64, u64)>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
        match (self.wire, range) {
            (Wire::Name, _) => out.push(b'\n'),
            (Wire::Http, None) => out.extend_from_slice(b"\r\n"),
            (Wire::Http, Some((first, last))) => {
                out.extend_from_slice(format!("Range: bytes={first}-{last}\r\n\r\n").as_bytes());
            }
        }
    }
}

/// Splits `@WEIGHT` off, where digits follow the last `@` of the path.
fn split_weight(text: &str) -> (&str, u32) {
    if let Some((url, digits)) = text.rsplit_once('@') {
        let path_begins = url.find("://").map_or(0, |scheme| scheme + 3);
        if url[path_begins..].contains('/')
            && let Ok(weight) = digits.parse()
        {
            return (url, weight);
        }
    }
    (text, 1)
}

fn http_request(url: &Url, persistence: Persistence) -> Vec<u8> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let close = match persistence {
        Persistence::KeepAlive => "",
        Persistence::Close => "Connection: close\r\n",
    };
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let login = match (url.username(), url.password()) {
        ("", None) => String::new(),
        (name, password) => {
            let login = [decoded(name), decoded(password.unwrap_or_default())].join(&b':');
            format!("Authorization: Basic {}\r\n", STANDARD.encode(login))
        }
    };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: haul-load\r\n{login}{close}")
        .into_bytes()
}

fn address(
    url: &WeightedUrl,
    dialer: &Dialer,
    timeout: Duration,
    stop: &AtomicBool,
) -> Result<SocketAddr, TargetError> {
    let default_port = match url.wire {
        Wire::Http => url.url.port_or_known_default().unwrap_or(80),
        Wire::Name => NAME_PORT,
    };
    let port = url.url.port().unwrap_or(default_port);
    let host = url.url.host_str().unwrap_or_default();
    let zoned = match &url.zone {
        Some(zone) => format!("{}%{zone}", host.trim_matches(['[', ']'])),
        None => host.to_owned(),
    };
    let stops = || stop.load(Ordering::Relaxed);
    let address = dialer.address(&zoned, port, timeout, stops);
    address.map_err(|error| TargetError::Unresolvable {
        host: host.to_owned(),
        reason: error.to_string(),
    })
}

/// The default port of `haul serve`.
const NAME_PORT: u16 = 7788;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str, persistence: Persistence, range: Option<(u64, u64)>) -> String {
        let url: WeightedUrl = text.parse().expect("the test's URL is well-formed");
        let mut bytes = Vec::new();
        let (dialer, stop) = (Dialer::default(), AtomicBool::new(false));
        let target = Target::resolve(&url, persistence, &dialer, Duration::from_secs(60), &stop);
        let target = target.expect("a literal address resolves");
        target.write_request(range, &mut bytes);
        String::from_utf8(bytes).expect("the test's URLs are ASCII")
    }

    #[test]
    fn a_weight_follows_the_path() {
        let url: WeightedUrl = "http://127.0.0.1:80/a@3".parse().unwrap();
        assert_eq!(
            (url.to_string().as_str(), url.weight),
            ("http://127.0.0.1/a", 3)
        );
        let url: WeightedUrl = "127.0.0.1:8080/a@b".parse().unwrap();
        assert_eq!(
            (url.to_string().as_str(), url.weight),
            ("http://127.0.0.1:8080/a@b", 1)
        );
    }

    #[test]
    fn what_cannot_be_asked_for_is_said() {
        for text in ["http://h/a@0", "ftp://h/x", "http:///x y:z"] {
            let outcome = text.parse::<WeightedUrl>();
            assert!(
                matches!(outcome, Err(TargetError::Malformed { .. })),
                "{text}: {outcome:?}"
            );
        }
    }

    #[test]
    fn requests_are_composed_to_the_byte() {
        assert_eq!(
            request("http://127.0.0.1:81/a%20b?c", Persistence::KeepAlive, None),
            "GET /a%20b?c HTTP/1.1\r\nHost: 127.0.0.1:81\r\nUser-Agent: haul-load\r\n\r\n"
        );
        assert_eq!(
            request("http://127.0.0.1/a", Persistence::Close, Some((0, 9))),
            "GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: haul-load\r\nConnection: close\r\n\
             Range: bytes=0-9\r\n\r\n"
        );
        assert_eq!(
            request("http://me:a%20b@127.0.0.1/a", Persistence::KeepAlive, None),
            "GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: haul-load\r\n\
             Authorization: Basic bWU6YSBi\r\n\r\n"
        );
        assert_eq!(
            request("name://127.0.0.1/f", Persistence::Close, None),
            "f\n"
        );
        assert_eq!(
            request("name://127.0.0.1:1/a%20b", Persistence::Close, None),
            "a b\n"
        );
    }
}
