//! The cryptography that all sessions use, chosen here and nowhere else.
//!
//! ring by default: sealing costs it half of what it costs aws-lc-rs on processors with AVX2 and
//! without AVX-512. The feature `aws-lc-rs` chooses the other.

use std::sync::{Arc, LazyLock};

use rustls::Error;
use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as chosen;
use rustls::server::ProducesTickets;

/// The provider, for `builder_with_provider` of either side.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(chosen::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Keys for tickets, which rustls replaces from time to time.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    chosen::Ticketer::new()
}
