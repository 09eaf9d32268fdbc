//! What the running kernel can do, by trying it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::sys::kernel_tls::calls::{attach, records_sent, set_keys};
use crate::sys::kernel_tls::keys::{Cipher, Direction, NONCE_BYTES, TrafficKeys, Version};
use crate::sys::socket;

/// The records that the kernel seals and opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelTls {
    /// By version, then by cipher.
    known: [[bool; Cipher::ALL.len()]; Version::ALL.len()],
    /// Whether a connection's keys can be changed (Linux 6.14).
    pub changes_keys: bool,
}

impl KernelTls {
    /// Whether the kernel knows these records.
    pub(crate) fn knows(&self, version: Version, cipher: Cipher) -> bool {
        self.known[version as usize][cipher as usize]
    }
}

#[cfg(test)]
impl KernelTls {
    /// A kernel that knows all.
    pub(crate) fn with_all(changes_keys: bool) -> Self {
        let known = [[true; Cipher::ALL.len()]; Version::ALL.len()];
        Self {
            known,
            changes_keys,
        }
    }
}

impl fmt::Display for KernelTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (version, name) in Version::ALL.into_iter().zip(["1.2", "1.3"]) {
            let known = Cipher::ALL.into_iter().zip(NAMES);
            let known = known.filter(|(cipher, _)| self.knows(version, *cipher));
            let known: Vec<_> = known.map(|(_, name)| name).collect();
            write!(formatter, "{name} with {}; ", or_none(&known.join(", ")))?;
        }
        formatter.write_str(match self.changes_keys {
            true => "keys can be changed",
            false => "keys cannot be changed",
        })
    }
}

const NAMES: [&str; Cipher::ALL.len()] = ["AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"];

fn or_none(list: &str) -> &str {
    if list.is_empty() { "nothing" } else { list }
}

/// Tries all that is needed on connections of this host to itself.
///
/// # Errors
/// The kernel has no TLS at all, or there is no loopback.
pub(crate) fn probe() -> io::Result<KernelTls> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut found = KernelTls::default();
    let mut fault = None;
    for version in Version::ALL {
        for cipher in Cipher::ALL {
            match try_out(&listener, version, cipher) {
                Ok(changes_keys) => {
                    found.known[version as usize][cipher as usize] = true;
                    found.changes_keys |= changes_keys;
                }
                Err(error) => fault = Some(error),
            }
        }
    }
    match fault {
        Some(fault) if found.known.iter().flatten().all(|known| !known) => Err(fault),
        _ => Ok(found),
    }
}

/// Fails unless a connection takes such keys; says whether it takes others then.
fn try_out(listener: &TcpListener, version: Version, cipher: Cipher) -> io::Result<bool> {
    let _far = TcpStream::connect(listener.local_addr()?)?;
    let (near, _) = listener.accept()?;
    attach(&near)?;
    let keys = TrafficKeys {
        version,
        cipher,
        key: [1; 32],
        nonce: [2; NONCE_BYTES],
        sequence: 3,
    };
    set_keys(&near, Direction::Send, &keys)?;
    set_keys(&near, Direction::Receive, &keys)?;
    if records_sent(&near, cipher)? != keys.sequence || socket::bytes_taken(&near).is_none() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(version == Version::Tls13 && set_keys(&near, Direction::Send, &keys).is_ok())
}
