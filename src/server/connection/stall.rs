//! Stall detection: whether the peer still takes bytes, and fast enough.
//!
//! Acknowledged bytes count, as far as the system reports them: a full send queue may drain for
//! minutes over a slow link without an event, and a response that moves is never cut.

use std::time::{Duration, Instant};

use crate::server::shared::Shared;
use crate::server::telemetry::CloseReason;
use crate::server::transmit::sink::Sink;

/// How a response has moved so far.
#[derive(Debug)]
pub(super) struct StallDetector {
    begun: Instant,
    /// The time of the last bytes that were sent or, if known, acknowledged.
    moved: Instant,
    /// When the response was last blocked.
    blocked: Option<Instant>,
    /// Bytes that were unacknowledged when the present silence was half over.
    unacknowledged: Option<u64>,
    window: Window,
}

/// The stretch over which the minimum rate is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    /// Bytes that had arrived at its beginning; unknown after a wait for the disk.
    arrived: Option<u64>,
}

impl StallDetector {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            moved: now,
            blocked: None,
            unacknowledged: None,
            window: Window {
                since: now,
                arrived: Some(0),
            },
        }
    }

    /// How long the response has been blocked.
    pub(super) fn waited_since(&self, now: Instant) -> Duration {
        self.blocked
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes that bytes went out.
    pub(super) fn note_sent(&mut self, bytes: u64, now: Instant) {
        if bytes > 0 {
            self.moved = now;
            self.unacknowledged = None;
            self.blocked = None;
        }
    }

    /// Notes that the response waits for the disk or for its rate: no blame on the peer.
    pub(super) fn pause(&mut self) {
        let now = Instant::now();
        self.moved = now;
        self.unacknowledged = None;
        self.blocked = None;
        self.window.since = now;
        self.window.arrived = None;
    }

    /// The send queue is full. Returns when to look again.
    pub(super) fn block(
        &mut self,
        sink: &impl Sink,
        sent: u64,
        service: &Shared,
        now: Instant,
    ) -> Result<Instant, CloseReason> {
        self.blocked.get_or_insert(now);
        self.check_rate(sink, sent, service, now)?;
        self.check_length(service, now)?;
        Ok(self.next_look(service))
    }

    /// Handles the deadline of [`Self::block`]. Returns the next one.
    pub(super) fn expire(
        &mut self,
        sink: &impl Sink,
        sent: u64,
        service: &Shared,
        now: Instant,
    ) -> Result<Instant, CloseReason> {
        self.check_length(service, now)?;
        self.check_rate(sink, sent, service, now)?;
        let silence = now.saturating_duration_since(self.moved);
        let stall = stall_time(service);
        if silence < stall / 2 {
            return Ok(self.next_look(service));
        }
        let unacknowledged = sink.unacknowledged();
        match (self.unacknowledged, unacknowledged) {
            (Some(before), Some(after)) if after < before => {
                self.moved = now;
                self.unacknowledged = None;
            }
            _ if silence >= stall => return Err(CloseReason::Stalled),
            _ => self.unacknowledged = Some(unacknowledged.unwrap_or(0)),
        }
        Ok(self.next_look(service))
    }

    /// Whether half of the time has passed that a peer may take to take nothing.
    pub(super) fn seems_stalled(&self) -> bool {
        self.unacknowledged.is_some()
    }

    fn next_look(&self, service: &Shared) -> Instant {
        let stall = stall_time(service);
        let stall = self.moved
            + if self.unacknowledged.is_some() {
                stall
            } else {
                stall / 2
            };
        let window = service
            .rates()
            .least
            .map(|least| self.window.since + least.grace);
        let length = service
            .config
            .deadlines
            .response
            .map(|most| self.begun + most);
        [window, length]
            .into_iter()
            .flatten()
            .fold(stall, Instant::min)
    }

    /// Whether a response is within its total time.
    pub(super) fn check_length(&self, service: &Shared, now: Instant) -> Result<(), CloseReason> {
        match service.config.deadlines.response {
            Some(most) if now >= self.begun + most => Err(CloseReason::TooLong),
            _ => Ok(()),
        }
    }

    fn check_rate(
        &mut self,
        sink: &impl Sink,
        sent: u64,
        service: &Shared,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let Some(least) = service.rates().least else {
            return Ok(());
        };
        let elapsed = now.saturating_duration_since(self.window.since);
        if elapsed < least.grace && self.window.arrived.is_some() {
            return Ok(());
        }
        let arrived = sent - sink.unacknowledged().unwrap_or(0).min(sent);
        let window = Window {
            since: now,
            arrived: Some(arrived),
        };
        let before = std::mem::replace(&mut self.window, window).arrived;
        let wanted = least.bytes_per_second as f64 * elapsed.as_secs_f64();
        if before.is_some_and(|before| (arrived.saturating_sub(before) as f64) < wanted) {
            return Err(CloseReason::TooSlow);
        }
        Ok(())
    }
}

/// How long a peer may take nothing: at a low rate the kernel itself waits between two segments.
fn stall_time(service: &Shared) -> Duration {
    let rates = service.rates();
    let rates = [rates.connection, rates.client, rates.total];
    let pause = rates.into_iter().flatten().min().map(|rate| {
        let seconds = 2.0 * LARGEST_SEGMENT / rate.max(1) as f64;
        Duration::from_secs_f64(seconds)
    });
    service.config.deadlines.send_stall + pause.unwrap_or_default()
}

/// Bytes in the largest segment of TCP, that of the loopback interface.
const LARGEST_SEGMENT: f64 = 65_536.0;
