//! What happened: close reasons, counters, access records.
//!
//! Every connection ends with exactly one [`CloseReason`]; every response leaves one
//! [`AccessRecord`] with an outcome from the same table. Counters are read through
//! [`Counters::snapshot`].

pub mod access_log;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::diagnostics::is_unprintable;
use crossbeam_utils::CachePadded;

use crate::http::Protocol;

/// Writes the table of close reasons once, as an enum, as log words and as an order for counters.
macro_rules! close_reasons {
    ($($(#[$doc:meta])* $variant:ident, $word:literal;)*) => {
        /// Why a connection ended, or how a response came out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason { $($(#[$doc])* $variant,)* }

        impl CloseReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for the access log and the counters.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

close_reasons! {
    /// Everything that was promised was sent, and the connection ended in order.
    Complete, "complete";
    /// The peer closed or reset the connection while something was owed to it.
    Aborted, "aborted";
    /// The peer took no byte for the time that `--send-timeout` gives.
    Stalled, "stalled";
    /// The peer was slower than `--min-rate` for longer than its grace.
    TooSlow, "too-slow";
    /// The response took longer than `--response-timeout` in all.
    TooLong, "too-long";
    /// The file changed, shrank or vanished while it was sent; the connection was reset.
    Changed, "changed";
    /// Reading the file failed while it was sent; the connection was reset.
    ReadError, "read-error";
    /// The request was understood and refused.
    Refused, "refused";
    /// The bytes received are neither HTTP nor a name, or HTTP against the rules.
    Malformed, "malformed";
    /// No byte came in time.
    FirstByteTimeout, "first-byte-timeout";
    /// The request was not whole in time.
    HeadTimeout, "head-timeout";
    /// No further request came in time on a kept connection.
    Idle, "idle";
    /// A limit on connections or bulk transfers was reached.
    Overloaded, "overloaded";
    /// The server was told to end.
    Shutdown, "shutdown";
    /// A defect of haul's, contained to this connection.
    Panicked, "panicked";
    /// A system call failed for want of memory or descriptors.
    Exhausted, "exhausted";
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A counter with a part for each thread, so that no processor waits for another one's cache line.
/// Two threads share a part only beyond [`PARTS`].
#[derive(Debug, Default)]
pub struct Counter([CachePadded<AtomicU64>; PARTS]);

impl Counter {
    /// Adds to the calling thread's part.
    #[inline]
    pub fn add(&self, count: u64) {
        let part = PART.with(|part| *part);
        self.0[part].fetch_add(count, Ordering::Relaxed);
    }

    /// All parts together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let parts = self.0.iter();
        parts.map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

const PARTS: usize = 32;

thread_local! {
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

/// Writes the counters once, as atomics, as a snapshot and as the way from one to the other.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one server; shared by its threads.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            closed: [Counter; CloseReason::ALL.len()],
        }

        /// The counters at one moment.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            closed: [u64; CloseReason::ALL.len()],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: Counter::default(),)*
                    closed: std::array::from_fn(|_| Counter::default()),
                }
            }
        }

        impl Counters {
            /// Reads all counters. Each is exact; together they are of nearly the same moment.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.sum(),)*
                    closed: std::array::from_fn(|at| self.closed[at].sum()),
                }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections open now.
    open,
    /// Errors of accept(2) that concerned one connection.
    accept_errors,
    /// Times that accepting found the system out of something, or down to the descriptors that
    /// are kept for files.
    accept_exhausted,
    /// Requests received whole.
    requests,
    /// Bytes given to the kernel, heads included.
    bytes_sent,
    /// Times a connection was parked until its socket is ready.
    parks,
    /// Times a connection gave way to others with its quantum spent.
    yields,
    /// Connections that went from a busy worker to an idle one.
    handovers,
    /// Times a connection went through the disk lane.
    disk_visits,
    /// Extents read into the page cache by the disk lane.
    extents_warmed,
    /// Connections that joined the reading of an extent under way.
    extents_shared,
    /// Extents sent by the disk lane itself, since they did not stay in the page cache.
    extents_sent_cold,
    /// Turns of a hot worker in which it had to wait for longer than 2 ms: for a disk, for another
    /// host, or for memory.
    hot_waits,
    /// Bodies sent by read and write since sendfile(2) refuses the file.
    copied_bodies,
    /// Jobs that panicked.
    panics,
    /// Lines the access log lost because it could not be written fast enough.
    log_lines_lost,
}

impl Counters {
    /// Adds one to a counter.
    #[inline]
    pub fn add_one(counter: &Counter) {
        counter.add(1);
    }

    /// Counts the end of a connection.
    pub fn count_close(&self, reason: CloseReason) {
        Self::add_one(&self.closed[reason as usize]);
    }
}

impl Snapshot {
    /// How many connections ended for this reason.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// How many connections ended, for whatever reason.
    #[must_use]
    pub fn closed_in_all(&self) -> u64 {
        self.closed.iter().sum()
    }
}

/// One response, for the access log.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the request was whole.
    pub at: SystemTime,
    /// Who asked.
    pub peer: SocketAddr,
    /// In which wire format; `None` if it could not be told.
    pub protocol: Option<Protocol>,
    /// The request line or name as it came, unescaped.
    pub request: Vec<u8>,
    /// The status code; 0 where the protocol has none.
    pub status: u16,
    /// Bytes of content given to the kernel.
    pub sent: u64,
    /// Bytes of content intended; `None` where it was not known beforehand.
    pub intended: Option<u64>,
    /// From the whole request to the last byte given to the kernel.
    pub duration: Duration,
    /// How it came out.
    pub outcome: CloseReason,
    /// Why, where the outcome alone does not say.
    pub detail: &'static str,
}

impl fmt::Display for AccessRecord {
    /// `TIME PEER PROTOCOL "REQUEST" STATUS SENT/INTENDED SECONDSs OUTCOME[: DETAIL]`, one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::try_from(self.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let protocol = match self.protocol {
            Some(Protocol::Http) => "http",
            Some(Protocol::Message) => "message",
            Some(Protocol::Name) => "name",
            None => "-",
        };
        write!(
            formatter,
            "{at:.3} {} {protocol} \"{}\" ",
            self.peer,
            Escaped(&self.request)
        )?;
        match self.status {
            0 => formatter.write_str("-")?,
            status => write!(formatter, "{status}")?,
        }
        write!(formatter, " {}/", self.sent)?;
        match self.intended {
            Some(intended) => write!(formatter, "{intended}")?,
            None => formatter.write_str("-")?,
        }
        write!(
            formatter,
            " {:.3}s {}",
            self.duration.as_secs_f64(),
            self.outcome
        )?;
        if self.detail.is_empty() {
            return Ok(());
        }
        write!(formatter, ": {}", self.detail)
    }
}

/// Bytes from a peer, made fit for a log line or a terminal: control characters, quotes,
/// backslashes and what is not UTF-8 are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => write!(formatter, "\\{character}")?,
                    _ if is_unprintable(character) => {
                        write!(formatter, "{}", character.escape_unicode())?;
                    }
                    _ => formatter.write_char(character)?,
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_the_peer_sent() {
        let record = AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            peer: SocketAddr::from(([127, 0, 0, 1], 9)),
            protocol: Some(Protocol::Name),
            request: b"a\"b\n\x1b[2J\xff\xe2\x80\xae".to_vec(),
            status: 0,
            sent: 3,
            intended: Some(5),
            duration: Duration::from_millis(20),
            outcome: CloseReason::Aborted,
            detail: "",
        };
        assert_eq!(
            record.to_string(),
            "1970-01-01T00:00:01.500Z 127.0.0.1:9 name \
             \"a\\\"b\\u{a}\\u{1b}[2J\\xff\\u{202e}\" - 3/5 0.020s aborted"
        );
    }

    #[test]
    fn every_reason_has_its_own_word_and_counter() {
        let counters = Counters::default();
        let mut words = std::collections::HashSet::new();
        for reason in CloseReason::ALL {
            counters.count_close(*reason);
            assert!(words.insert(reason.word()));
        }
        let snapshot = counters.snapshot();
        assert!(
            CloseReason::ALL
                .iter()
                .all(|reason| snapshot.closed(*reason) == 1)
        );
        assert_eq!(snapshot.closed_in_all(), CloseReason::ALL.len() as u64);
    }
}
