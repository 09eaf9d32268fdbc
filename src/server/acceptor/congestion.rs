//! Congestion control, and peers that are better off without pacing.
//!
//! BBR paces what is sent: the kernel sets a timer for each burst. Loopback connections have no
//! link to congest, and the timers cost more than half of their throughput. Peers with loopback
//! addresses are on this host; all others count as remote.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::sys::peer::Peer;
use crate::sys::socket::{congestion_control, set_congestion_control};

/// The system's congestion control, where it is for peers on other hosts only.
#[derive(Debug)]
pub(crate) struct RemoteCongestion(Vec<u8>);

impl RemoteCongestion {
    /// Makes connections of all these listeners begin without pacing, where that applies. Opens a
    /// socket, so it has to precede the sandbox.
    pub(crate) fn unpace_loopbacks<'a>(
        listeners: impl IntoIterator<Item = &'a TcpListener>,
    ) -> Option<Self> {
        let unpaced = listeners.into_iter().map(Self::unpace_loopback);
        unpaced.fold(None, |congestion, other| other.or(congestion))
    }

    /// Makes connections begin without pacing if the system's congestion control (tcp(7)) paces,
    /// and if it can be set again on a connection.
    fn unpace_loopback(listener: &TcpListener) -> Option<Self> {
        let usual = Self(congestion_control(listener).ok()?);
        if !PACING.iter().any(|name| usual.0.starts_with(name)) {
            return None;
        }
        // Not on the listener itself: it must not be left with the one if the other is not allowed.
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        for name in [UNPACED, &usual.0] {
            set_congestion_control(&probe, name).ok()?;
        }
        set_congestion_control(listener, UNPACED).ok()?;
        Some(usual)
    }

    /// Gives the system's congestion control to a new connection, unless its peer is on this host.
    pub(super) fn apply(&self, stream: &TcpStream, peer: Peer) {
        // The route to the peer may set another congestion control (ip-route(8)).
        let is_spared = || congestion_control(stream).is_ok_and(|name| name == UNPACED);
        if !peer.is_on_this_host() && is_spared() {
            // The listener was allowed it. Without it, the peer has the one that most have.
            let _ = set_congestion_control(stream, &self.0);
        }
    }
}

/// BBR in its versions.
const PACING: [&[u8]; 1] = [b"bbr"];

/// Linux's own default, which needs no privilege.
const UNPACED: &[u8] = b"cubic";

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// A listener with this congestion control, if the system has it, and what a peer gets.
    fn given(name: &[u8], peer: &str) -> Option<(bool, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        set_congestion_control(&listener, name).ok()?;
        let others = RemoteCongestion::unpace_loopback(&listener);
        let _far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (near, _) = listener.accept().expect("accepts");
        if let Some(others) = &others {
            let peer: std::net::IpAddr = peer.parse().expect("an address");
            others.apply(&near, std::net::SocketAddr::from((peer, 1)).into());
        }
        Some((others.is_some(), congestion_control(&near).expect("a name")))
    }

    #[test]
    fn peers_on_other_hosts_have_what_the_system_has() {
        for name in [&b"bbr"[..], b"cubic", b"reno"] {
            // Systems without BBR have no pacing to take away.
            for peer in ["192.0.2.1", "2001:db8::1"] {
                let given = given(name, peer);
                assert!(given.is_none_or(|(_, given)| given == name), "{peer}");
            }
        }
    }

    #[test]
    fn peers_on_this_host_are_not_paced() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            if let Some((spared, given)) = given(b"bbr", peer) {
                assert!(spared && given == UNPACED, "{peer}");
            }
            let (spared, given) = given(b"reno", peer).expect("everybody may use it");
            assert!(!spared && given == b"reno", "{peer}");
        }
    }
}
