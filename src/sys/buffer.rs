//! Memory that bytes of files are copied into.

use std::ops::{Deref, DerefMut};

/// Bytes that begin 64 bytes into a page.
///
/// A large `vec![0; n]` begins 16 bytes into a page (the allocator's header), and copies from the
/// page cache to there cost some processors four times as much as copies to a page boundary.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    pub(crate) fn new(len: usize) -> Self {
        let memory = vec![0; len + PAGE + OFFSET].into_boxed_slice();
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE) + OFFSET;
        Self { memory, start, len }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

const PAGE: usize = 4096;

/// A line of the processor's cache.
const OFFSET: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_a_cache_line_into_a_page_and_is_as_long_as_asked_for() {
        for len in [0, 1, 4096, 256 << 10, 1 << 20] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % PAGE, OFFSET);
            buffer.fill(1);
        }
    }
}
