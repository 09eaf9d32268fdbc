//! Failures that have one cause, as when a server restarts under all its connections.

use std::collections::BTreeMap;

use crate::get::download::plan::SegmentId;

/// The newest segment at the last failure that counted, by mirror.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<usize, SegmentId>);

impl Outages {
    /// Whether the segment was running when the mirror's last failure was counted, so that its
    /// failure has the same cause.
    pub(super) fn covers(&self, mirror: usize, segment: SegmentId) -> bool {
        self.0.get(&mirror).is_some_and(|newest| segment <= *newest)
    }

    /// Notes a failure that counts; `newest` is the last segment that was started.
    pub(super) fn record(&mut self, mirror: usize, newest: SegmentId) {
        self.0.insert(mirror, newest);
    }
}
