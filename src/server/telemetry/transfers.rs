//! Responses under way, as others may see them.
//!
//! A response that has to wait leaves a card, which its connection writes to and observers read.
//! Observers hold cards weakly: the end of a response takes its card away.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::http::Protocol;
use crate::server::telemetry::redact::redact;
use crate::sys::peer::Peer;

/// The card of a response under way, for observers.
#[derive(Debug)]
pub struct TransferCard {
    /// The number of its connection.
    pub connection: u64,
    /// The client.
    pub peer: Peer,
    /// In which wire format.
    pub protocol: Protocol,
    /// The request line or name as it came, without secrets; cut if it is long.
    pub request: Vec<u8>,
    /// The status code; 0 where the protocol has none.
    pub status: u16,
    /// Bytes intended, the head included; `None` for a listing, whose length is unknown.
    pub intended: Option<u64>,
    /// When the request was whole.
    pub begun: Instant,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    waits_for: AtomicU8,
}

/// The event that a response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its turn.
    Turn,
    /// The peer, which has to take some first.
    Peer,
    /// The time at which its rate lets it go on.
    Rate,
    /// A disk.
    Disk,
}

impl WaitsFor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Turn, Self::Peer, Self::Rate, Self::Disk];

    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Peer => "peer",
            Self::Rate => "rate",
            Self::Disk => "disk",
        }
    }
}

/// The facts about a response's beginning.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub connection: u64,
    pub peer: Peer,
    pub protocol: Protocol,
    pub request: Vec<u8>,
    pub status: u16,
    pub intended: Option<u64>,
    pub begun: Instant,
}

impl TransferCard {
    pub(crate) fn new(mut beginning: Beginning) -> Arc<Self> {
        redact(&mut beginning.request);
        Arc::new(Self {
            connection: beginning.connection,
            peer: beginning.peer,
            protocol: beginning.protocol,
            request: beginning.request,
            status: beginning.status,
            intended: beginning.intended,
            begun: beginning.begun,
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            waits_for: AtomicU8::new(WaitsFor::Turn as u8),
        })
    }

    /// Notes how far the response has come.
    pub(crate) fn note(&self, sent: u64, waits_for: WaitsFor) {
        self.sent.store(sent, Ordering::Relaxed);
        self.waits_for.store(waits_for as u8, Ordering::Relaxed);
    }

    /// Notes how much has arrived.
    pub(crate) fn note_acknowledged(&self, bytes: u64) {
        self.acknowledged.store(bytes, Ordering::Relaxed);
    }

    /// Bytes given to the kernel, the head included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that the peer had acknowledged when it was last waited for, the head included.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// The event that the response waits for.
    #[must_use]
    pub fn waits_for(&self) -> WaitsFor {
        let at = usize::from(self.waits_for.load(Ordering::Relaxed));
        WaitsFor::ALL.get(at).copied().unwrap_or(WaitsFor::Turn)
    }
}

/// The way of cards to their observer, if there is one.
#[derive(Debug)]
pub struct Transfers(Option<CardChannel>);

type CardChannel = (Sender<Weak<TransferCard>>, Receiver<Weak<TransferCard>>);

impl Transfers {
    /// With an observer, which has to come for the cards from time to time.
    pub(crate) fn observed() -> Self {
        Self(Some(unbounded()))
    }

    /// A set without observers: no cards are made.
    pub(crate) fn unobserved() -> Self {
        Self(None)
    }

    /// Whether there are observers.
    #[inline]
    pub(crate) fn are_observed(&self) -> bool {
        self.0.is_some()
    }

    /// Shows a card to the observer.
    pub(crate) fn show(&self, card: &Arc<TransferCard>) {
        if let Some((sender, _)) = &self.0 {
            // The receiver is a field of this very struct.
            let _ = sender.send(Arc::downgrade(card));
        }
    }

    /// The cards that were shown since the last call.
    pub(crate) fn shown(&self) -> Vec<Weak<TransferCard>> {
        let receiver = self.0.as_ref().map(|(_, receiver)| receiver);
        receiver.map_or_else(Vec::new, |receiver| receiver.try_iter().collect())
    }
}
