//! A request of the generator, and its answer so far.

use std::time::Instant;

use crate::http::Persistence;
use crate::http::chunked::{Decoder, Strictness};
use crate::http::client_response::{self, Framing, Head};

use super::config::Bodies;
use super::tally::{Failure, Question};
use super::target::{Target, Wire};

/// A request and its answer so far.
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

/// The outstanding part of the content.
#[derive(Debug)]
pub(super) enum Left {
    Bytes(u64),
    Chunked(Box<Chunks>),
    UntilClose,
}

/// A body in chunks, and its received bytes that are not decoded.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) decoder: Decoder,
    pub(super) input: Vec<u8>,
}

/// Parses a head at the beginning of `bytes`, after interim responses (1xx), and returns its end;
/// `None` if it is incomplete.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut skipped = 0;
    loop {
        match client_response::parse_head(&bytes[skipped..]) {
            Ok(Some((head, length))) if head.status >= 200 => {
                return Ok(Some((head, skipped + length)));
            }
            Ok(Some((_, length))) => skipped += length,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Failure::BadHead),
        }
    }
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

    /// Validates the head, and returns the content that follows.
    pub(super) fn accept(
        &mut self,
        head: &Head,
        wanted: Persistence,
        lengths: &mut [Option<u64>],
    ) -> Left {
        let (target, range) = self.question;
        self.verdict = match (head.status, range) {
            (200, None) | (206, Some(_)) => Ok(()),
            (200, Some(_)) => Err(Failure::RangeIgnored),
            (status, _) => Err(Failure::BadStatus(status)),
        };
        let range = head.content_range.as_deref();
        let complete_length = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
        lengths[target] = complete_length.or(lengths[target]);
        let framing = head.framing();
        self.persistence = if head.closes || framing == Framing::UntilClose {
            Persistence::Close
        } else {
            wanted
        };
        match framing {
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunked(Box::new(Chunks {
                decoder: Decoder::new(Strictness::Lenient),
                input: Vec::new(),
            })),
            Framing::UntilClose => Left::UntilClose,
        }
    }
}
