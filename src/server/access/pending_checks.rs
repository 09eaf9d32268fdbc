//! Password checks that wait: how many of all clients, and of one once many wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::server::client_share::ClientKey;

/// Requests whose passwords wait to be looked at.
#[derive(Debug, Default)]
pub(super) struct PendingChecks {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    clients: HashMap<ClientKey, usize>,
}

/// A request whose password waits to be looked at; it is counted off when dropped.
#[derive(Debug)]
pub(crate) struct PendingCheck {
    all: Arc<PendingChecks>,
    client: ClientKey,
    guesses: PastGuesses,
}

/// Whether passwords of a client were wrong lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PastGuesses {
    /// None, as of most clients that log in for the first time.
    None,
    /// At least one, or many of its site.
    Wrong,
}

impl PendingChecks {
    /// Counts another one; `None` if too many wait. One half of the places is for clients without
    /// past guesses, for one request each: few addresses, however often they guess, leave it free.
    pub(super) fn begin(
        self: &Arc<Self>,
        client: ClientKey,
        guesses: PastGuesses,
    ) -> Option<PendingCheck> {
        let mut counts = self.counts();
        let is_scarce = counts.all >= MAX_WAITING / 2;
        let is_first = guesses == PastGuesses::None && !counts.clients.contains_key(&client);
        if counts.all >= MAX_WAITING || is_scarce && !is_first {
            return None;
        }
        counts.all += 1;
        *counts.clients.entry(client).or_default() += 1;
        drop(counts);
        Some(PendingCheck {
            all: Arc::clone(self),
            client,
            guesses,
        })
    }

    /// Whether a check has some seconds to wait.
    pub(super) fn are_many(&self) -> bool {
        self.counts().all > FEW_WAITING
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingCheck {
    pub(crate) fn guesses(&self) -> PastGuesses {
        self.guesses
    }
}

impl Drop for PendingCheck {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        counts.all -= 1;
        if let Some(count) = counts.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

/// Password checks that may wait; requests beyond them get 503.
const MAX_WAITING: usize = 256;

const FEW_WAITING: usize = 8;
