//! Networks, and which peers belong to them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::sys::peer::Peer;

/// A network of trusted proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// All addresses that begin with so many bits of this one, as IPv6 addresses.
    Inet {
        /// An address; IPv4 is mapped.
        address: Ipv6Addr,
        /// Of 128.
        bits: u32,
    },
    /// The peer of a Unix socket.
    Unix,
}

impl Network {
    /// Whether a peer belongs to it.
    #[must_use]
    pub fn holds(&self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Unix, Peer::Unix { .. }) => true,
            (Self::Inet { .. }, Peer::Inet(address)) => self.holds_address(address.ip()),
            _ => false,
        }
    }

    /// Whether an address belongs to it.
    #[must_use]
    pub fn holds_address(&self, found: IpAddr) -> bool {
        match self {
            Self::Unix => false,
            Self::Inet { address, bits } => {
                let rest = 128 - bits;
                let cut = |address: Ipv6Addr| address.to_bits().checked_shr(rest).unwrap_or(0);
                cut(mapped(found)) == cut(*address)
            }
        }
    }
}

impl FromStr for Network {
    type Err = String;

    /// `ADDRESS`, `ADDRESS/BITS` or `unix`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let usage = || format!("`{text}` is no network; write 10.0.0.0/8, 2001:db8::/32 or unix");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| usage())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse::<u32>().map_err(|_| usage()))?;
        if bits > width {
            return Err(usage());
        }
        let bits = bits + 128 - width;
        let address = mapped(address);
        let network = Self::Inet { address, bits };
        let host_bits = u128::MAX.checked_shr(bits).unwrap_or(0);
        match address.to_bits() & host_bits {
            0 => Ok(network),
            _ => Err(format!(
                "`{text}` has bits behind its network; did you mean {network}?"
            )),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Inet { address, bits } = self else {
            return formatter.write_str("unix");
        };
        let network_bits = !u128::MAX.checked_shr(*bits).unwrap_or(0);
        let first = Ipv6Addr::from_bits(address.to_bits() & network_bits);
        match first.to_ipv4_mapped().filter(|_| *bits >= MAPPED_BITS) {
            Some(address) => write!(formatter, "{address}/{}", bits - MAPPED_BITS),
            None => write!(formatter, "{first}/{bits}"),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Of `::ffff:0:0/96` (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u32 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn addresses_belong_by_their_first_bits() {
        let holds = |text: &str, address: &str| {
            network(text).holds_address(address.parse().expect("an address"))
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.1", "192.0.2.1"));
        assert!(!holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("0.0.0.0/0", "255.255.255.255"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!network("::/0").holds(Peer::Unix { uid: 0 }));
        assert!(network("unix").holds(Peer::Unix { uid: 0 }));
    }

    #[test]
    fn what_is_no_network_is_said_to_be_none() {
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "10.1.0.0/8".parse::<Network>().expect_err("host bits");
        assert!(error.contains("10.0.0.0/8"), "{error}");
        for text in [
            "10.0.0.0/8",
            "2001:db8::/32",
            "::/0",
            "192.0.2.1/32",
            "unix",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}
