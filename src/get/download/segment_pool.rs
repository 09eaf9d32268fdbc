//! The running segments of a session, each in a separate thread.

use std::collections::BTreeMap;
use std::io;
use std::thread::{self, Scope};

use crossbeam_channel::{Receiver, Sender};

use super::mirrors::Mirror;
use super::plan::{Plan, SegmentId};
use super::segment::{Report, Segment, Work};
use super::session::Session;
use crate::get::client::cancellation::{Cancel, Cancellation};

/// Segments, and their reports.
pub(super) struct SegmentPool<'a> {
    session: &'a Session<'a>,
    busy: BTreeMap<SegmentId, Busy>,
    /// Segments that have not reported: the busy ones, and those dismissed that may still write.
    outstanding: usize,
    newest: Option<SegmentId>,
    reports: (Sender<Report>, Receiver<Report>),
}

/// A segment at work.
struct Busy {
    cancel: Cancel,
    mirror: usize,
}

impl<'a> SegmentPool<'a> {
    pub(super) fn new(session: &'a Session<'a>) -> Self {
        Self {
            session,
            busy: BTreeMap::new(),
            outstanding: 0,
            newest: None,
            reports: crossbeam_channel::unbounded(),
        }
    }

    /// The number of segments at work.
    pub(super) fn len(&self) -> usize {
        self.busy.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    pub(super) fn contains(&self, id: SegmentId) -> bool {
        self.busy.contains_key(&id)
    }

    /// Whether all segments have reported, so that none writes any more.
    pub(super) fn is_at_rest(&self) -> bool {
        self.outstanding == 0
    }

    /// The segment that was started last.
    pub(super) fn newest(&self) -> Option<SegmentId> {
        self.newest
    }

    pub(super) fn reports(&self) -> &Receiver<Report> {
        &self.reports.1
    }

    /// Reports for a segment that could not be started.
    pub(super) fn report(&self, report: Report) {
        // The receiver is here.
        let _ = self.reports.0.send(report);
    }

    /// Starts a segment.
    ///
    /// # Errors
    /// There is no thread for it (pthread_create(3)); it counts as at work until [`Self::report`].
    pub(super) fn start<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        cancellation: &Cancellation,
        mirror: Mirror,
        (id, work): (SegmentId, Work),
    ) -> io::Result<()>
    where
        'a: 'scope,
    {
        let (cancellation, cancel) = cancellation.fork();
        let busy = Busy {
            cancel,
            mirror: mirror.index,
        };
        self.busy.insert(id, busy);
        self.newest = Some(id);
        self.outstanding += 1;
        let segment = Segment {
            session: self.session,
            id,
            mirror,
            cancellation,
            work,
        };
        let reports = self.reports.0.clone();
        let work = move || {
            // The receiver is dropped only after the end of the session.
            let _ = reports.send(segment.run());
        };
        thread::Builder::new().spawn_scoped(scope, work).map(|_| ())
    }

    /// Ends a segment; returns whether it was running, or stopped before.
    pub(super) fn end(&mut self, id: SegmentId) -> bool {
        self.outstanding -= 1;
        self.busy.remove(&id).is_some()
    }

    /// The number of segments without an established connection.
    pub(super) fn waiting(&self, plan: &Plan) -> usize {
        let waiting = self.busy.keys().filter(|id| !plan.is_assigned(**id));
        waiting.count()
    }

    /// Stops segments without an established connection.
    pub(super) fn stop_waiting(&self, plan: &Plan) {
        let waiting = self.busy.iter().filter(|(id, _)| !plan.is_assigned(**id));
        waiting.for_each(|(_, busy)| busy.cancel.cancel());
    }

    /// Stops the youngest beyond `most`: they have the least in flight. Their ranges are free once
    /// they have reported: until then they may be writing.
    pub(super) fn shrink_to(&mut self, most: usize) {
        while self.busy.len() > most {
            let Some((_, busy)) = self.busy.pop_last() else {
                break;
            };
            busy.cancel.cancel();
        }
    }

    /// Stops the segments of a mirror.
    pub(super) fn stop_mirror(&mut self, mirror: usize) {
        let of_mirror = self.busy.extract_if(.., |_, busy| busy.mirror == mirror);
        of_mirror.for_each(|(_, busy)| busy.cancel.cancel());
    }

    /// Stops all segments but one.
    pub(super) fn stop_others(&mut self, than: SegmentId) {
        let others = self.busy.extract_if(.., |id, _| *id != than);
        others.for_each(|(_, busy)| busy.cancel.cancel());
    }

    /// Stops all segments; returns the mirror of each.
    pub(super) fn stop_all(&mut self) -> Vec<usize> {
        let all = std::mem::take(&mut self.busy).into_values();
        all.map(|busy| {
            busy.cancel.cancel();
            busy.mirror
        })
        .collect()
    }
}
