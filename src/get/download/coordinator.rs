//! The thread of a session that starts segments, takes their reports and stops them.

mod clipped_ranges;
mod connections;
mod outages;

use std::thread::Scope;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::block_ledger::BadBlock;
use super::plan::SegmentId;
use super::prover::{self, Finding};
use super::segment::{Came, Outcome, Report, Work};
use super::segment_pool::SegmentPool;
use super::session::{Session, SessionEnd};
use crate::get::client::Response;
use crate::get::client::cancellation::Cancellation;
use crate::get::config::Segments;
use crate::get::download::mirrors::{LastMirror, Mirror, Mirrors, Ranges};
use crate::get::error::{ErrorKind, GetError, Retry};
use crate::get::event::Event;
use crate::get::part_file::extents::Extents;
use crate::get::part_file::validate::Trust;
use crate::get::shared::attempts::{Attempts, MIN_PROGRESS_BYTES};
use crate::get::shared::rate::RateFloor;
use clipped_ranges::ClippedRanges;
use connections::{Connections, Ticked};
use outages::Outages;

/// The parts of a running session.
pub(crate) struct Coordinator<'a, 's> {
    session: &'a Session<'a>,
    mirrors: &'s mut Mirrors,
    attempts: &'s mut Attempts,
    connections: Connections,
    /// No request before this.
    not_before: Instant,
    segments: SegmentPool<'a>,
    /// The segment that receives a response with the whole file.
    taker: Option<SegmentId>,
    /// Wakes the prover, and brings what it finds.
    prover: (Sender<()>, Receiver<Finding>),
    cancellation: Cancellation,
    ranges: Ranges,
    floor: RateFloor,
    outages: Outages,
    clipped: ClippedRanges,
}

impl<'a, 's> Coordinator<'a, 's> {
    pub(crate) fn new(
        session: &'a Session<'a>,
        mirrors: &'s mut Mirrors,
        attempts: &'s mut Attempts,
        prover: (Sender<()>, Receiver<Finding>),
    ) -> Self {
        let (segments, ranges) = match (&session.identity, mirrors.ranges()) {
            (Some(_), Ranges::Possible) => (session.shared.config.segments, Ranges::Possible),
            _ => (Segments::Fixed(1), Ranges::Impossible),
        };
        Self {
            session,
            mirrors,
            attempts,
            connections: Connections::new(segments),
            not_before: Instant::now(),
            segments: SegmentPool::new(session),
            taker: None,
            prover,
            cancellation: session.shared.cancellation(),
            ranges,
            floor: RateFloor::new(session.shared.config.min_rate),
            outages: Outages::default(),
            clipped: ClippedRanges::default(),
        }
    }

    /// Runs until the file is whole, or is not going to be; no segment is left at work for long.
    pub(crate) fn run<'scope>(
        mut self,
        scope: &'scope Scope<'scope, '_>,
        first: Option<(usize, Box<Response>)>,
    ) -> Result<SessionEnd, GetError>
    where
        'a: 'scope,
    {
        if let Some((mirror, response)) = first {
            let id = self.session.plan().whole();
            self.taker = Some(id);
            self.spawn(
                scope,
                self.mirrors.mirror(mirror).clone(),
                id,
                Work::Take(response),
            );
        }
        let end = self.coordinate(scope);
        self.report_progress();
        self.segments.stop_all();
        end
    }

    fn coordinate<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<SessionEnd, GetError>
    where
        'a: 'scope,
    {
        loop {
            self.cancellation.check()?;
            let whole = {
                let plan = self.session.plan();
                let whole = plan.is_whole();
                if whole && self.segments.is_at_rest() && self.session.blocks.settle() {
                    return Ok(SessionEnd::Whole);
                }
                whole
            };
            if whole {
                // Connections that do not stand yet are not needed any more.
                self.segments.stop_waiting(&self.session.plan());
                // A message that already waits is enough.
                let _ = self.prover.0.try_send(());
            }
            if !whole && self.segments.is_empty() && self.ranges == Ranges::Impossible {
                return Ok(SessionEnd::StartOver {
                    why: NO_MIDDLE.to_owned(),
                    response: None,
                });
            }
            self.adjust(scope);
            if let Some(end) = self.wait()? {
                return Ok(end);
            }
            let Ticked {
                received,
                is_report_due,
            } = self.connections.tick(self.session);
            if is_report_due {
                self.report_progress();
            }
            if let Err(error) = self.floor.observe(received)
                && let Some(end) = self.too_slow(error)?
            {
                return Ok(end);
            }
        }
    }

    /// Waits for a word of a segment or of the prover, for a moment.
    fn wait(&mut self) -> Result<Option<SessionEnd>, GetError> {
        crossbeam_channel::select! {
            recv(self.segments.reports()) -> report => match report {
                Ok(report) => self.handle_report(report),
                Err(_) => Ok(None),
            },
            recv(self.prover.1) -> finding => match finding {
                Ok(finding) => self.handle_finding(finding),
                Err(_) => {
                    self.prover.1 = crossbeam_channel::never();
                    Ok(None)
                }
            },
            default(REPORT_WAIT) => Ok(None),
        }
    }

    /// As many segments as are wanted and there is work for.
    fn adjust<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        'a: 'scope,
    {
        while self.ranges == Ranges::Possible
            && self.segments.len() < self.connections.want()
            && Instant::now() >= self.not_before
        {
            let Some(mirror) = self.mirrors.pick().cloned() else {
                break;
            };
            let id = {
                let mut plan = self.session.plan();
                if plan.shares() <= self.segments.waiting(&plan) as u64 {
                    break;
                }
                plan.reserve()
            };
            self.spawn(scope, mirror, id, Work::Request);
        }
        self.segments.shrink_to(self.connections.want());
    }

    fn spawn<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        mirror: Mirror,
        id: SegmentId,
        work: Work,
    ) where
        'a: 'scope,
    {
        self.mirrors.acquire(mirror.index);
        let index = mirror.index;
        let started = (self.segments).start(scope, &self.cancellation, mirror, (id, work));
        if let Err(error) = started {
            let others = self.segments.len() - 1;
            let outcome = match others {
                0 => Outcome::Failed(GetError::no_thread(&error)),
                // The others go on.
                _ => Outcome::Stopped,
            };
            self.connections.limit(others);
            self.segments.report(Report {
                id,
                mirror: index,
                came: Came::default(),
                outcome,
            });
        }
    }

    /// Takes a segment's report; the session may end with it.
    fn handle_report(&mut self, report: Report) -> Result<Option<SessionEnd>, GetError> {
        let Report {
            id,
            mirror,
            came,
            outcome,
        } = report;
        self.session.plan().release(id);
        self.mirrors.release(mirror);
        if !self.segments.end(id) {
            // Dismissed earlier: what it saw on its way out changes nothing.
            return Ok(None);
        }
        match outcome {
            Outcome::Stopped => Ok(None),
            Outcome::Through(current, validator) => {
                self.mirrors.learn(mirror, *current, validator);
                if came.clipped {
                    self.clipped.record(came.received);
                }
                self.look_at_clipped(mirror)
            }
            Outcome::Failed(error) => self.failed(id, (mirror, came.received), error),
            Outcome::Changed(_) if self.has_taker() => {
                // The order of versions is unknown; the one under way is completed.
                Ok(self.no_ranges("the server has another version, too", None))
            }
            Outcome::Changed(response) => {
                let why = "the file has changed on the server".to_owned();
                let response = response.map(|response| (mirror, response));
                Ok(Some(SessionEnd::StartOver { why, response }))
            }
            Outcome::Whole(response) => Ok(self.no_ranges(
                "the server cannot send parts of files",
                Some((mirror, response)),
            )),
            Outcome::Wrong(why) => Ok(self.no_ranges(&why, None)),
            // Unless the list has arrived meanwhile.
            Outcome::Unproven(why) if self.session.blocks.list().is_none() => {
                self.mirrors.set_aside(mirror);
                let text = format!("a mirror waits for the list of blocks: {why}");
                self.note(text);
                Ok(None)
            }
            Outcome::Unproven(_) => Ok(None),
            Outcome::Unfit(why) => {
                let error = GetError::new(ErrorKind::Network, why.clone());
                // The last address has another file than the one that is here in part.
                let start_over = SessionEnd::StartOver {
                    why,
                    response: None,
                };
                Ok(self.drop_mirror(mirror, error).unwrap_or(Some(start_over)))
            }
        }
    }

    /// Takes what the prover has found; the session may end with it.
    fn handle_finding(&mut self, finding: Finding) -> Result<Option<SessionEnd>, GetError> {
        match finding {
            Finding::Listed => self.mirrors.admit_unproven(),
            Finding::Settled => {}
            Finding::Failed(error) => return Err(error),
            Finding::Bad(bad) => return self.fetch_again(&bad),
        }
        Ok(None)
    }

    /// Handles a bad block: its mirror gets no more requests if there are others.
    fn fetch_again(&mut self, bad: &BadBlock) -> Result<Option<SessionEnd>, GetError> {
        let place = prover::place(bad);
        let from = match bad.writers[..] {
            [] => "was damaged here".to_owned(),
            [mirror] => format!("came damaged from {}", self.mirrors.url(mirror)),
            _ => "came damaged from one of several mirrors".to_owned(),
        };
        for &mirror in &bad.writers {
            let _ = self.mirrors.failed(mirror);
        }
        // Where the user's sum decides, a list without one may itself be of another file.
        let session = self.session;
        let decides =
            session.trust != Trust::Checksum || session.blocks.list_has_digest(session.checksums);
        let is_dropped = matches!(bad.writers[..], [mirror] if decides && self.dismiss(mirror));
        // A dropped mirror leaves the block's next try to another one.
        if bad.times >= MAX_TIMES_BAD && !is_dropped {
            return self.give_up_block(format!("{place} {from}, {} times", bad.times));
        }
        if self.ranges == Ranges::Impossible {
            return Ok(Some(SessionEnd::StartOver {
                why: format!("{place} {from}"),
                response: None,
            }));
        }
        let what = match is_dropped {
            true => "that mirror is dropped, and the block fetched again",
            false => "it is fetched again",
        };
        self.note(format!("{place} {from}: {what}"));
        Ok(None)
    }

    /// Drops a mirror with all its connections; returns whether there are others.
    fn dismiss(&mut self, mirror: usize) -> bool {
        if self.mirrors.drop_mirror(mirror).is_err() {
            return false;
        }
        self.segments.stop_mirror(mirror);
        true
    }

    /// A block was bad too often: the list is wrong, or the file is.
    fn give_up_block(&self, what: String) -> Result<Option<SessionEnd>, GetError> {
        let session = self.session;
        let is_proven = session.blocks.list_has_digest(session.checksums);
        if session.trust == Trust::Checksum && !is_proven {
            session.blocks.give_up();
            let text = format!("{what}: the list of blocks is given up, the checksum decides");
            session.reporter.note(text);
            return Ok(None);
        }
        let error = GetError::new(ErrorKind::Verification, what);
        Err(error.and("the rest is kept: the same command fetches this block again"))
    }

    /// Ranges that come much shorter than requested are retried slowly, as long as they move the
    /// file on and nothing else does.
    fn look_at_clipped(&mut self, mirror: usize) -> Result<Option<SessionEnd>, GetError> {
        let Some(bytes) = self.clipped.take_too_small() else {
            return Ok(None);
        };
        if bytes >= MIN_PROGRESS_BYTES && !self.has_taker() {
            let error = GetError::passing(ErrorKind::Incomplete, CRUMBS);
            let _ = self.mirrors.failed(mirror);
            if let Ok(end) = self.retry_later(error) {
                return Ok(end);
            }
        }
        Ok(self.no_ranges(CRUMBS, None))
    }

    fn failed(
        &mut self,
        id: SegmentId,
        (mirror, received): (usize, u64),
        error: GetError,
    ) -> Result<Option<SessionEnd>, GetError> {
        if error.kind == ErrorKind::LocalFile {
            return Err(error);
        }
        let alone = !self.mirrors.has_others(mirror);
        if alone && self.ranges == Ranges::Possible && !self.segments.is_empty() && received == 0 {
            // The other segments continue: the server seems to have a limit of connections,
            // whatever its error.
            let _ = self.mirrors.failed(mirror);
            self.connections.limit(self.segments.len());
            if let Some(taker) = self.taker.filter(|taker| self.segments.contains(*taker)) {
                self.session.plan().reclaim(taker);
            }
            return Ok(None);
        }
        let is_same_outage = self.outages.covers(mirror, id);
        if is_same_outage && self.ranges == Ranges::Possible && error.retry != Retry::Never {
            return Ok(None);
        }
        if let Some(newest) = self.segments.newest() {
            self.outages.record(mirror, newest);
        }
        // The target of a redirect may have expired; the original address is requested again.
        let expired = self.mirrors.mirror(mirror).has_moved();
        let error = match error.retry {
            Retry::Never if expired => error.with_retry(Retry::Later),
            _ => error,
        };
        if error.retry == Retry::Never || self.mirrors.failed(mirror) {
            return self.drop_mirror(mirror, error);
        }
        if !self.mirrors.mirror(mirror).is_known && !self.segments.is_empty() {
            // A download that goes on does not end for addresses that never gave anything.
            self.note(format!("{error}; other addresses are asked first"));
            return Ok(None);
        }
        self.retry_later(error)
    }

    /// Takes note of a failure that another request may cure.
    fn retry_later(&mut self, error: GetError) -> Result<Option<SessionEnd>, GetError> {
        let kept = match &self.session.identity {
            Some(_) => self.session.plan().done().total(),
            None => 0,
        };
        let text = error.to_string();
        let wait = self.attempts.failed(error, kept)?;
        if self.ranges == Ranges::Impossible {
            self.session.reporter.retry(text, wait);
            self.cancellation.sleep(wait)?;
            return Ok(Some(SessionEnd::Broken));
        }
        if self.mirrors.has_fresh() {
            let text = format!("{text}; other addresses are asked first");
            self.note(text);
        } else {
            self.session.reporter.retry(text, wait);
            self.not_before = Instant::now() + wait;
        }
        let received = self.session.plan().received();
        self.floor.begin_anew(received);
        Ok(None)
    }

    /// Stops all connections; the failure counts once.
    fn too_slow(&mut self, error: GetError) -> Result<Option<SessionEnd>, GetError> {
        for mirror in self.segments.stop_all() {
            let _ = self.mirrors.failed(mirror);
        }
        self.retry_later(error)
    }

    fn drop_mirror(
        &mut self,
        mirror: usize,
        error: GetError,
    ) -> Result<Option<SessionEnd>, GetError> {
        match self.mirrors.drop_mirror(mirror) {
            Ok(()) => {
                self.note(format!("a mirror is dropped: {error}"));
                Ok(None)
            }
            Err(LastMirror) => Err(error),
        }
    }

    /// A response with the whole file is being received, and can be without any other.
    fn has_taker(&self) -> bool {
        let plan = self.session.plan();
        // Blocks written by another segment may have been hashed, and must not be written again.
        let goes_on =
            |taker: SegmentId| self.segments.contains(taker) && plan.is_only_writer(taker);
        self.taker.is_some_and(goes_on)
    }

    /// Only whole responses are usable from here on. The segment of a whole response continues.
    fn no_ranges(
        &mut self,
        why: &str,
        response: Option<(usize, Box<Response>)>,
    ) -> Option<SessionEnd> {
        self.ranges = Ranges::Impossible;
        self.mirrors.distrust_ranges();
        let Some(taker) = self.taker.filter(|_| self.has_taker()) else {
            return Some(SessionEnd::StartOver {
                why: why.to_owned(),
                response,
            });
        };
        self.note(format!("{why}: one connection it is"));
        self.connections.fix_to_one();
        self.segments.stop_others(taker);
        self.session.plan().leave_to(taker);
        None
    }

    fn note(&self, text: String) {
        self.session.reporter.note(text);
    }

    fn report_progress(&self) {
        let plan = self.session.plan();
        let (length, done): (_, &Extents) = (plan.length(), plan.done());
        self.session.reporter.send(|file| Event::Progress {
            file,
            done: done.total(),
            length,
            connections: self.segments.len(),
            extents: done.as_slice().to_vec(),
        });
    }
}

/// Bad copies of one block that end its retries.
const MAX_TIMES_BAD: u32 = 3;
const CRUMBS: &str = "the server sends ranges in crumbs";
const NO_MIDDLE: &str = "the server cannot go on in the middle of this file";
const REPORT_WAIT: Duration = Duration::from_millis(25);
