//! Clients: who a connection belongs to, and what each has had and holds.
//!
//! Shares and limits go by client, not by connection, so that opening sixteen connections gains
//! nothing. A client is an IPv4 address or an IPv6 /64, which is what one host gets at the least.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One client; shared by its connections.
#[derive(Debug)]
pub(crate) struct ClientShare {
    id: u64,
    /// Virtual time: bytes of service; the fair queue goes by it.
    served: AtomicU64,
    connections: AtomicUsize,
    /// Transfers under way that share the client's rate.
    transfers: AtomicUsize,
}

impl ClientShare {
    /// A number of its own.
    #[must_use]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The client's virtual time.
    #[must_use]
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Charges service, in bytes.
    pub(crate) fn charge(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Brings the client's virtual time up to `now`, if it is behind, and returns it.
    #[must_use]
    pub(crate) fn catch_up(&self, now: u64) -> u64 {
        self.served.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Connections open.
    #[must_use]
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Transfers under way.
    #[must_use]
    pub(crate) fn transfers(&self) -> usize {
        self.transfers.load(Ordering::Relaxed)
    }

    /// A transfer begins. Returns how many there were before.
    pub(crate) fn begin_transfer(&self) -> usize {
        self.transfers.fetch_add(1, Ordering::Relaxed)
    }

    /// A transfer ends. Returns how many there were before.
    pub(crate) fn end_transfer(&self) -> usize {
        self.transfers.fetch_sub(1, Ordering::Relaxed)
    }
}

/// All clients that have a connection open.
#[derive(Debug, Default)]
pub(super) struct ClientShares {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_network: HashMap<IpAddr, Arc<ClientShare>>,
    next_id: u64,
    sweep_at: usize,
}

impl ClientShares {
    /// Counts a new connection from `address` to its client; [`ShareHandle`] counts it off.
    #[must_use]
    pub(super) fn enter(&self, address: IpAddr) -> ShareHandle {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        if known.by_network.len() >= known.sweep_at {
            // Whoever has left is forgotten, at a cost that is spread over the newcomers.
            known
                .by_network
                .retain(|_, client| Arc::strong_count(client) > 1);
            known.sweep_at = (known.by_network.len() * 2).max(MIN_SWEEP);
        }
        let client = known
            .by_network
            .entry(network_of(address))
            .or_insert_with(|| {
                known.next_id += 1;
                Arc::new(ClientShare {
                    id: known.next_id,
                    served: AtomicU64::new(0),
                    connections: AtomicUsize::new(0),
                    transfers: AtomicUsize::new(0),
                })
            });
        client.connections.fetch_add(1, Ordering::Relaxed);
        ShareHandle {
            client: Arc::clone(client),
        }
    }
}

/// A connection's part in its client; counted off when dropped.
#[derive(Debug)]
pub(crate) struct ShareHandle {
    client: Arc<ClientShare>,
}

impl ShareHandle {
    /// The client.
    #[must_use]
    pub(crate) fn client(&self) -> &Arc<ClientShare> {
        &self.client
    }
}

impl Drop for ShareHandle {
    fn drop(&mut self) {
        self.client.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What stands for the client: the address, the IPv4 address within an IPv6 one, or the /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

const MIN_SWEEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::fair_queue::FairQueue;

    fn member(clients: &ClientShares, address: &str) -> ShareHandle {
        clients.enter(address.parse().expect("an address"))
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
    fn sixteen_connections_get_no_more_than_one() {
        let clients = ClientShares::default();
        let (one, many) = (member(&clients, "10.0.0.1"), member(&clients, "10.0.0.2"));
        let mut queue = FairQueue::default();
        queue.push(one.client(), "one");
        for _ in 0..16 {
            queue.push(many.client(), "many");
        }
        let mut served = HashMap::new();
        for _ in 0..100 {
            let item = queue.pop().expect("all come back");
            *served.entry(item).or_insert(0) += 1;
            let client = if item == "one" {
                one.client()
            } else {
                many.client()
            };
            client.charge(2 << 20);
            queue.push(client, item);
        }
        assert_eq!(served["one"], 50);
        assert_eq!(served["many"], 50);
    }

    #[test]
    fn absence_earns_no_credit() {
        let clients = ClientShares::default();
        let (here, away) = (member(&clients, "10.0.0.1"), member(&clients, "10.0.0.2"));
        let mut queue = FairQueue::default();
        queue.push(here.client(), 'h');
        for _ in 0..10 {
            assert_eq!(queue.pop(), Some('h'));
            here.client().charge(100);
            queue.push(here.client(), 'h');
        }
        queue.push(away.client(), 'a');
        let mut order = String::new();
        for _ in 0..6 {
            let item = queue.pop().expect("both come back");
            order.push(item);
            let client = if item == 'h' {
                here.client()
            } else {
                away.client()
            };
            client.charge(100);
            queue.push(client, item);
        }
        assert_eq!(order.matches('a').count(), 3, "{order}");
    }
}
