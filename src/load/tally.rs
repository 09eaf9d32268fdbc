//! The counts of a generator thread. Threads count for themselves and are summed at the end, so
//! that counting costs no shared cache line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::sys::resources;
use crate::tls;

/// A way for a request to fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The answer is no HTTP head, or one that is not understood.
    BadHead,
    /// The chunks of a body are malformed.
    BadChunks,
    /// A status other than 200, or other than 206 for a range.
    BadStatus(u16),
    /// An answer without a byte in the name protocol: the server has no such file.
    Empty,
    /// Two answers to the same request differ (`--verify`).
    Mismatch,
    /// The machine has no free port to connect from.
    NoPort,
    /// The range was ignored and the whole file sent.
    RangeIgnored,
    /// Connection refused.
    Refused,
    /// The server broke the connection off.
    Reset,
    /// The server closed before the end of the response.
    Short,
    /// No byte moved for the time-out.
    TimedOut,
    /// The TLS handshake or session failed, for this reason.
    Tls(String),
    /// The process may not open more files.
    TooManyFiles,
    /// Any other error number, `errno(3)`.
    Other(i32),
}

impl Failure {
    pub(super) fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|it| it.downcast_ref());
        if let Some(tls::client::Failure { text, .. }) = tls {
            return Self::Tls(text.clone());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Short,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::AddrNotAvailable => Self::NoPort,
            _ if resources::is_out_of_files(error) => Self::TooManyFiles,
            _ => Self::Other(error.raw_os_error().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadChunks => out.write_str("bad chunks"),
            Self::BadHead => out.write_str("bad head"),
            Self::BadStatus(status) => write!(out, "status {status}"),
            Self::Empty => out.write_str("empty"),
            Self::Mismatch => out.write_str("mismatch"),
            Self::NoPort => out.write_str("no free port"),
            Self::RangeIgnored => out.write_str("range ignored"),
            Self::Refused => out.write_str("refused"),
            Self::Reset => out.write_str("reset"),
            Self::Short => out.write_str("short body"),
            Self::TimedOut => out.write_str("timed out"),
            Self::Tls(why) => out.write_str(why),
            Self::TooManyFiles => out.write_str("too many open files"),
            Self::Other(errno) => io::Error::from_raw_os_error(*errno).fmt(out),
        }
    }
}

/// The part of a request that the answer's bytes depend on: the URL's index and the range.
pub(super) type Question = (usize, Option<(u64, u64)>);

/// The counts of one thread, or of all of them.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) requests: u64,
    /// Bytes of content, those of unfinished answers included.
    pub(super) bytes: u64,
    pub(super) connects: u64,
    /// Requests sent again because a kept-alive connection was closed before its answer began.
    pub(super) repeats: u64,
    /// Requests that were due, but found no connection free before the end.
    pub(super) unsent: u64,
    pub(super) failures: BTreeMap<Failure, u64>,
    /// Bytes of content by connection.
    pub(super) shares: Vec<u64>,
    pub(super) latency: Histogram<u64>,
    pub(super) first_byte: Histogram<u64>,
    pub(super) connect: Histogram<u64>,
    /// Of TLS alone.
    pub(super) handshake: Histogram<u64>,
    /// The digest of the first answer to each question.
    pub(super) digests: HashMap<Question, blake3::Hash>,
}

impl Tally {
    pub(super) fn new(connections: usize) -> Self {
        Self {
            requests: 0,
            bytes: 0,
            connects: 0,
            repeats: 0,
            unsent: 0,
            failures: BTreeMap::new(),
            shares: vec![0; connections],
            latency: nanoseconds(),
            first_byte: nanoseconds(),
            connect: nanoseconds(),
            handshake: nanoseconds(),
            digests: HashMap::new(),
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Compares an answer with the first to the same question.
    pub(super) fn compare(
        &mut self,
        question: Question,
        digest: blake3::Hash,
    ) -> Result<(), Failure> {
        let first = *self.digests.entry(question).or_insert(digest);
        if first == digest {
            Ok(())
        } else {
            Err(Failure::Mismatch)
        }
    }

    /// Adds the counts of another thread.
    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.connects += other.connects;
        self.repeats += other.repeats;
        self.unsent += other.unsent;
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.shares.extend(other.shares);
        for (mine, its) in [
            (&mut self.latency, &other.latency),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.connect, &other.connect),
            (&mut self.handshake, &other.handshake),
        ] {
            mine.add(its).expect("all histograms have the same bounds");
        }
        for (question, digest) in other.digests {
            if self.compare(question, digest).is_err() {
                self.fail(Failure::Mismatch);
            }
        }
    }
}

/// Records a duration, clamped to the histogram's bounds.
pub(super) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

fn nanoseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NANOSECONDS, SIGNIFICANT_DIGITS)
        .expect("the bounds are in order and the digits at most five")
}

/// A day: no request outlasts it unnoticed.
const MAX_NANOSECONDS: u64 = 24 * 3_600 * 1_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_between_threads_are_a_mismatch() {
        let mut sum = Tally::new(1);
        for text in ["same", "same", "other"] {
            let mut part = Tally::new(1);
            part.compare((0, None), blake3::hash(text.as_bytes()))
                .expect("the first of its thread");
            sum.merge(part);
        }
        assert_eq!(sum.failures.get(&Failure::Mismatch), Some(&1));
        assert_eq!(sum.shares.len(), 4);
    }

    #[test]
    fn error_numbers_are_told_apart() {
        let of = |errno| Failure::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(
            [of(24), of(32), of(104), of(111)],
            [
                Failure::TooManyFiles,
                Failure::Reset,
                Failure::Reset,
                Failure::Refused
            ]
        );
        assert_eq!(of(5), Failure::Other(5));
    }
}
