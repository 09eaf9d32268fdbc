//! Whether a request goes to its host or through a proxy, and which.

use std::net::IpAddr;

use crate::get::source::{self, HttpUrl, Source};

/// The proxy of the command line or the environment, and the hosts that go without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// A proxy that cannot be used matters only to a request that would go through it.
    plain: Option<Result<Proxy, String>>,
    /// For https.
    secure: Option<Result<Proxy, String>>,
    direct: Vec<Exception>,
}

/// A proxy that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Takes whole addresses in request lines (RFC 9112, 3.2.2), and makes tunnels for https.
    Http(HttpUrl),
    /// SOCKS5 (RFC 1928); the proxy resolves the server's name. The scheme here is `http`.
    Socks(HttpUrl),
}

impl Proxy {
    pub(crate) fn url(&self) -> &HttpUrl {
        match self {
            Self::Http(url) | Self::Socks(url) => url,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let socks = ["socks5h://", "socks5://"].into_iter().find_map(|scheme| {
            let head = text.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme)
                .then(|| &text[scheme.len()..])
        });
        let parsed = match socks {
            // The port that RFC 1928 gives to SOCKS, where none is given.
            Some(rest) => HttpUrl::with_default_port(rest, SOCKS_PORT).map(Self::Socks),
            None => match text.parse() {
                Ok(Source::Http(url)) if url.is_secure() => {
                    let text = source::without_credentials(text);
                    return Err(format!(
                        "{text} cannot be used as a proxy: haul speaks to proxies in plain http:// \
                         or socks5h://, through which https:// stays secret"
                    ));
                }
                Ok(Source::Http(url)) => Ok(Self::Http(url)),
                Ok(Source::Name(_)) => return Err("name:// is no proxy's address".to_owned()),
                Err(error) => Err(error),
            },
        };
        parsed.map_err(|_| {
            let text = source::without_credentials(text);
            format!("{text} cannot be used as a proxy: haul knows http:// and socks5h://")
        })
    }
}

impl Proxies {
    /// Reads the proxies through `variable`, unless the command line has `chosen` one:
    /// `http_proxy`; for https `https_proxy` or `HTTPS_PROXY`; else `all_proxy` or `ALL_PROXY`. An
    /// empty value means none. `no_proxy` or `NO_PROXY` has the exceptions.
    ///
    /// `HTTP_PROXY` in capitals is not read: to a CGI program that is a field of the request.
    #[must_use]
    pub fn new(chosen: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let proxy = |own: &[&str]| {
            let mut names = own.iter().chain(&["all_proxy", "ALL_PROXY"]);
            chosen
                .map(str::to_owned)
                .or_else(|| names.find_map(|name| variable(name).filter(|text| !text.is_empty())))
                .filter(|text| !text.trim().is_empty())
                .map(|text| Proxy::parse(&text))
        };
        let (plain, secure) = (
            proxy(&["http_proxy"]),
            proxy(&["https_proxy", "HTTPS_PROXY"]),
        );
        let direct = variable("no_proxy").or_else(|| variable("NO_PROXY"));
        let direct = direct.unwrap_or_default();
        Self {
            plain,
            secure,
            direct: direct
                .split([',', ' '])
                .filter_map(Exception::parse)
                .collect(),
        }
    }

    /// The proxy for `url`, or `None` for a direct connection.
    ///
    /// # Errors
    /// Why the one that is set cannot be used.
    pub(crate) fn for_url(&self, url: &HttpUrl) -> Result<Option<&Proxy>, &str> {
        let proxy = match url.is_secure() {
            true => &self.secure,
            false => &self.plain,
        };
        let Some(proxy) = proxy else {
            return Ok(None);
        };
        let host = bare(url.url().host_str().unwrap_or_default());
        if self.direct.iter().any(|it| it.covers(&host, url.port())) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(String::as_str)
    }
}

/// An entry of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// `None` matches any port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// An address and how many of its bits count.
    Network(IpAddr, u32),
    /// The domain and its subdomains.
    Domain(String),
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        // `[::1]:80` and `host:80` have a port, `::1` has none.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (entry.as_str(), None),
        };
        let host = bare(host);
        let (address, bits) = host
            .split_once('/')
            .map_or((host.as_str(), None), |(address, bits)| {
                (address, bits.parse().ok())
            });
        let hosts = match address.parse() {
            Ok(address) => Hosts::Network(address, bits.unwrap_or(u32::MAX)),
            Err(_) if host == "*" => Hosts::All,
            Err(_) => Hosts::Domain(host.trim_start_matches('*').trim_matches('.').to_owned()),
        };
        (hosts != Hosts::Domain(String::new())).then_some(Self { hosts, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Network(network, bits) => host
                    .parse()
                    .is_ok_and(|address| is_within(address, *network, *bits)),
                // The end of an address is no domain.
                Hosts::Domain(_) if host.parse::<IpAddr>().is_ok() => false,
                Hosts::Domain(domain) => host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let (address, network) = (address.to_bits(), network.to_bits());
            (u128::from(address), u128::from(network), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let ignored = width - bits.min(width);
    (address ^ network).checked_shr(ignored).unwrap_or(0) == 0
}

/// A host without the brackets of an IPv6 address and without the dot of the root.
fn bare(host: &str) -> String {
    host.replace(['[', ']'], "")
        .trim_end_matches('.')
        .to_ascii_lowercase()
}

const SOCKS_PORT: u16 = 1080;

#[cfg(test)]
mod tests {
    use super::*;

    fn http(url: &str) -> HttpUrl {
        match url.parse() {
            Ok(Source::Http(url)) => url,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(None, |wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn goes_through(no_proxy: &str, url: &str) -> bool {
        let set = [("http_proxy", "proxy.example:3128"), ("no_proxy", no_proxy)];
        proxies(&set).for_url(&http(url)).unwrap().is_some()
    }

    #[test]
    fn exceptions() {
        assert!(goes_through("", "http://a.example/"));
        for covered in [
            "*",
            "a.example",
            ".example",
            "example",
            "x, a.example",
            "a.example:80",
            "*.example",
        ] {
            assert!(!goes_through(covered, "http://A.example/"), "{covered}");
        }
        for other in ["b.example", "aa.example", "ample", "a.example:81"] {
            assert!(goes_through(other, "http://a.example/"), "{other}");
        }
        assert!(!goes_through("::1", "http://[::1]:9/"));
        assert!(!goes_through("[::1]:9", "http://[::1]:9/"));
        assert!(goes_through("[::1]:8", "http://[::1]:9/"));
        assert!(!goes_through("127.0.0.1", "http://127.0.0.1:9/"));
        for network in [
            "10.0.0.0/8",
            "10.1.2.0/24",
            "0.0.0.0/0",
            "fc00::/7,10.1.2.3",
        ] {
            assert!(!goes_through(network, "http://10.1.2.3/"), "{network}");
        }
        assert!(goes_through("10.0.0.0/8,::/0", "http://11.1.2.3/"));
        assert!(!goes_through("fc00::/7", "http://[fd00::1]/"));
    }

    #[test]
    fn capitals_are_not_believed() {
        let set = proxies(&[("HTTP_PROXY", "http://evil.example")]);
        assert_eq!(set, Proxies::default());
    }

    #[test]
    fn https_has_a_proxy_of_its_own() {
        let through = |variables: &[(&str, &str)], url| {
            let set = proxies(variables);
            let proxy = set.for_url(&http(url)).unwrap();
            proxy.map(|proxy| proxy.url().to_string())
        };
        let both = [
            ("http_proxy", "p:1"),
            ("https_proxy", "s:2"),
            ("all_proxy", "a:3"),
        ];
        assert_eq!(through(&both, "http://h/").as_deref(), Some("http://p:1/"));
        assert_eq!(through(&both, "https://h/").as_deref(), Some("http://s:2/"));
        let plain = [("http_proxy", "p:1")];
        assert_eq!(through(&plain, "https://h/"), None);
        let capitals = [("HTTPS_PROXY", "s:2")];
        assert!(through(&capitals, "https://h/").is_some());
        assert_eq!(
            through(&both[1..], "http://h/").as_deref(),
            Some("http://a:3/")
        );
        let set = Proxies::new(Some("https://proxy.example"), |_| None);
        assert!(set.for_url(&http("http://h/")).is_err());
    }

    #[test]
    fn an_odd_proxy_matters_only_where_it_would_be_used() {
        let set = [
            ("http_proxy", "gopher://u:secret@h"),
            ("no_proxy", "a.example"),
        ];
        let set = proxies(&set);
        assert_eq!(set.for_url(&http("a.example/x")), Ok(None));
        let why = set.for_url(&http("b.example/x")).unwrap_err();
        assert!(why.contains("gopher") && !why.contains("secret"), "{why}");
    }

    #[test]
    fn the_proxy_for_everything_may_speak_socks() {
        for name in ["all_proxy", "ALL_PROXY"] {
            let set = proxies(&[(name, "SOCKS5H://u:p@h")]);
            let Ok(Some(Proxy::Socks(url))) = set.for_url(&http("a.example/x")) else {
                panic!("{name}: {set:?}")
            };
            assert_eq!(
                (url.port(), url.credentials()),
                (1080, Some(b"u:p".to_vec()))
            );
        }
    }
}
