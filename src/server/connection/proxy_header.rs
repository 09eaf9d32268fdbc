//! The PROXY protocol, versions 1 and 2, as a receiver: the client behind a proxy.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The meaning of the first bytes of a proxy's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The header is not whole.
    Partial,
    /// A header of so many bytes.
    Whole {
        /// Its length; the client's bytes begin behind it.
        len: usize,
        /// The client; `None` for the proxy's own connections, as health checks, or an unknown one.
        client: Option<SocketAddr>,
    },
    /// No header, or an invalid one; the text is for the log.
    Malformed(&'static str),
}

/// Reads the header that `input` begins with. The outcome for more bytes never contradicts a decided
/// one for fewer.
#[must_use]
pub fn parse(input: &[u8]) -> ProxyHeader {
    let common = |signature: &[u8]| {
        let len = signature.len().min(input.len());
        input[..len] == signature[..len]
    };
    match input {
        _ if common(SIGNATURE_2) => parse_version_2(input),
        _ if common(SIGNATURE_1) => parse_version_1(input),
        _ => ProxyHeader::Malformed("the proxy sent no PROXY header"),
    }
}

/// `PROXY TCP4 CLIENT PROXY PORT PORT\r\n`, or `PROXY UNKNOWN …\r\n`.
fn parse_version_1(input: &[u8]) -> ProxyHeader {
    const MALFORMED: ProxyHeader = ProxyHeader::Malformed("a malformed PROXY line");
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(MAX_V1_BYTES)]) else {
        return match input.len() < MAX_V1_BYTES {
            true => ProxyHeader::Partial,
            false => MALFORMED,
        };
    };
    let line = input[..end].strip_suffix(b"\r");
    let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else {
        return MALFORMED;
    };
    let len = end + 1;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return ProxyHeader::Whole { len, client: None };
    }
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family? {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let addresses = address().zip(address());
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        // Other parsers read numbers with a sign or a leading zero differently.
        let is_plain = word == "0" || !word.starts_with(['+', '0']);
        word.parse().ok().filter(|_| is_plain)
    };
    let ports = port().zip(port());
    match (addresses.zip(ports), words.next()) {
        (Some(((client, _), (port, _))), None) => ProxyHeader::Whole {
            len,
            client: Some(SocketAddr::new(client.to_canonical(), port)),
        },
        _ => MALFORMED,
    }
}

/// The signature, version and command, family, length, and as many bytes.
fn parse_version_2(input: &[u8]) -> ProxyHeader {
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_2>() else {
        return ProxyHeader::Partial;
    };
    let [.., command, family, high, low] = *fixed;
    let behind = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_2 + behind;
    if command >> 4 != 2 {
        return ProxyHeader::Malformed("a PROXY header of an unknown version");
    }
    if len > MAX_V2_BYTES {
        return ProxyHeader::Malformed("a PROXY header that is too long");
    }
    let is_local = match command & 0xf {
        0 => true,
        1 => false,
        _ => return ProxyHeader::Malformed("a PROXY header with an unknown command"),
    };
    let Some(block) = rest.get(..behind) else {
        return ProxyHeader::Partial;
    };
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let client = match family {
        _ if is_local => None,
        TCP_OVER_IPV4 | UDP_OVER_IPV4 if block.len() >= 12 => {
            let address: [u8; 4] = block[..4].try_into().unwrap_or_default();
            Some(SocketAddr::new(IpAddr::from(address), port(8)))
        }
        TCP_OVER_IPV6 | UDP_OVER_IPV6 if block.len() >= 36 => {
            let address: [u8; 16] = block[..16].try_into().unwrap_or_default();
            // A client has one share and one set of limits, however its proxy spells it.
            let address = IpAddr::from(address).to_canonical();
            Some(SocketAddr::new(address, port(32)))
        }
        TCP_OVER_IPV4 | UDP_OVER_IPV4 | TCP_OVER_IPV6 | UDP_OVER_IPV6 => {
            return ProxyHeader::Malformed("a PROXY header too short for its addresses");
        }
        // Unix sockets and unspecified families have no address to log.
        _ => None,
    };
    ProxyHeader::Whole { len, client }
}

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line, with its end.
const MAX_V1_BYTES: usize = 107;
/// The length of the part before the addresses.
const FIXED_2: usize = 16;
/// With extensions; the addresses alone take 232.
pub(crate) const MAX_V2_BYTES: usize = 4096;
const TCP_OVER_IPV4: u8 = 0x11;
const UDP_OVER_IPV4: u8 = 0x12;
const TCP_OVER_IPV6: u8 = 0x21;
const UDP_OVER_IPV6: u8 = 0x22;

#[cfg(test)]
mod tests {
    use super::*;

    fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).expect("short");
        let mut header = SIGNATURE_2.to_vec();
        header.extend([command, family]);
        header.extend(len.to_be_bytes());
        header.extend(block);
        header
    }

    fn client(input: &[u8]) -> Option<SocketAddr> {
        match parse(input) {
            ProxyHeader::Whole { len, client } => {
                assert_eq!(len, input.len());
                client
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_of_version_1() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
        assert_eq!(client(line), "192.0.2.7:56324".parse().ok());
        let line = b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n";
        assert_eq!(client(line), "[2001:db8::7]:1".parse().ok());
        let line = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 0\r\n";
        assert_eq!(client(line), "192.0.2.7:1".parse().ok());
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(client(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
        for wrong in [
            &b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 1\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"GET / HTTP/1.1\r\n",
        ] {
            let text = String::from_utf8_lossy(wrong);
            assert!(matches!(parse(wrong), ProxyHeader::Malformed(_)), "{text}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert!(matches!(parse(&endless), ProxyHeader::Malformed(_)));
    }

    #[test]
    fn headers_of_version_2() {
        let block = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 187];
        let header = version_2(0x21, 0x11, &block);
        assert_eq!(client(&header), "192.0.2.7:56324".parse().ok());
        // Extensions behind the addresses are passed over.
        let extended = version_2(0x21, 0x11, &[&block[..], &[4, 0, 1, 0]].concat());
        assert_eq!(client(&extended), "192.0.2.7:56324".parse().ok());
        let mut block = [0; 36];
        block[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        (block[15], block[33]) = (7, 80);
        let header = version_2(0x21, 0x21, &block);
        assert_eq!(client(&header), "[2001:db8::7]:80".parse().ok());
        assert_eq!(client(&version_2(0x20, 0x11, &block)), None);
        let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[0; 20]].concat();
        let header = version_2(0x21, 0x21, &mapped);
        assert_eq!(client(&header), "192.0.2.7:0".parse().ok());
        assert_eq!(client(&version_2(0x20, 0, b"")), None);
        assert_eq!(client(&version_2(0x21, 0x31, &[0; 216])), None);
        for wrong in [
            version_2(0x21, 0x11, &[0; 11]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x11, 0x11, &[0; 12]),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; MAX_V2_BYTES]),
        ] {
            assert!(
                matches!(parse(&wrong), ProxyHeader::Malformed(_)),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_decision_stays_whatever_follows() {
        let inputs = [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n".to_vec(),
            b"PROXIES\r\n".to_vec(),
            b"\r\n\r\nGET /".to_vec(),
            [version_2(0x21, 0x11, &[1; 12]), b"GET /".to_vec()].concat(),
        ];
        for input in inputs {
            let mut decided = None;
            for len in 0..=input.len() {
                match (parse(&input[..len]), decided) {
                    (found, Some(before)) => assert_eq!(found, before, "{input:?} {len}"),
                    (ProxyHeader::Partial, None) => {}
                    (found, None) => decided = Some(found),
                }
            }
            assert!(decided.is_some(), "{input:?}");
        }
    }
}
