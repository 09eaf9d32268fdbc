//! One request of the generator, and what has become of it.

use std::time::Instant;

use crate::http::Persistence;

use super::Bodies;
use super::answer_head::AnswerHead;
use super::tally::{Failure, Question};
use super::target::{Target, Wire};

/// One request and what has become of it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) question: Question,
    /// When the request was meant to begin.
    pub(super) intended: Instant,
    pub(super) received: u64,
    pub(super) persistence: Persistence,
    pub(super) verdict: Result<(), Failure>,
    /// Boxed, since it is larger than all the rest and mostly absent.
    pub(super) hasher: Option<Box<blake3::Hasher>>,
}

/// What is left of the content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Bytes(u64),
    UntilClose,
}

impl Exchange {
    pub(super) fn new(question: Question, intended: Instant, bodies: Bodies) -> Self {
        Self {
            question,
            intended,
            received: 0,
            persistence: Persistence::Close,
            verdict: Ok(()),
            hasher: match bodies {
                Bodies::Discard => None,
                Bodies::Verify => Some(Box::default()),
            },
        }
    }

    pub(super) fn wire(&self, targets: &[Target]) -> Wire {
        targets[self.question.0].wire
    }

    /// Judges the head, and says what content follows.
    pub(super) fn accept(
        &mut self,
        head: AnswerHead,
        wanted: Persistence,
        lengths: &mut [Option<u64>],
    ) -> Left {
        let (target, range) = self.question;
        self.verdict = match (head.status, range) {
            (200, None) | (206, Some(_)) => Ok(()),
            (200, Some(_)) => Err(Failure::RangeIgnored),
            (status, _) => Err(Failure::BadStatus(status)),
        };
        if head.complete_length.is_some() {
            lengths[target] = head.complete_length;
        }
        self.persistence = match wanted {
            Persistence::KeepAlive => head.persistence,
            Persistence::Close => Persistence::Close,
        };
        head.content_length.map_or(Left::UntilClose, Left::Bytes)
    }
}

impl Left {
    pub(super) fn less(self, received: usize) -> Self {
        match self {
            Self::Bytes(left) => Self::Bytes(left - received as u64),
            Self::UntilClose => Self::UntilClose,
        }
    }
}
