//! The grant of a link, and the bytes of it that are signed.

use ipnet::IpNet;

/// The grant of a link: its paths, its clients, its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGrant<'a> {
    /// The canonical path from the root: decoded, no dot segments, no empty components.
    pub path: &'a [u8],
    /// Whether it opens that path alone.
    pub scope: Scope,
    /// In seconds since 1970.
    pub expires: u64,
    /// The clients that may use it; `None` for all.
    pub client: Option<IpNet>,
}

/// How much a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file or directory at the path.
    Path,
    /// The path and the tree beneath it.
    Subtree,
}

impl LinkGrant<'_> {
    /// The signed bytes. The path, whose length varies, is last.
    pub(super) fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(VERSION.len() + 28 + self.path.len());
        message.extend_from_slice(VERSION);
        message.extend_from_slice(&self.expires.to_be_bytes());
        message.push(match self.scope {
            Scope::Path => 0,
            Scope::Subtree => 1,
        });
        let (family, prefix, address) = match self.client {
            None => (0, 0, 0),
            Some(IpNet::V4(net)) => (4, net.prefix_len(), u128::from(net.addr().to_bits())),
            Some(IpNet::V6(net)) => (6, net.prefix_len(), net.addr().to_bits()),
        };
        message.extend_from_slice(&[family, prefix]);
        message.extend_from_slice(&address.to_be_bytes());
        message.extend_from_slice(self.path);
        message
    }
}

/// How many components a canonical path has.
pub(super) fn depth_of(path: &[u8]) -> usize {
    match path {
        b"" => 0,
        _ => memchr::memchr_iter(b'/', path).count() + 1,
    }
}

/// Distinguishes this encoding from later ones, and from other uses of the keys.
const VERSION: &[u8] = b"haul link 1\0";
