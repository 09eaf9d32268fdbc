//! The state of a running server, from counters and cards.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::server::admin::predecessor::Predecessor;
use crate::server::disk_queue::gauge::{DiskGauge, DiskGauges};
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
use crate::server::telemetry::transfers::{TransferCard, WaitsFor};

/// Samples a server once a second, and on demand.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(super) service: Arc<Shared>,
    admitted: Arc<Semaphore>,
    rejected: Arc<Semaphore>,
    gauges: DiskGauges,
    pub(super) started: SystemTime,
    known: Mutex<Readings>,
    /// The server that this one has taken over from.
    predecessor: OnceLock<Predecessor>,
}

/// The last readings; only the admin interface's own threads take their lock.
#[derive(Debug)]
struct Readings {
    cards: Vec<Seen>,
    gauges: Vec<Arc<DiskGauge>>,
    /// Bytes a second over the last minutes, the newest at the end.
    history: VecDeque<u64>,
    looked: Instant,
    sent: u64,
}

#[derive(Debug)]
struct Seen {
    card: Weak<TransferCard>,
    sent: u64,
    rate: u64,
}

/// A response under way, and how fast it is.
#[derive(Debug)]
pub(super) struct Moving {
    pub card: Arc<TransferCard>,
    /// Bytes given to the kernel in the last second.
    pub rate: u64,
}

impl Observer {
    /// The first permits are those of served connections, the others those of connections that get
    /// 503.
    pub(crate) fn new(
        service: Arc<Shared>,
        (admitted, rejected): (Arc<Semaphore>, Arc<Semaphore>),
        gauges: DiskGauges,
    ) -> Self {
        let sent = service.counters.bytes_sent.sum();
        Self {
            service,
            admitted,
            rejected,
            gauges,
            started: SystemTime::now(),
            known: Mutex::new(Readings {
                cards: Vec::new(),
                gauges: Vec::new(),
                history: VecDeque::new(),
                looked: Instant::now(),
                sent,
            }),
            predecessor: OnceLock::new(),
        }
    }

    /// Notes the server from which the sockets came.
    pub(super) fn note_predecessor(&self, predecessor: Predecessor) {
        // There is one at the most.
        let _ = self.predecessor.set(predecessor);
    }

    /// The state of the server that this one has taken over from, while that has transfers.
    pub(super) fn ask_predecessor(&self) -> Option<Value> {
        self.predecessor.get()?.ask()
    }

    /// Samples the progress of all responses.
    pub(super) fn look(&self, now: Instant) {
        let sent = self.service.counters.bytes_sent.sum();
        let mut known = self.known();
        let elapsed = now.saturating_duration_since(known.looked).as_secs_f64();
        let per_second = |bytes: u64| (bytes as f64 / elapsed.max(0.001)) as u64;
        let rate = per_second(sent.saturating_sub(known.sent));
        (known.looked, known.sent) = (now, sent);
        known.history.push_back(rate);
        if known.history.len() > HISTORY {
            known.history.pop_front();
        }
        for seen in &mut known.cards {
            if let Some(card) = seen.card.upgrade() {
                let sent = card.sent();
                seen.rate = per_second(sent.saturating_sub(seen.sent));
                seen.sent = sent;
            }
        }
    }

    /// All responses that had to wait and have not ended.
    pub(super) fn moving(&self) -> Vec<Moving> {
        let known = self.known();
        let moving = known.cards.iter().filter_map(|seen| {
            let card = seen.card.upgrade()?;
            let is_new = seen.sent == 0;
            let lasted = card.facts.begun.elapsed().as_secs_f64().max(0.001);
            let rate = match is_new {
                true => (card.sent() as f64 / lasted) as u64,
                false => seen.rate,
            };
            Some(Moving { card, rate })
        });
        moving.collect()
    }

    /// Bytes a second over the last minutes, the newest at the end.
    pub(super) fn history(&self) -> Vec<u64> {
        self.known().history.iter().copied().collect()
    }

    /// The disk queue, by file system.
    pub(super) fn disks(&self) -> Vec<Arc<DiskGauge>> {
        self.known().gauges.clone()
    }

    /// Served connections, and those that get 503.
    pub(super) fn connections(&self) -> (usize, usize) {
        (self.admitted.taken(), self.rejected.taken())
    }

    /// How many of the responses wait for what, in the order of [`WaitsFor::ALL`].
    pub(super) fn counts(moving: &[Moving]) -> [usize; WaitsFor::ALL.len()] {
        let mut counts = [0; WaitsFor::ALL.len()];
        for it in moving {
            counts[it.card.waits_for() as usize] += 1;
        }
        counts
    }

    /// Why the server should get no new clients, if that is so.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        if self.service.is_draining() {
            return Some("draining");
        }
        let seen = self.service.root_seen();
        let is_fresh = seen.is_some_and(|seen| seen.elapsed() < ROOT_STALE);
        (!is_fresh).then_some("the root cannot be read")
    }

    fn known(&self) -> MutexGuard<'_, Readings> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.gauges.extend(self.gauges.shown());
        let shown = self.service.transfers.shown();
        known.cards.retain(|seen| seen.card.strong_count() > 0);
        known.cards.extend(shown.into_iter().map(|card| Seen {
            card,
            sent: 0,
            rate: 0,
        }));
        known
    }
}

/// Seconds.
const HISTORY: usize = 300;
/// A root that was last read this long ago may hang.
const ROOT_STALE: Duration = Duration::from_secs(5);
