//! Responses under way, for observers.
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
    /// The facts at its beginning.
    pub facts: TransferFacts,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    waits_for: AtomicU8,
}

/// The facts of a response at its beginning.
#[derive(Debug)]
pub struct TransferFacts {
    /// The number of its connection.
    pub connection: u64,
    /// The client.
    pub peer: Peer,
    /// In which wire format.
    pub protocol: Protocol,
    /// The raw request line or name, without secrets; cut if it is long.
    pub request: Vec<u8>,
    /// The status code; 0 where the protocol has none.
    pub status: u16,
    /// Bytes intended, the head included; `None` for a listing, whose length is unknown.
    pub intended: Option<u64>,
    /// When the request was whole.
    pub begun: Instant,
}

/// The event that a response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its turn.
    Turn,
    /// The peer, which has to take some first.
    Peer,
    /// Its rate is used up until this time.
    Rate,
    /// A disk.
    Disk,
}

impl WaitsFor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Turn, Self::Peer, Self::Rate, Self::Disk];

    /// The word for displays and programs.
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

impl TransferCard {
    pub(crate) fn new(mut facts: TransferFacts) -> Arc<Self> {
        redact(&mut facts.request);
        Arc::new(Self {
            facts,
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            waits_for: AtomicU8::new(WaitsFor::Turn as u8),
        })
    }

    /// Notes the progress of the response.
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

/// The channel of cards to their observer, if there is one.
#[derive(Debug)]
pub struct Transfers(Option<CardChannel>);

type CardChannel = (Sender<Weak<TransferCard>>, Receiver<Weak<TransferCard>>);

impl Transfers {
    /// With an observer, which has to receive the cards at intervals.
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
