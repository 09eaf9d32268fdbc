//! The client that a proxy forwards for, by a field of its request: `X-Forwarded-For`, or
//! `Forwarded` (RFC 7239).
//!
//! A proxy appends its peer's address to the list; earlier elements are claims of the client. So
//! the list is read from its end, as long as the addresses are trusted proxies.

use std::net::{IpAddr, SocketAddr};

use crate::http::field_values::values;

/// The field that the proxies set; they leave the other one as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The client in the head of a well-formed request: the last address in the list that is no
/// proxy's; the first one if all are. `None` without a list, or if a proxy hides its peer.
pub(crate) fn client(
    head: &[u8],
    field: ForwardedField,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let (name, parse): (_, fn(&str) -> Option<IpAddr>) = match field {
        ForwardedField::XForwardedFor => ("x-forwarded-for", address),
        ForwardedField::Forwarded => ("forwarded", element),
    };
    let lines: Vec<&[u8]> = values(head, name).collect();
    let elements = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = None;
    for element in elements {
        let element = str::from_utf8(element.trim_ascii()).ok();
        let Some(found) = element.and_then(parse) else {
            // Addresses before an untrusted one are that one's claim.
            return client;
        };
        client = Some(found);
        if !is_proxy(found) {
            break;
        }
    }
    client
}

/// `for=…` among the pairs of an element of `Forwarded`.
fn element(element: &str) -> Option<IpAddr> {
    let mut pairs = element
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value.trim_matches('"'))
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let found = text
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()));
    let bare = || -> Option<IpAddr> { text.strip_prefix('[')?.strip_suffix(']')?.parse().ok() };
    found.ok().or_else(bare).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &str, field: ForwardedField) -> Option<String> {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
        let is_proxy = |ip: IpAddr| ip.to_string().starts_with("10.");
        client(head.as_bytes(), field, is_proxy).map(|ip| ip.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_s_is_the_client() {
        let found = |fields| found(fields, ForwardedField::XForwardedFor);
        let is = |fields, client: &str| assert_eq!(found(fields).as_deref(), Some(client));
        is("X-Forwarded-For: 192.0.2.1", "192.0.2.1");
        is(
            "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.2",
            "192.0.2.1",
        );
        is(
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1,10.0.0.2",
            "192.0.2.1",
        );
        is("X-Forwarded-For: 10.0.0.1, 10.0.0.2", "10.0.0.1");
        is("X-Forwarded-For: [2001:db8::1]:80", "2001:db8::1");
        is("X-Forwarded-For: 192.0.2.1:4711", "192.0.2.1");
        is("X-Forwarded-For: evil, 10.0.0.2", "10.0.0.2");
        assert_eq!(found("X-Forwarded-For: 192.0.2.1, evil"), None);
        assert_eq!(found("Forwarded: for=192.0.2.1"), None);
    }

    #[test]
    fn rfc_7239_section_4() {
        let found = |fields| found(fields, ForwardedField::Forwarded);
        let is = |fields, client: &str| assert_eq!(found(fields).as_deref(), Some(client));
        is(
            "Forwarded: For=\"[2001:db8:cafe::17]:4711\"",
            "2001:db8:cafe::17",
        );
        is(
            "Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43",
            "192.0.2.60",
        );
        is(
            "Forwarded: for=192.0.2.43, for=198.51.100.17",
            "198.51.100.17",
        );
        is(
            "Forwarded: proto=http; for=192.0.2.43, for=10.1.1.1",
            "192.0.2.43",
        );
        assert_eq!(found("Forwarded: for=_hidden"), None);
        assert_eq!(found("Forwarded: for=unknown"), None);
        assert_eq!(found("Forwarded: by=10.0.0.1"), None);
        assert_eq!(found("X-Forwarded-For: 192.0.2.1"), None);
    }
}
