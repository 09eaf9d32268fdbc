//! One version of one file on its way: what all its threads share, and how it can end.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::answer::Identity;
use super::client::Answer;
use super::part::Part;
use super::plan::Plan;
use super::verify::Sum;
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
    /// Nanoseconds that connections have spent writing to the file, all together.
    pub(super) writing_nanos: AtomicU64,
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

impl Session<'_> {
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
