//! Clients: which client a connection belongs to, the bytes each was sent, and what it holds.
//!
//! Shares, rates and limits go by client, not by connection, so that opening sixteen connections
//! gains nothing. A client is an IPv4 address or an IPv6 /64, which is what one host gets at the
//! least. A /64 may also be a network of many hosts: its addresses are counted one by one as well.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::server::rate_limit::RateLimit;
use crate::sys::peer::Peer;

/// A client, or an address of an IPv6 network; shared by its connections.
#[derive(Debug)]
pub(crate) struct ClientShare {
    id: u64,
    /// Bytes of service, by all workers.
    served: AtomicU64,
    connections: AtomicUsize,
    rate: RateLimit,
}

impl ClientShare {
    /// A unique number.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Bytes of service so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Counts service, in bytes.
    pub(crate) fn charge(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Connections open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The rate of all its connections together.
    pub(crate) fn rate(&self) -> &RateLimit {
        &self.rate
    }
}

/// Clients with an open connection, or ahead of their rate.
#[derive(Debug, Default)]
pub(crate) struct ClientShares {
    known: Mutex<KnownClients>,
}

/// The identity of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    /// An address; of IPv6 its /64 is the client.
    Address(IpAddr),
    /// A user of this host, over a Unix socket.
    User(u32),
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl From<Peer> for ClientKey {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Inet(address) => address.ip().into(),
            Peer::Unix { uid } => Self::User(uid),
        }
    }
}

#[derive(Debug, Default)]
struct KnownClients {
    /// The client's limit in bytes a second.
    rate: Option<u64>,
    clients: HashMap<ClientKey, Arc<ClientShare>>,
    /// Addresses within IPv6 networks.
    addresses: HashMap<IpAddr, Arc<ClientShare>>,
    next_id: u64,
    sweep_at: usize,
}

impl KnownClients {
    fn share(&mut self, rate: Option<u64>, now: Instant) -> Arc<ClientShare> {
        self.next_id += 1;
        Arc::new(ClientShare {
            id: self.next_id,
            served: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            rate: RateLimit::new(rate, now),
        })
    }

    /// Forgets clients without connections and debt, at a cost that is spread over new connections.
    fn sweep(&mut self, now: Instant) {
        let is_used =
            |share: &Arc<ClientShare>| Arc::strong_count(share) > 1 || share.rate().is_in_debt(now);
        self.clients.retain(|_, share| is_used(share));
        self.addresses.retain(|_, share| is_used(share));
        self.sweep_at = (self.len() * 2).max(MIN_SWEEP);
    }

    fn len(&self) -> usize {
        self.clients.len() + self.addresses.len()
    }
}

impl ClientShares {
    /// Clients that may each have so many bytes a second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            known: Mutex::new(KnownClients {
                rate,
                ..KnownClients::default()
            }),
        }
    }

    /// Sets the clients' limit, also for present ones.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.rate = rate;
        for share in known.clients.values() {
            share.rate.set(rate);
        }
    }

    /// The clients that have most connections, and how many.
    pub(crate) fn busiest(&self) -> Vec<(u64, usize)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let all = known.clients.values();
        let mut all: Vec<_> = all.map(|share| (share.id, share.connections())).collect();
        drop(known);
        all.sort_unstable_by_key(|&(id, connections)| (Reverse(connections), id));
        all.truncate(BUSIEST);
        all
    }

    /// Counts a new connection to its client; [`ShareHandle`] counts it off.
    pub(crate) fn join(&self, key: impl Into<ClientKey>) -> ShareHandle {
        let (key, now) = (key.into(), Instant::now());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        if known.len() >= known.sweep_at {
            known.sweep(now);
        }
        let network = network_of(key);
        let client = known.clients.get(&network).map(Arc::clone);
        let client = client.unwrap_or_else(|| {
            let share = known.share(known.rate, now);
            known.clients.insert(network, Arc::clone(&share));
            share
        });
        let within = match key {
            ClientKey::Address(address @ IpAddr::V6(_)) => {
                let share = known.addresses.get(&address).map(Arc::clone);
                Some(share.unwrap_or_else(|| {
                    let share = known.share(None, now);
                    known.addresses.insert(address, Arc::clone(&share));
                    share
                }))
            }
            ClientKey::Address(IpAddr::V4(_)) | ClientKey::User(_) => None,
        };
        client.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(within) = &within {
            within.connections.fetch_add(1, Ordering::Relaxed);
        }
        ShareHandle { client, within }
    }
}

/// A connection's part in its client; counted off when dropped.
#[derive(Debug)]
pub(crate) struct ShareHandle {
    client: Arc<ClientShare>,
    /// The address, where the client is a network.
    within: Option<Arc<ClientShare>>,
}

impl ShareHandle {
    /// The client.
    pub(crate) fn client(&self) -> &Arc<ClientShare> {
        &self.client
    }

    /// The address within the client; the client itself where that is an address.
    pub(crate) fn address(&self) -> &ClientShare {
        self.within.as_ref().unwrap_or(&self.client)
    }
}

impl Drop for ShareHandle {
    fn drop(&mut self) {
        self.client.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(within) = &self.within {
            within.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The key of the client: the user, the address itself, or the IPv6 /64.
pub(super) fn network_of(key: ClientKey) -> ClientKey {
    match key {
        ClientKey::Address(IpAddr::V6(address)) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            ClientKey::Address(IpAddr::V6(Ipv6Addr::from_bits(network)))
        }
        ClientKey::Address(IpAddr::V4(_)) | ClientKey::User(_) => key,
    }
}

const MIN_SWEEP: usize = 64;

/// Clients that are searched for unused connections.
const BUSIEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(clients: &ClientShares, address: &str) -> ShareHandle {
        clients.join(address.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        let clients = ClientShares::default();
        let same = |a: &str, b: &str| {
            let (a, b) = (member(&clients, a), member(&clients, b));
            a.client().id() == b.client().id()
        };
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn connections_are_counted_off() {
        let clients = ClientShares::default();
        let first = member(&clients, "10.0.0.1");
        let second = member(&clients, "10.0.0.1");
        assert_eq!(first.client().connections(), 2);
        drop(second);
        assert_eq!(first.client().connections(), 1);
    }

    #[test]
    fn the_addresses_of_a_network_are_counted_one_by_one_as_well() {
        let clients = ClientShares::default();
        let first = member(&clients, "2001:db8::1");
        let second = member(&clients, "2001:db8::2");
        assert_eq!(first.client().connections(), 2);
        assert_eq!(first.address().connections(), 1);
        drop(second);
        assert_eq!(first.client().connections(), 1);
    }

    #[test]
    fn a_client_that_has_left_is_remembered_until_its_rate_is_paid_for() {
        let clients = ClientShares::new(Some(1));
        let debtor = member(&clients, "10.0.0.1");
        debtor.client().rate().charge(3600, Instant::now());
        let id = debtor.client().id();
        let other = member(&clients, "10.0.0.2").client().id();
        drop(debtor);
        clients
            .known
            .lock()
            .expect("not poisoned")
            .sweep(Instant::now());
        assert_eq!(member(&clients, "10.0.0.1").client().id(), id);
        assert_ne!(member(&clients, "10.0.0.2").client().id(), other);
    }
}
