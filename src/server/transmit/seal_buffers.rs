//! Memory that a worker seals with, shared by its TLS connections.

use crate::sys::buffer::Buffer;
use crate::tls::session::sealed_len;

/// The records of what is sealed.
#[derive(Debug)]
pub(crate) struct SealBuffers {
    pub(super) sealed: Buffer,
}

impl Default for SealBuffers {
    fn default() -> Self {
        Self {
            sealed: Buffer::new(sealed_len(LARGEST_BATCH + HEAD_BYTES)),
        }
    }
}

/// Bytes that are sealed at a time at the most: more is not faster.
pub(super) const LARGEST_BATCH: usize = 256 << 10;

/// Most heads are shorter: what may go before a full batch.
pub(super) const HEAD_BYTES: usize = 1 << 10;
