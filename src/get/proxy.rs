//! `http_proxy` and `no_proxy`: whether a request goes to its host or through a proxy.

use super::source::{BadAddress, HttpUrl, Source};

/// The proxies of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    proxy: Option<HttpUrl>,
    direct: Vec<String>,
}

impl Proxies {
    /// Reads `http_proxy` and `no_proxy` through `variable`.
    ///
    /// `HTTP_PROXY` in capitals is not read: to a CGI program that is a field of the request.
    ///
    /// # Errors
    /// [`BadAddress`] when `http_proxy` is not an `http` address.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadAddress> {
        let proxy = match variable("http_proxy").filter(|text| !text.trim().is_empty()) {
            None => None,
            Some(text) => match text.parse()? {
                Source::Http(url) => Some(url),
                Source::Name(_) => None,
            },
        };
        let direct = variable("no_proxy")
            .or_else(|| variable("NO_PROXY"))
            .unwrap_or_default();
        let direct = direct
            .split(',')
            .map(|entry| entry.trim().to_ascii_lowercase());
        Ok(Self {
            proxy,
            direct: direct.filter(|entry| !entry.is_empty()).collect(),
        })
    }

    /// The proxy for `url`, or `None` for a direct connection.
    pub(super) fn for_url(&self, url: &HttpUrl) -> Option<&HttpUrl> {
        let proxy = self.proxy.as_ref()?;
        let host = url.url().host_str().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let direct = self
            .direct
            .iter()
            .any(|entry| is_covered(&host, url.port(), entry));
        (!direct).then_some(proxy)
    }
}

/// `entry` is `*`, a host, or a domain with or without its dot, and may end in a port.
fn is_covered(host: &str, port: u16, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    let bare = entry.trim_start_matches('[').replace(']', "");
    let entry = match bare.rsplit_once(':') {
        // More than one colon without a bracket: an IPv6 address, not a port.
        Some((name, digits)) if !name.contains(':') || entry.contains(']') => {
            match digits.parse::<u16>() {
                Ok(only) if entry.contains("]:") || !entry.contains(']') => {
                    if only != port {
                        return false;
                    }
                    name
                }
                _ => &bare,
            }
        }
        _ => &bare,
    };
    let domain = entry.trim_start_matches("*.").trim_start_matches('.');
    host == domain
        || host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_through(no_proxy: &str, url: &str) -> bool {
        let proxies = Proxies::from_environment(|name| match name {
            "http_proxy" => Some("proxy.example:3128".to_owned()),
            "no_proxy" => Some(no_proxy.to_owned()),
            _ => None,
        })
        .unwrap();
        let Ok(Source::Http(url)) = url.parse() else {
            panic!("{url}")
        };
        proxies.for_url(&url).is_some()
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
    }

    #[test]
    fn capitals_are_not_believed() {
        let proxies = Proxies::from_environment(|name| {
            (name == "HTTP_PROXY").then(|| "http://evil.example".to_owned())
        });
        assert_eq!(proxies, Ok(Proxies::default()));
    }
}
