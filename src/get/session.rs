//! One version of one file: as many connections as pay, until it is whole or turns out to be
//! another file.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::answer::Identity;
use super::client::Answer;
use super::error::{Blame, GetError};
use super::event::Event;
use super::extents::Extents;
use super::leads::{LastLead, Leads, Patience, Ranges};
use super::part::{Part, State};
use super::plan::{Plan, SegmentId};
use super::ramp::Ramp;
use super::retry::Attempts;
use super::segment::{Outcome, Report, Segment, Work};
use super::verify::{Caught, Sum, Verifier};
use super::watch::{Cancel, Watch};
use super::{Reporter, Segments, Shared};

/// A download's threads share this.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) shared: &'a Shared,
    pub(super) reporter: &'a Reporter,
    pub(super) part: &'a Part,
    pub(super) url: String,
    /// `None`: nothing proves that two answers speak of the same file, so there is only one.
    pub(super) identity: Option<Identity>,
    pub(super) sums: &'a [Sum],
    pub(super) plan: Mutex<Plan>,
}

/// How a session ended, if not in an error.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// Every byte is there, and the sums are right.
    Whole,
    /// What is there is worth nothing; perhaps with the first answer of a new session.
    StartOver {
        why: String,
        answer: Option<Box<Answer>>,
    },
}

impl<'a> Session<'a> {
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What could not be cured by trying again; the part file holds what there is.
    pub(super) fn run(
        &'a self,
        leads: &mut Leads,
        first: Option<Box<Answer>>,
        attempts: &mut Attempts,
    ) -> Result<SessionEnd, GetError> {
        thread::scope(|scope| {
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let keeper_stopped = stopped.clone();
            let keeper = scope.spawn(move || self.keep_state(&keeper_stopped));
            let follower =
                (!self.sums.is_empty()).then(|| scope.spawn(move || self.hash_behind(&stopped)));
            let end = Coordinator::new(self, leads, attempts).run(scope, first);
            drop(stop);
            let joined = "the thread's panics are the scope's";
            keeper.join().expect(joined);
            let verified = follower.map_or(Ok(()), |follower| follower.join().expect(joined));
            match end? {
                SessionEnd::Whole => verified.map(|()| SessionEnd::Whole),
                start_over => Ok(start_over),
            }
        })
    }

    /// Writes the state after its data, now and then, and once more when the session is stopped.
    fn keep_state(&self, stopped: &Receiver<()>) {
        let Some(identity) = &self.identity else {
            return;
        };
        let mut saved = self.plan().done().total();
        let mut pause = SAVE_EVERY;
        loop {
            let last = stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected);
            let done = {
                let plan = self.plan();
                if last && plan.is_whole() {
                    return;
                }
                plan.done().clone()
            };
            let began = Instant::now();
            if done.total() != saved {
                let total = done.total();
                let state = State::new(self.url.clone(), Some(identity.clone()), done);
                // On a full disk the state before stays valid: it only claims less.
                if self
                    .part
                    .sync_data()
                    .and_then(|()| self.part.save(&state))
                    .is_ok()
                {
                    saved = total;
                }
            }
            if last {
                return;
            }
            // A slow disk must not spend its time on this.
            pause = SAVE_EVERY.max(began.elapsed() * 20);
        }
    }

    /// Hashes what has come without a gap from the start, so that the sum is there at the end.
    fn hash_behind(&self, stopped: &Receiver<()>) -> Result<(), GetError> {
        let mut verifier = Verifier::new(self.sums);
        loop {
            let front = self.plan().done().front();
            let file = (self.part.file(), self.part.path());
            if verifier.follow(file, front)? == Caught::Behind {
                self.shared.check()?;
                continue;
            }
            let stopped = stopped.recv_timeout(FOLLOW_EVERY) == Err(RecvTimeoutError::Disconnected);
            let plan = self.plan();
            if stopped && !plan.is_whole() {
                return Ok(());
            }
            if stopped && plan.done().front() == front {
                drop(plan);
                return verifier.finish();
            }
        }
    }
}

/// The thread that hires, hears and dismisses segments.
struct Coordinator<'a, 's> {
    session: &'a Session<'a>,
    leads: &'s mut Leads,
    attempts: &'s mut Attempts,
    ramp: Ramp,
    began: Instant,
    ticked: Instant,
    /// No request before this.
    not_before: Instant,
    busy: BTreeMap<SegmentId, Cancel>,
    /// The segment that receives an answer with the whole file.
    taker: Option<SegmentId>,
    reports: (Sender<Report>, Receiver<Report>),
    watch: Watch,
    ranges: Ranges,
}

impl<'a, 's> Coordinator<'a, 's> {
    fn new(session: &'a Session<'a>, leads: &'s mut Leads, attempts: &'s mut Attempts) -> Self {
        let now = Instant::now();
        let (segments, ranges) = match (&session.identity, leads.ranges()) {
            (Some(_), Ranges::Possible) => (session.shared.config.segments, Ranges::Possible),
            _ => (Segments::Fixed(1), Ranges::Impossible),
        };
        Self {
            session,
            leads,
            attempts,
            ramp: Ramp::new(segments),
            began: now,
            ticked: now,
            not_before: now,
            busy: BTreeMap::new(),
            taker: None,
            reports: crossbeam_channel::unbounded(),
            watch: session.shared.watch(),
            ranges,
        }
    }

    fn run<'scope>(
        mut self,
        scope: &'scope Scope<'scope, '_>,
        first: Option<Box<Answer>>,
    ) -> Result<SessionEnd, GetError>
    where
        'a: 'scope,
    {
        if let Some(answer) = first {
            let id = self.session.plan().whole();
            self.taker = Some(id);
            self.hire(scope, id, Work::Take(answer));
        }
        let end = self.coordinate(scope);
        for cancel in self.busy.values() {
            cancel.cancel();
        }
        self.report_progress();
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
            self.watch.check()?;
            if self.busy.is_empty() && self.session.plan().is_whole() {
                return Ok(SessionEnd::Whole);
            }
            if self.busy.is_empty() && self.ranges == Ranges::Impossible {
                return Ok(SessionEnd::StartOver {
                    why: NO_MIDDLE.to_owned(),
                    answer: None,
                });
            }
            self.staff(scope);
            if let Ok(report) = self.reports.1.recv_timeout(LOOK_EVERY)
                && let Some(end) = self.hear(report)?
            {
                return Ok(end);
            }
            self.look();
        }
    }

    /// As many segments as are wanted and there is work for.
    fn staff<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        'a: 'scope,
    {
        while self.ranges == Ranges::Possible
            && self.busy.len() < self.ramp.want()
            && Instant::now() >= self.not_before
        {
            let Some((id, extent)) = self.session.plan().next() else {
                break;
            };
            self.hire(scope, id, Work::Ask(extent));
        }
        // The youngest ones go first: they have the least in flight.
        while self.busy.len() > self.ramp.want() {
            let Some((id, cancel)) = self.busy.pop_last() else {
                break;
            };
            cancel.cancel();
            self.session.plan().release(id);
        }
    }

    fn hire<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, id: SegmentId, work: Work)
    where
        'a: 'scope,
    {
        let Some(lead) = self.leads.pick().cloned() else {
            return;
        };
        self.leads.engage(lead.index);
        let (watch, cancel) = self.watch.fork();
        self.busy.insert(id, cancel);
        let segment = Segment {
            session: self.session,
            id,
            lead,
            watch,
            work,
        };
        let reports = self.reports.0.clone();
        scope.spawn(move || {
            // The coordinator is gone only when nobody cares any more.
            let _ = reports.send(segment.run());
        });
    }

    /// Takes a segment's report; the session may end with it.
    fn hear(&mut self, report: Report) -> Result<Option<SessionEnd>, GetError> {
        let Report {
            id,
            lead,
            received,
            outcome,
        } = report;
        self.session.plan().release(id);
        self.leads.disengage(lead);
        if self.busy.remove(&id).is_none() {
            // Dismissed earlier: what it saw on its way out changes nothing.
            return Ok(None);
        }
        match outcome {
            Outcome::Stopped => Ok(None),
            Outcome::Through(current, validator) => {
                self.leads.learn(lead, current, validator);
                Ok(None)
            }
            Outcome::Failed(error) => self.failed(lead, received, error),
            Outcome::Changed(answer) => {
                let why = "the file has changed on the server".to_owned();
                Ok(Some(SessionEnd::StartOver { why, answer }))
            }
            Outcome::Whole(answer) => {
                Ok(self.no_ranges("the server cannot send parts of files", Some(answer)))
            }
            Outcome::Wrong(why) => Ok(self.no_ranges(&why, None)),
            Outcome::Unfit(why) => self.drop_lead(lead, GetError::new(Blame::Network, why)),
        }
    }

    fn failed(
        &mut self,
        lead: usize,
        received: u64,
        error: GetError,
    ) -> Result<Option<SessionEnd>, GetError> {
        if error.blame == Blame::LocalFile {
            return Err(error);
        }
        if error.again == super::error::Again::Never || self.leads.failed(lead) == Patience::Spent {
            return self.drop_lead(lead, error);
        }
        if self.ranges == Ranges::Possible && !self.busy.is_empty() && received == 0 {
            // The others go on: one connection too many, it seems.
            self.ramp.limit(self.busy.len(), self.began.elapsed());
            return Ok(None);
        }
        let kept = match self.ranges {
            Ranges::Possible => self.session.plan().done().total(),
            Ranges::Impossible => 0,
        };
        let text = error.to_string();
        let wait = self.attempts.failed(error, kept)?;
        if self.ranges == Ranges::Impossible {
            self.session.reporter.retry(text, wait);
            self.watch.sleep(wait)?;
            return Ok(Some(SessionEnd::StartOver {
                why: NO_MIDDLE.to_owned(),
                answer: None,
            }));
        }
        if !self.leads.has_fresh() {
            self.session.reporter.retry(text, wait);
            self.not_before = Instant::now() + wait;
        }
        Ok(None)
    }

    fn drop_lead(&mut self, lead: usize, error: GetError) -> Result<Option<SessionEnd>, GetError> {
        match self.leads.drop_lead(lead) {
            Ok(()) => {
                self.session
                    .reporter
                    .note(format!("a mirror is dropped: {error}"));
                Ok(None)
            }
            Err(LastLead) => Err(error),
        }
    }

    /// Only whole answers are any good here. One that is being received goes on.
    fn no_ranges(&mut self, why: &str, answer: Option<Box<Answer>>) -> Option<SessionEnd> {
        self.ranges = Ranges::Impossible;
        self.leads.distrust_ranges();
        let Some(taker) = self.taker.filter(|taker| self.busy.contains_key(taker)) else {
            return Some(SessionEnd::StartOver {
                why: why.to_owned(),
                answer,
            });
        };
        self.session
            .reporter
            .note(format!("{why}: one connection it is"));
        self.ramp = Ramp::new(Segments::Fixed(1));
        let mut plan = self.session.plan();
        for (id, cancel) in self.busy.split_off(&taker).into_iter() {
            if id == taker {
                self.busy.insert(id, cancel);
            } else {
                cancel.cancel();
                plan.release(id);
            }
        }
        plan.widen(taker);
        None
    }

    fn look(&mut self) {
        let elapsed = self.ticked.elapsed();
        let (received, left) = {
            let mut plan = self.session.plan();
            if elapsed >= TICK_EVERY {
                plan.tick(elapsed);
            }
            let left = plan
                .length()
                .map_or(0, |length| length - plan.done().total());
            (plan.received(), left)
        };
        if elapsed >= TICK_EVERY {
            self.ticked = Instant::now();
            self.report_progress();
        }
        self.ramp.observe(self.began.elapsed(), received, left);
    }

    fn report_progress(&self) {
        let plan = self.session.plan();
        let (length, done): (_, &Extents) = (plan.length(), plan.done());
        self.session.reporter.send(|file| Event::Progress {
            file,
            done: done.total(),
            length,
            connections: self.busy.len(),
            extents: done.as_slice().to_vec(),
        });
    }
}

const NO_MIDDLE: &str = "the server cannot go on in the middle of this file";
const LOOK_EVERY: Duration = Duration::from_millis(25);
const TICK_EVERY: Duration = Duration::from_millis(200);
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
const SAVE_EVERY: Duration = Duration::from_millis(200);
