//! Memory that a worker seals with, shared by its TLS connections.

use crate::sys::buffer::Buffer;
use crate::tls::session::sealed_len;

/// Room for the records of one batch.
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

/// Most plaintext bytes sealed at once: more is not faster.
pub(super) const LARGEST_BATCH: usize = 256 << 10;

/// Room for a head before a full batch: most heads are shorter.
pub(super) const HEAD_BYTES: usize = 1 << 10;
