//! The other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Inet(SocketAddr),
    /// Over a Unix socket: the user whose process connected (`SO_PEERCRED`, unix(7)).
    Unix {
        /// Its effective user.
        uid: u32,
    },
}

impl Peer {
    /// The address, of a peer that has one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }

    /// Whether it is on this host.
    #[must_use]
    pub fn is_on_this_host(&self) -> bool {
        self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Peer {
    /// `ADDRESS:PORT`, or `unix:UID`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Unix { uid } => write!(formatter, "unix:{uid}"),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}
