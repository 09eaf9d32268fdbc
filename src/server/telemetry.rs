//! Records of events: close reasons, counters, access records.
//!
//! Every connection ends with exactly one [`CloseReason`]; every response leaves one
//! [`AccessRecord`] with an outcome from the same table. Counters are read through
//! [`Counters::snapshot`].

pub mod access_log;
mod close_reason;
mod counters;
mod handshake_failure;
pub mod histogram;
pub mod log_format;
mod record;
mod redact;
pub mod responses;
pub mod transfers;

pub use crate::http::ClientFields;
pub use crate::sys::peer::Peer;
pub use close_reason::CloseReason;
pub use counters::{Counter, Counters, Snapshot};
pub use handshake_failure::HandshakeFailure;
pub use record::{AccessRecord, Escaped, TlsClient};
