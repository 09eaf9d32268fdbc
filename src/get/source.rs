//! The addresses that `haul get` accepts.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::dial::split_zone;
use crate::http::query_secrets;

use super::names;

/// An address that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Over HTTP/1.1, through TLS or not.
    Http(HttpUrl),
    /// Over the name protocol.
    Name(NameUrl),
}

/// An `http` or `https` address with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    url: Url,
    /// The interface of a link-local address (RFC 4007), which is never sent to a server.
    zone: Option<String>,
}

/// A `name` address: the name goes to the server as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameUrl {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The file's name, 1 to 4,096 bytes.
    pub name: Vec<u8>,
}

/// Why an address cannot be fetched; the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress(String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::printable(&self.0))
    }
}

impl std::error::Error for BadAddress {}

impl std::str::FromStr for Source {
    type Err = BadAddress;

    /// Parses `http://…`, `https://…`, `name://…`, or a bare `HOST[:PORT]/PATH`, which is HTTP.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        let explain = |why: &dyn fmt::Display| bad(text, why);
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // The parser of addresses would take the first directory for the host.
        if rest.starts_with(['/', '.']) {
            return Err(explain(&"it names no host: write HOST[:PORT]/PATH"));
        }
        if text == "-" {
            return Err(explain(
                &"no address: -o - is standard output, -i - a list of addresses",
            ));
        }
        if rest.len() == text.len() {
            let (scheme, rest) = text.split_once(':').unwrap_or_default();
            let is_scheme = ["http", "https", "name"]
                .iter()
                .any(|it| scheme.eq_ignore_ascii_case(it));
            if is_scheme && !rest.starts_with(|first: char| first.is_ascii_digit()) {
                return Err(explain(&"write two slashes: http://HOST[:PORT]/PATH"));
            }
            return HttpUrl::parse(&format!("http://{text}")).map(Self::Http);
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => HttpUrl::parse(text).map(Self::Http),
            "name" => NameUrl::parse(text).map(Self::Name),
            _ => Err(explain(
                &"haul fetches https://, http:// and name:// addresses",
            )),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => url.fmt(f),
            Self::Name(url) => url.fmt(f),
        }
    }
}

impl HttpUrl {
    fn parse(text: &str) -> Result<Self, BadAddress> {
        let (bare, zone) = split_zone(text);
        let url = Url::parse(&bare).map_err(|why| bad(text, &why))?;
        Self::from_url(url, zone)
    }

    /// The address `HOST[:PORT]`, with `port` as the default.
    pub(super) fn with_default_port(text: &str, port: u16) -> Result<Self, BadAddress> {
        // `http` would drop a port of 80, so the address is read as one of a scheme without one.
        let (bare, _) = split_zone(&format!("socks://{text}"));
        let found = Url::parse(&bare).map_err(|why| bad(text, &why))?;
        let mut url = Self::parse(&format!("http://{text}"))?;
        let _ = url.url.set_port(Some(found.port().unwrap_or(port)));
        Ok(url)
    }

    fn from_url(mut url: Url, zone: Option<String>) -> Result<Self, BadAddress> {
        url.set_fragment(None);
        match (url.scheme(), url.has_host()) {
            ("http" | "https", true) => Ok(Self { url, zone }),
            _ => Err(bad(url.as_str(), &"not an http:// or https:// address")),
        }
    }

    /// The path as bytes, a component at a time: `%7E` is `~`, but `%2F` parts nothing.
    pub(super) fn components(&self) -> impl Iterator<Item = Vec<u8>> {
        let path = self.url.path().split('/').skip(1);
        path.map(|component| percent_decode_str(component).collect())
    }

    /// Resolves `reference`, a `Location` or a link, against this address. Credentials stay with
    /// the host they were given for, and those in `reference` are dropped.
    ///
    /// # Errors
    /// [`BadAddress`] when it is no address, or one that leaves HTTP.
    pub fn join(&self, reference: &str) -> Result<Self, BadAddress> {
        let mut url = self.url.join(reference).map_err(|why| {
            let reference = without_credentials(reference);
            BadAddress(format!(
                "{self} leads to {reference}, which is no address: {why}"
            ))
        })?;
        let keeps = url.origin() == self.url.origin();
        let (user, password) = if keeps {
            (self.url.username(), self.url.password())
        } else {
            ("", None)
        };
        // These fail only for addresses without a host, which `from_url` refuses.
        let _ = url.set_username(user);
        let _ = url.set_password(password);
        let zone = self.zone.clone().filter(|_| url.host() == self.url.host());
        Self::from_url(url, zone).map_err(|why| BadAddress(format!("{self} leads to {}", why.0)))
    }

    /// The host to connect to, with the zone of its address.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match (&self.zone, host.strip_suffix(']')) {
            (Some(zone), Some(host)) => format!("{host}%{zone}]"),
            _ => host.to_owned(),
        }
    }

    /// The whole address, to resolve and compare.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same path with a slash behind it.
    pub(super) fn as_directory(&self) -> Self {
        let mut url = self.url.clone();
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        Self {
            url,
            zone: self.zone.clone(),
        }
    }

    /// The same path with another query.
    pub(super) fn with_query(&self, query: Option<&str>) -> Self {
        let mut url = self.url.clone();
        url.set_query(query);
        Self {
            url,
            zone: self.zone.clone(),
        }
    }

    /// Whether the server is spoken to through TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host and port of the `Host` field: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Path and query for a request line.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    /// The absolute form for a proxy, without credentials.
    pub(super) fn absolute(&self) -> String {
        let (scheme, authority) = (self.url.scheme(), self.authority());
        format!("{scheme}://{authority}{}", self.path_and_query())
    }

    /// The address for a state file: as displayed, with a digest of the whole where that omits
    /// something.
    pub(super) fn recorded(&self) -> String {
        let shown = self.to_string();
        match self.url.query() {
            Some(query) if query_secrets::redact(query) != query => {
                let digest = blake3::hash(self.absolute().as_bytes()).to_hex();
                format!("{shown}#{}", &digest[..16])
            }
            _ => shown,
        }
    }

    /// User name and password, decoded, `user:password`.
    #[must_use]
    pub fn credentials(&self) -> Option<Vec<u8>> {
        if self.url.username().is_empty() && self.url.password().is_none() {
            return None;
        }
        let mut pair: Vec<u8> = percent_decode_str(self.url.username()).collect();
        pair.push(b':');
        pair.extend(percent_decode_str(self.url.password().unwrap_or_default()));
        Some(pair)
    }
}

impl fmt::Display for HttpUrl {
    /// Without credentials: this goes to terminals and logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = (self.url.scheme(), self.url.path());
        let port = self.url.port();
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let host = self.host().replace('%', "%25");
        write!(f, "{scheme}://{host}{port}{path}")?;
        match self.url.query() {
            Some(query) => write!(f, "?{}", query_secrets::redact(query)),
            None => Ok(()),
        }
    }
}

impl NameUrl {
    /// The address of `name` at `host`, which may be an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// [`BadAddress`] when there is no host, or the name is empty or over 4,096 bytes.
    pub fn new(host: &str, port: u16, name: Vec<u8>) -> Result<Self, BadAddress> {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(BadAddress("the server's address is missing".to_owned()));
        }
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(BadAddress(format!(
                "a name has 1 to {MAX_NAME_BYTES} bytes"
            )));
        }
        if name.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err(BadAddress(
                "a name cannot carry line ends or NUL".to_owned(),
            ));
        }
        Ok(Self { host, port, name })
    }

    fn parse(text: &str) -> Result<Self, BadAddress> {
        let explain = |why: &dyn fmt::Display| bad(text, why);
        // Only the authority is parsed as an address: a bare name may contain any marks and dots,
        // and is sent as it is.
        let host = text.find("://").map_or(0, |at| at + "://".len());
        let end = text[host..].find('/').map_or(text.len(), |at| host + at);
        let (bare, zone) = split_zone(&text[..end]);
        let url = Url::parse(&bare).map_err(|why| explain(&why))?;
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = zone.map_or_else(|| host.to_owned(), |zone| format!("{host}%{zone}"));
        let name = percent_decode_str(text[end..].trim_start_matches('/')).collect();
        Self::new(&host, url.port().unwrap_or(HAUL_PORT), name).map_err(|why| explain(&why.0))
    }
}

impl fmt::Display for NameUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        let host = &self.host;
        let brackets = if host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let host = host.replace('%', "%25");
        write!(
            f,
            "name://{}{host}{}:{}/{name}",
            brackets.0, brackets.1, self.port
        )
    }
}

fn bad(address: &str, why: &dyn fmt::Display) -> BadAddress {
    BadAddress(format!("{}: {why}", without_credentials(address)))
}

/// `address` with `***` for what may be a user name and a password, or a secret in its query. The
/// text need not be well-formed, so everything before the last `@` counts.
#[must_use]
pub fn without_credentials(address: &str) -> Cow<'_, str> {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let shown = match address[start..].rsplit_once('@') {
        Some((_, rest)) => Cow::Owned(format!("{}***@{rest}", &address[..start])),
        None => Cow::Borrowed(address),
    };
    match shown.split_once('?') {
        Some((before, query)) => Cow::Owned(format!("{before}?{}", query_secrets::redact(query))),
        None => shown,
    }
}

/// The default port of `haul serve`.
pub const HAUL_PORT: u16 = 7788;
const MAX_NAME_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> HttpUrl {
        match text.parse() {
            Ok(Source::Http(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn bare_addresses_are_http() {
        for text in ["localhost:7788/a b", "http://localhost:7788/a%20b"] {
            assert_eq!(http(text).to_string(), "http://localhost:7788/a%20b");
        }
        assert_eq!(http("[::1]:8/x?y=1#z").to_string(), "http://[::1]:8/x?y=1");
        assert_eq!(http("example.org/x").port(), 80);
    }

    #[test]
    fn a_path_is_no_address() {
        for text in ["/srv/x.meta4", "./x", "../x", "http:///x", "name:///x", "."] {
            let refused = text.parse::<Source>().expect_err(text).to_string();
            assert!(refused.contains("it names no host"), "{refused}");
        }
        for text in ["http:/h/x", "HTTPS:h/x", "-"] {
            text.parse::<Source>().expect_err(text);
        }
        assert_eq!(http("http:80/x").authority(), "http");
    }

    #[test]
    fn zones_are_for_connecting_only() {
        for text in [
            "http://[fe80::1%25eth0]:8/x",
            "[fe80::1%eth0]:8/x",
            "http://[fe80::1%eth0]:8/x",
        ] {
            let url = http(text);
            assert_eq!(url.host(), "[fe80::1%eth0]");
            assert_eq!(url.authority(), "[fe80::1]:8");
            assert_eq!(url.to_string(), "http://[fe80::1%25eth0]:8/x");
            assert_eq!(http(&url.to_string()), url);
            assert_eq!(url.join("/y").unwrap().host(), "[fe80::1%eth0]");
            let elsewhere = url.join("http://[fe80::2]/").unwrap();
            assert_eq!(elsewhere.host(), "[fe80::2]");
            // Which interfaces are here is no server's business.
            assert!(url.join("http://[fe80::1%25eth1]/").is_err());
        }
        let Ok(Source::Name(url)) = "name://[fe80::1%25eth0]/f".parse() else {
            panic!()
        };
        assert_eq!(url.host, "fe80::1%eth0");
        assert_eq!(url.to_string(), "name://[fe80::1%25eth0]:7788/f");
    }

    #[test]
    fn names_go_as_they_are() {
        let Ok(Source::Name(url)) = "name://[::1]/dir/a%20b".parse() else {
            panic!()
        };
        assert_eq!(
            (url.host.as_str(), url.port, url.name.as_slice()),
            ("::1", 7788, &b"dir/a b"[..])
        );
        for (text, name) in [
            ("name://h/why?.txt", "why?.txt"),
            ("name://h/a#1/../b?c=d", "a#1/../b?c=d"),
            ("name://h:1//x", "x"),
        ] {
            assert!(
                matches!(text.parse(), Ok(Source::Name(url)) if url.name == name.as_bytes()),
                "{text}"
            );
        }
        assert!("name://host".parse::<Source>().is_err());
        assert!("name://host/".parse::<Source>().is_err());
        assert!("name://host/a%0Ab".parse::<Source>().is_err());
    }

    #[test]
    fn what_cannot_be_fetched_says_what_to_do() {
        assert!("ftp://example.org/x".parse::<Source>().is_err());
        assert!("http://".parse::<Source>().is_err());
    }

    #[test]
    fn no_message_has_a_password() {
        for text in [
            "https://user:secret@h:99999/x",
            "http://user:secret@h:99999/x",
            "http://user:sec/ret@h:port/x",
            "user:secret@h:99999/x",
            "ftp://secret@h/x",
            "name://u:secret@h:99999/x",
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(!error.contains("sec"), "{error}");
        }
        let from = http("http://me:secret@one.example/x");
        for reference in ["ftp://me:secret@two.example/", "https://me:secret@h:99999/"] {
            let error = from.join(reference).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn credentials_never_cross_hosts() {
        let from = http("http://me:secret@one.example/x");
        assert_eq!(from.credentials().unwrap(), b"me:secret");
        assert!(from.join("/y").unwrap().credentials().is_some());
        assert!(
            from.join("http://two.example/y")
                .unwrap()
                .credentials()
                .is_none()
        );
        assert!(
            from.join("http://one.example:81/y")
                .unwrap()
                .credentials()
                .is_none()
        );
        assert!(
            from.join("http://a:b@two.example/y")
                .unwrap()
                .credentials()
                .is_none()
        );
        let secure = from.join("https://one.example/y").unwrap();
        assert!(secure.is_secure() && secure.credentials().is_none());
        assert_eq!(
            (secure.port(), secure.authority().as_str()),
            (443, "one.example")
        );
        let back = http("https://me:secret@one.example/").join("http://one.example/");
        assert!(back.unwrap().credentials().is_none());
        assert!(!from.to_string().contains("secret"));
    }
}
