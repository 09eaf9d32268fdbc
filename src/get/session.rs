//! One version of one file: as many connections as pay, until it is whole or turns out to be
//! another file.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::answer::Identity;
use super::client::Answer;
use super::coordinator::Coordinator;
use super::error::GetError;
use super::leads::Leads;
use super::part::{Part, State};
use super::plan::Plan;
use super::retry::Attempts;
use super::verify::{Caught, Sum, Verifier};
use super::{Reporter, Shared};

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
    /// What is there is worth nothing; perhaps with a lead's first answer of a new session.
    StartOver {
        why: String,
        answer: Option<(usize, Box<Answer>)>,
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
        first: Option<(usize, Box<Answer>)>,
        attempts: &mut Attempts,
    ) -> Result<SessionEnd, GetError> {
        // Before any thread starts: the keeper may come late.
        let saved = self.plan().done().total();
        thread::scope(|scope| {
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let keeper_stopped = stopped.clone();
            let keeper = scope.spawn(move || self.keep_state(saved, &keeper_stopped));
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

    /// Writes the state after its data, now and then, and once more when the session is stopped;
    /// the state that is there claims `saved` bytes.
    fn keep_state(&self, mut saved: u64, stopped: &Receiver<()>) {
        let Some(identity) = &self.identity else {
            return;
        };
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

const FOLLOW_EVERY: Duration = Duration::from_millis(20);
const SAVE_EVERY: Duration = Duration::from_millis(200);
