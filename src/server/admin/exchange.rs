//! A request of the admin interface, and its answer.

use std::net::IpAddr;

use crate::http::parse::{Parsed, parse_request};
use crate::http::policy::HttpLimits;
use crate::http::{BodyLength, Method, MetricsFormat, Request};

/// A client's request.
pub(super) enum Asked {
    /// The request has no other answer than this status.
    Wrong(u16),
    /// A path without its leading slash, and the format of metrics.
    For {
        path: Vec<u8>,
        metrics: MetricsFormat,
        has_content: bool,
    },
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    policy: &'static str,
    content: String,
}

/// The request in `head`, of which `scanned` bytes hold no end; `None` while it is incomplete. If
/// `names_matter`, a `Host` that is no address of this host is refused: a page from elsewhere may
/// have a name that resolves to it (DNS rebinding).
pub(super) fn parse(head: &[u8], scanned: &mut usize, names_matter: bool) -> Option<Asked> {
    match parse_request(head, *scanned, &HttpLimits::default()) {
        Parsed::Complete { request, .. } => Some(asked(request, names_matter)),
        Parsed::Malformed(_) => Some(Asked::Wrong(400)),
        Parsed::Partial { scanned: so_far } => {
            *scanned = so_far;
            None
        }
    }
}

fn asked(request: Request, names_matter: bool) -> Asked {
    if names_matter && !request.host.as_deref().is_none_or(is_this_host) {
        return Asked::Wrong(421);
    }
    let has_content = match request.method {
        Method::Get => true,
        Method::Head => false,
        Method::Options | Method::Other => return Asked::Wrong(405),
    };
    if request.refusal.is_some() || request.body != BodyLength::Empty {
        return Asked::Wrong(400);
    }
    Asked::For {
        path: request.target.path,
        metrics: request.accept.metrics,
        has_content,
    }
}

/// Whether an authority names this host, independent of DNS.
fn is_this_host(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

impl Answer {
    pub(super) fn of(content_type: &'static str, content: String) -> Self {
        Self {
            status: 200,
            content_type,
            policy: "default-src 'none'",
            content,
        }
    }

    pub(super) fn text(content: &str) -> Self {
        Self::of("text/plain; charset=utf-8", content.to_owned())
    }

    /// A page with inline style and script, which fetches the rest from this server alone.
    pub(super) fn html(content: String) -> Self {
        Self {
            policy: "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                     connect-src 'self'; base-uri 'none'; form-action 'none'",
            ..Self::of("text/html; charset=utf-8", content)
        }
    }

    pub(super) fn unavailable(content: String) -> Self {
        Self {
            status: 503,
            ..Self::text(&content)
        }
    }

    pub(super) fn error(status: u16) -> Self {
        let content = format!("{status} {}\n", reason(status));
        Self {
            status,
            ..Self::text(&content)
        }
    }

    /// The response, without content for HEAD.
    pub(super) fn encode(&self, has_content: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             Content-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.content.len(),
            self.policy,
        );
        if has_content {
            text.push_str(&self.content);
        }
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        421 => "Misdirected Request",
        503 => "Service Unavailable",
        _ => "Bad Request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_this_host_and_names_are_not() {
        for host in [
            "127.0.0.1",
            "[::1]:9000",
            "localhost:1",
            "LOCALHOST",
            "10.0.0.1:80",
        ] {
            assert!(is_this_host(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9000",
            "localhost.evil.example",
            "",
        ] {
            assert!(!is_this_host(host), "{host}");
        }
    }
}
