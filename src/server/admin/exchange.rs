//! A request and its answer, on a connection that ends with it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use crate::http::parse::{Parsed, parse_request};
use crate::http::policy::HttpLimits;
use crate::http::{BodyLength, Method, MetricsFormat, Request};

/// A client's request.
pub(super) enum Asked {
    /// The client sent nothing.
    Nothing,
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

/// Reads a request until `ends`. With `Names` a `Host` that is no address of this host is refused:
/// a page from elsewhere may have a name that resolves to it (DNS rebinding).
pub(super) fn read_request(
    mut stream: &TcpStream,
    ends: Instant,
    names_matter: bool,
) -> io::Result<Asked> {
    let limits = HttpLimits::default();
    let (mut head, mut scanned) = (Vec::new(), 0);
    loop {
        let mut buffer = [0; 1024];
        stream.set_read_timeout(Some(left_until(ends)?))?;
        let count = match stream.read(&mut buffer) {
            Ok(0) if head.is_empty() => return Ok(Asked::Nothing),
            Ok(0) => return Ok(Asked::Wrong(400)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&buffer[..count]);
        match parse_request(&head, scanned, &limits) {
            Parsed::Complete { request, .. } => return Ok(asked(request, names_matter)),
            Parsed::Malformed(_) => return Ok(Asked::Wrong(400)),
            Parsed::Partial { scanned: so_far } => scanned = so_far,
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

    /// Sends the response, until `ends` at the latest.
    pub(super) fn send(
        &self,
        mut stream: &TcpStream,
        has_content: bool,
        ends: Instant,
    ) -> io::Result<()> {
        let mut bytes = format!(
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
            bytes.push_str(&self.content);
        }
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            stream.set_write_timeout(Some(left_until(ends)?))?;
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn left_until(ends: Instant) -> io::Result<std::time::Duration> {
    let left = ends.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
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
