//! Why connections end, and the outcomes of responses.

use std::fmt;

/// Writes the table of close reasons once, as an enum, as log words and as an order for counters.
macro_rules! close_reasons {
    ($($(#[$doc:meta])* $variant:ident, $word:literal;)*) => {
        /// Why a connection ended, or the outcome of a response.
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
    /// The whole response was sent, and the connection ended in order.
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
    /// No byte arrived in time.
    FirstByteTimeout, "first-byte-timeout";
    /// The request was not whole in time.
    HeadTimeout, "head-timeout";
    /// No further request arrived in time on a kept connection.
    Idle, "idle";
    /// A limit on connections or bulk transfers was reached.
    Overloaded, "overloaded";
    /// The server was shut down.
    Shutdown, "shutdown";
    /// A defect of haul's, contained to this connection.
    Panicked, "panicked";
    /// A system call failed for lack of memory or descriptors.
    Exhausted, "exhausted";
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
