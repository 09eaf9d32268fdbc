//! The settings of a run: requests, connections, duration.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::dial::Family;
use crate::http::Persistence;
use crate::tls::client::ClientTls;

use super::target::WeightedUrl;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The URLs to request.
    pub urls: Vec<WeightedUrl>,
    /// Connections with requests; each keeps one under way.
    pub connections: usize,
    /// Further connections that request the first URL and read nothing.
    pub stalled: usize,
    /// Generator threads, among which the connections are shared out.
    pub threads: usize,
    /// When it is over.
    pub extent: RunLength,
    /// The time over which the connections are opened. Requests of the ramp are not measured.
    pub ramp: Duration,
    /// Ask for ranges of this many bytes at random multiples of it, instead of whole files.
    pub range: Option<NonZeroU64>,
    /// When requests are sent.
    pub pace: Pace,
    /// Whether connections are used again.
    pub persistence: Persistence,
    /// The treatment of the content.
    pub bodies: Bodies,
    /// The most bytes one `recv` may take.
    pub receive_bytes: usize,
    /// How https servers are known.
    pub tls: ClientTls,
    /// The address families to try.
    pub family: Family,
    /// A request on which nothing moves for so long has failed.
    pub timeout: Duration,
    /// A local server whose use of processor and memory is measured, by its process number.
    pub server: Option<u32>,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLength {
    /// After a time.
    For(Duration),
    /// After so many requests, failed ones included.
    Requests(u64),
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the previous response is complete.
    Closed,
    /// At a fixed rate, whether or not the server keeps up. Latency counts from the moment at which
    /// a request is due, so that a slow server cannot hide it (no coordinated omission).
    Open {
        /// Requests a second, over all connections.
        per_second: f64,
    },
}

/// The treatment of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// The kernel throws it away.
    Discard,
    /// Content is hashed, and the answers to the same request are compared.
    Verify,
}
