//! The phases of a generator's connection, and how many connections are in each.

use std::time::Instant;

use super::exchange::{Exchange, Left};
use super::link::Link;

/// The phase of a connection.
#[derive(Debug, Default)]
pub(super) enum Phase {
    #[default]
    Down,
    Idle(Link),
    Connecting(Link, Exchange),
    /// With the moment when the connection stood.
    ShakingHands(Link, Exchange, Instant),
    /// With the number of bytes sent.
    Sending(Link, Exchange, usize),
    /// With the received part of the head.
    Awaiting(Link, Exchange, Vec<u8>),
    Receiving(Link, Exchange, Left),
    /// The response is whole, and the server should close first: the side that closes first keeps
    /// the port in TIME_WAIT, and clients would run out of ports.
    Closing(Link),
}

/// How many connections are in which kind of phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionCounts {
    pub(super) connecting: usize,
    /// With a request under way.
    pub(super) busy: usize,
    /// With a socket.
    pub(super) open: usize,
}

impl Phase {
    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match self {
            Self::Down => None,
            Self::Idle(link)
            | Self::Connecting(link, _)
            | Self::ShakingHands(link, ..)
            | Self::Sending(link, ..)
            | Self::Awaiting(link, ..)
            | Self::Receiving(link, ..)
            | Self::Closing(link) => Some(link),
        }
    }
}

impl ConnectionCounts {
    pub(super) fn enter(&mut self, phase: &Phase) {
        let (connecting, busy, open) = class(phase);
        self.connecting += connecting;
        self.busy += busy;
        self.open += open;
    }

    pub(super) fn leave(&mut self, phase: &Phase) {
        let (connecting, busy, open) = class(phase);
        self.connecting -= connecting;
        self.busy -= busy;
        self.open -= open;
    }
}

/// The part of a phase in each count.
fn class(phase: &Phase) -> (usize, usize, usize) {
    match phase {
        Phase::Down => (0, 0, 0),
        Phase::Idle(_) | Phase::Closing(_) => (0, 0, 1),
        Phase::Connecting(..) => (1, 1, 1),
        Phase::ShakingHands(..)
        | Phase::Sending(..)
        | Phase::Awaiting(..)
        | Phase::Receiving(..) => (0, 1, 1),
    }
}
