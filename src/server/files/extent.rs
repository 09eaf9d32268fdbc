//! Extents: the unit of residency and of disk reads.

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Extent {
    /// The first byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// An extent begins at each multiple of this.
pub(crate) const EXTENT_BYTES: u64 = 2 << 20;
