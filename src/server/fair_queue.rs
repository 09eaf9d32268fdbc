//! A queue that goes round by client: whoever had the least service is next.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): each client has a virtual time that grows
//! with the service it got; the client with the smallest goes first. One that comes back from
//! being away starts at the queue's own virtual time, so absence earns no credit. The virtual
//! times live in the clients, so that several queues (one a worker) share them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::server::client_share::ClientShare;

/// Items in line, by client.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Clients that wait, by the virtual time at which they were put in line.
    line: BTreeMap<(u64, u64), Waiting<T>>,
    /// The key in `line` of each client that waits.
    places: std::collections::HashMap<u64, (u64, u64)>,
    /// The virtual time of the item served last.
    now: u64,
    len: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    client: Arc<ClientShare>,
    items: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            line: BTreeMap::new(),
            places: std::collections::HashMap::new(),
            now: 0,
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Puts an item at the end of its client's line.
    pub(super) fn push(&mut self, client: &Arc<ClientShare>, item: T) {
        self.len += 1;
        if let Some(place) = self.places.get(&client.id())
            && let Some(waiting) = self.line.get_mut(place)
        {
            waiting.items.push_back(item);
            return;
        }
        let place = (client.catch_up(self.now), client.id());
        self.places.insert(client.id(), place);
        let items = VecDeque::from([item]);
        self.line.insert(
            place,
            Waiting {
                client: Arc::clone(client),
                items,
            },
        );
    }

    /// Takes the next item of the client that had the least service.
    pub(super) fn pop(&mut self) -> Option<T> {
        // Others may have served a client since it got in line: put it where it belongs now.
        // Each round moves one client back to its true time, so this ends.
        loop {
            let (place, waiting) = self.line.pop_first()?;
            let served = waiting.client.served();
            if served > place.0
                && self
                    .line
                    .first_key_value()
                    .is_some_and(|(next, _)| next.0 < served)
            {
                let place = (served, place.1);
                self.places.insert(place.1, place);
                self.line.insert(place, waiting);
                continue;
            }
            return Some(self.take_from(served.max(place.0), place.1, waiting));
        }
    }

    fn take_from(&mut self, served: u64, id: u64, mut waiting: Waiting<T>) -> T {
        self.now = self.now.max(served);
        self.len -= 1;
        let item = waiting
            .items
            .pop_front()
            .expect("a client in line has an item");
        if waiting.items.is_empty() {
            self.places.remove(&id);
        } else {
            // Its time will have grown by the service it is about to get, which is charged to
            // the client; `pop` moves it back then.
            let place = (served, id);
            self.places.insert(id, place);
            self.line.insert(place, waiting);
        }
        item
    }

    /// Whether nobody waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
