//! The phases of a generator's connection, and how many connections are in each.

use std::time::Instant;

use super::exchange::{Exchange, Left};
use super::stream::Stream;

/// The phase of a connection.
#[derive(Debug, Default)]
pub(super) enum Phase {
    #[default]
    Down,
    Idle(Stream),
    Connecting(Stream, Exchange),
    /// With the moment when the connection stood.
    ShakingHands(Stream, Exchange, Instant),
    /// With the number of bytes sent.
    Sending(Stream, Exchange, usize),
    /// With the received part of the head.
    Awaiting(Stream, Exchange, Vec<u8>),
    Receiving(Stream, Exchange, Left),
    /// The response is whole, and the server should close first: the side that closes first keeps
    /// the port in TIME_WAIT, and clients would run out of ports.
    Closing(Stream),
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
    pub(super) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Down => None,
            Self::Idle(stream)
            | Self::Connecting(stream, _)
            | Self::ShakingHands(stream, ..)
            | Self::Sending(stream, ..)
            | Self::Awaiting(stream, ..)
            | Self::Receiving(stream, ..)
            | Self::Closing(stream) => Some(stream),
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
