//! A line whose items go round by client.

use std::collections::{HashMap, VecDeque};

use crate::server::client_share::ClientShare;

/// Items in round-robin order by client: one of each in turn. Bytes sent do not count here: a new
/// client with a flood of look-ups, which send next to nothing, would otherwise always precede a
/// client that was sent much.
#[derive(Debug)]
pub(super) struct RoundRobin<T> {
    /// By the client's number.
    items: HashMap<u64, VecDeque<T>>,
    turns: VecDeque<u64>,
    len: usize,
}

impl<T> Default for RoundRobin<T> {
    fn default() -> Self {
        Self {
            items: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> RoundRobin<T> {
    pub(super) fn push(&mut self, client: &ClientShare, item: T) {
        self.push_of(client.id(), item);
    }

    /// Puts an item of the client with that number in line.
    pub(super) fn push_of(&mut self, client: u64, item: T) {
        let items = self.items.entry(client).or_default();
        if items.is_empty() {
            self.turns.push_back(client);
        }
        items.push_back(item);
        self.len += 1;
    }

    /// Puts an item before all others of its client.
    pub(super) fn push_first(&mut self, client: &ClientShare, item: T) {
        let items = self.items.entry(client.id()).or_default();
        if items.is_empty() {
            self.turns.push_back(client.id());
        }
        items.push_front(item);
        self.len += 1;
    }

    /// The next item, and the number of its client.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let client = self.turns.pop_front()?;
        let items = self.items.get_mut(&client)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.items.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.len -= 1;
        Some((client, item))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
