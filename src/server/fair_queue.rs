//! A queue that goes round by client: the one that had the least service is next.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): each client has a tag, a virtual time that
//! grows with the service it got; the smallest tag goes first. A client that returns starts at the
//! queue's current virtual time, so absence earns no credit.
//!
//! Each worker has one queue. A tag belongs to a client and a queue, since virtual times of
//! different queues cannot be compared; it grows with the client's service on all workers. The
//! addresses of an IPv6 network, which is one client, take turns within it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::server::client_share::{ClientShare, ShareHandle};
use crate::server::round_robin::RoundRobin;

/// Items in line, by client.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// By the client's number.
    flows: HashMap<u64, Flow<T>>,
    /// Tags and numbers of the clients that have items.
    order: BTreeSet<(u64, u64)>,
    /// The tag of the item served last.
    now: u64,
    forget_at: usize,
}

/// A client in this queue.
#[derive(Debug)]
struct Flow<T> {
    client: Arc<ClientShare>,
    tag: u64,
    /// The client's service anywhere when `tag` was right.
    served: u64,
    items: RoundRobin<T>,
}

impl<T> Flow<T> {
    fn current_tag(&self) -> u64 {
        self.tag + self.client.served().saturating_sub(self.served)
    }

    /// Brings the tag up to date, and to `least`.
    fn update(&mut self, least: u64) -> u64 {
        self.tag = self.current_tag().max(least);
        self.served = self.client.served();
        self.tag
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            order: BTreeSet::new(),
            now: 0,
            forget_at: MIN_FORGET,
        }
    }
}

impl<T> FairQueue<T> {
    /// Puts an item at the end of its client's line.
    pub(super) fn push(&mut self, share: &ShareHandle, item: T) {
        let (client, now) = (share.client(), self.now);
        if self.flows.len() >= self.forget_at {
            self.flows
                .retain(|_, flow| !flow.items.is_empty() || flow.current_tag() > now);
            self.forget_at = (self.flows.len() * 2).max(MIN_FORGET);
        }
        let flow = self.flows.entry(client.id()).or_insert_with(|| Flow {
            client: Arc::clone(client),
            tag: now,
            served: client.served(),
            items: RoundRobin::default(),
        });
        if flow.items.is_empty() {
            self.order.insert((flow.update(now), client.id()));
        }
        flow.items.push(share.address(), item);
    }

    /// Takes the next item of the client that had the least service.
    pub(super) fn pop(&mut self) -> Option<T> {
        // A client's tag may have grown since it was queued. Each iteration moves one client to its
        // right place, so the loop ends.
        loop {
            let (place, id) = self.order.pop_first()?;
            let flow = self.flows.get_mut(&id)?;
            let tag = flow.update(place);
            let is_next = |next: &(u64, u64)| tag == place || tag <= next.0;
            if !self.order.first().is_none_or(is_next) {
                self.order.insert((tag, id));
                continue;
            }
            self.now = self.now.max(tag);
            let item = flow.items.pop();
            if !flow.items.is_empty() {
                self.order.insert((tag, id));
            }
            return item.map(|(_, item)| item);
        }
    }

    /// Whether nothing is in line.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// Fewer clients that have no items are not worth the search for those to forget.
const MIN_FORGET: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client_share::ClientShares;

    const TURN: u64 = 2 << 20;

    /// Clients by their addresses, each with so many connections that always have more to send.
    struct Worker {
        queue: FairQueue<usize>,
        shares: Vec<ShareHandle>,
        turns: Vec<usize>,
    }

    impl Worker {
        fn new(shares: Vec<ShareHandle>) -> Self {
            let (queue, turns) = (FairQueue::default(), vec![0; shares.len()]);
            let mut worker = Self {
                queue,
                shares,
                turns,
            };
            for number in 0..worker.shares.len() {
                worker.queue.push(&worker.shares[number], number);
            }
            worker
        }

        fn add(&mut self, share: ShareHandle) {
            self.queue.push(&share, self.shares.len());
            self.shares.push(share);
            self.turns.push(0);
        }

        fn turn(&mut self) {
            let number = self.queue.pop().expect("all come back");
            self.turns[number] += 1;
            self.shares[number].client().charge(TURN);
            self.queue.push(&self.shares[number], number);
        }
    }

    fn share(clients: &ClientShares, address: &str) -> ShareHandle {
        clients.join(address.parse::<std::net::IpAddr>().expect("an address"))
    }

    #[test]
    fn sixteen_connections_get_no_more_than_one() {
        let clients = ClientShares::default();
        let mut worker = Worker::new(vec![share(&clients, "10.0.0.1")]);
        for _ in 0..16 {
            worker.add(share(&clients, "10.0.0.2"));
        }
        (0..160).for_each(|_| worker.turn());
        assert_eq!(worker.turns[0], 80);
        assert!(worker.turns[1..].iter().all(|&turns| turns == 5));
    }

    #[test]
    fn absence_earns_no_credit() {
        let clients = ClientShares::default();
        let mut worker = Worker::new(vec![share(&clients, "10.0.0.1")]);
        (0..100).for_each(|_| worker.turn());
        worker.add(share(&clients, "10.0.0.2"));
        (0..100).for_each(|_| worker.turn());
        assert_eq!(worker.turns[1], 50);
    }

    #[test]
    fn a_newcomer_has_its_share_at_queues_of_different_age() {
        let clients = ClientShares::default();
        let (h, y) = (share(&clients, "10.0.0.1"), share(&clients, "10.0.0.2"));
        let mut old = Worker::new(vec![h]);
        let mut young = Worker::new(vec![y, share(&clients, "10.0.0.2")]);
        (0..51_200).for_each(|_| old.turn());
        (0..512).for_each(|_| young.turn());
        old.add(share(&clients, "10.0.0.3"));
        young.add(share(&clients, "10.0.0.3"));
        let before = [old.turns[0], young.turns[0] + young.turns[1]];
        for _ in 0..300 {
            old.turn();
            young.turn();
        }
        // Three clients at two workers: two thirds of a worker's turns for each.
        let (h, y) = (old.turns[0], young.turns[0] + young.turns[1]);
        let had = [h - before[0], y - before[1], old.turns[1] + young.turns[2]];
        assert!(had.iter().all(|had| had.abs_diff(200) < 10), "{had:?}");
    }

    #[test]
    fn the_addresses_of_a_network_take_turns_within_its_share() {
        let clients = ClientShares::default();
        let mut worker = Worker::new(vec![
            share(&clients, "10.0.0.1"),
            share(&clients, "2001:db8::1"),
        ]);
        for _ in 0..8 {
            worker.add(share(&clients, "2001:db8::2"));
        }
        (0..160).for_each(|_| worker.turn());
        assert_eq!((worker.turns[0], worker.turns[1]), (80, 40));
    }

    #[test]
    fn clients_without_items_are_forgotten() {
        let clients = ClientShares::default();
        let mut queue = FairQueue::default();
        for number in 0..100_000_u32 {
            let client = clients.join(std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(
                number,
            )));
            queue.push(&client, number);
            assert_eq!(queue.pop(), Some(number));
        }
        assert!(queue.flows.len() <= MIN_FORGET && queue.is_empty());
    }
}
