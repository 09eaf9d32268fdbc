//! How much is worth preparing before the peer takes it: what it does not take is work for nothing.

/// How willingly the peer takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Momentum {
    /// So many, and the send queue was never full.
    Free(u64),
    /// So many since the send queue was full.
    Regained(u64),
}

impl Momentum {
    /// How many bytes may be prepared at once although the peer may not take them; zero if that
    /// would be wasted too often.
    pub(super) fn at_once(self) -> usize {
        match self {
            Self::Regained(bytes) if bytes < REGAINED_BYTES => 0,
            Self::Free(bytes) | Self::Regained(bytes) => {
                FIRST_AT_ONCE.max(usize::try_from(bytes).unwrap_or(usize::MAX))
            }
        }
    }

    /// Notes that `sent` bytes of `wanted` were taken.
    pub(super) fn note(&mut self, sent: u64, wanted: u64) {
        *self = match *self {
            _ if sent < wanted => Self::Regained(0),
            Self::Free(bytes) => Self::Free(bytes + sent),
            Self::Regained(bytes) => Self::Regained(bytes + sent),
        };
    }
}

/// What may be prepared at once for a peer of whom nothing is known.
const FIRST_AT_ONCE: usize = 128 << 10;

/// A peer whose send queue was full has to take so much without a stop before more than it takes
/// is prepared again.
const REGAINED_BYTES: u64 = 8 << 20;
