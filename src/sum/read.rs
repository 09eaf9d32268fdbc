//! Reading files to hash them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::{Algorithm, Checksum};
use crate::sys::buffer::Buffer;

/// Reads `len` bytes from `offset` on, and gives them to `take` piece by piece.
///
/// # Errors
/// As reading the file; `UnexpectedEof` if it has become shorter.
pub(super) fn extent(
    file: &File,
    (mut offset, len): (u64, u64),
    buffer: &mut Buffer,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let end = offset + len;
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        match file.read_at(&mut buffer[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                take(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The digest of all bytes up to the end: of pipes, and of files without a known length.
pub(super) fn stream(
    mut source: impl Read,
    algorithm: Algorithm,
    buffer: &mut Buffer,
    hashed: &AtomicU64,
) -> io::Result<Checksum> {
    let mut hasher = algorithm.hasher();
    loop {
        match source.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                hashed.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Checksum::new(algorithm, hasher.finalize()).ok_or_else(|| io::Error::other("no digest"))
}

/// Whether a name means standard input.
pub(super) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A piece that stays in the processor's second cache between being read and being hashed.
pub(super) const PIECE_BYTES: usize = 128 << 10;
