//! The connections that a hot worker holds, by tokens that are never used twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::Instant;

use crate::server::connection::Connection;
use crate::sys::poller::{Interest, Poller};

/// When to look at which connection's deadline, the soonest first.
pub(super) type DeadlineQueue = BinaryHeap<Reverse<(Instant, u64)>>;

/// Connections by token. A token is a slot's number and how often the slot was used before.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    held: Option<Entry>,
}

/// A connection, and what its worker notes about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) connection: Box<Connection>,
    /// The poller watches it.
    pub(super) watched: bool,
    /// The connection is in the worker's queue.
    pub(super) queued: bool,
    /// When the worker will look at its deadline.
    pub(super) scheduled: Option<Instant>,
}

impl Entry {
    /// Watches the connection, so that its readiness is reported. A connection that never waits is
    /// never watched.
    pub(super) fn watch(
        &mut self,
        poller: &Poller,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let socket = self.connection.stream();
        if !self.watched {
            poller.watch(socket, token)?;
            self.watched = true;
        }
        poller.rearm(socket, token, interest)
    }

    /// Notes when to look at the connection's deadline, and returns whether that took a new entry.
    /// A deadline that moved back needs none: the old one finds that out.
    pub(super) fn schedule(&mut self, token: u64, deadlines: &mut DeadlineQueue) -> bool {
        let deadline = self.connection.deadline();
        let is_sooner = self.scheduled.is_none_or(|at| deadline < at);
        if is_sooner {
            self.scheduled = Some(deadline);
            deadlines.push(Reverse((deadline, token)));
        }
        is_sooner
    }
}

impl Table {
    /// Takes a connection in.
    pub(super) fn insert(&mut self, connection: Box<Connection>) -> u64 {
        let entry = Entry {
            connection,
            watched: false,
            queued: false,
            scheduled: None,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                held: None,
            });
            // Far fewer descriptors can be open.
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections")
        });
        let slot = &mut self.slots[number as usize];
        slot.held = Some(entry);
        token(number, slot.generation)
    }

    /// The connection of that token, if it is still here.
    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(number(token) as usize)?;
        if slot.generation != generation(token) {
            return None;
        }
        slot.held.as_mut()
    }

    /// Gives a connection away; its token is stale from now on.
    pub(super) fn remove(&mut self, token: u64) -> Option<Entry> {
        let slot = self.slots.get_mut(number(token) as usize)?;
        if slot.generation != generation(token) {
            return None;
        }
        let entry = slot.held.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        // A slot that has been used four billion times is retired: tokens are never repeated.
        if slot.generation != 0 {
            self.free.push(number(token));
        }
        Some(entry)
    }

    /// The tokens of all connections.
    pub(super) fn tokens(&self) -> Vec<u64> {
        let held = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.held.is_some());
        held.map(|(number, slot)| token(number as u32, slot.generation))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The top bit stays clear, so that no token is the poller's own.
fn token(number: u32, generation: u32) -> u64 {
    (u64::from(generation) << 31) | u64::from(number)
}

fn number(token: u64) -> u32 {
    (token & 0x7fff_ffff) as u32
}

fn generation(token: u64) -> u32 {
    (token >> 31) as u32
}
