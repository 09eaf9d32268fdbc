//! Expected sums, and hashing behind the front of a download while it runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::digest::DynDigest;

use crate::digest::{Algorithm, Checksum};
use crate::get::error::{ErrorKind, GetError};
use crate::get::shared::Shared;

/// Hashes a file from its start, up to its contiguous bytes.
pub(super) struct Verifier {
    hashers: Vec<(Checksum, Box<dyn DynDigest + Send>)>,
    hashed: u64,
    buffer: Vec<u8>,
}

impl Verifier {
    pub(super) fn new(expected: &[Checksum]) -> Self {
        let hashers = expected.iter();
        Self {
            hashers: hashers
                .map(|sum| (sum.clone(), sum.algorithm().hasher()))
                .collect(),
            hashed: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes hashed so far.
    pub(super) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Hashes bytes that follow those hashed before.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.hashers {
            hasher.update(bytes);
        }
        self.hashed += bytes.len() as u64;
    }

    /// Hashes up to one step more of `file` towards `front`; returns whether it got there.
    pub(super) fn follow(
        &mut self,
        (file, path): (&File, &Path),
        front: u64,
    ) -> Result<Caught, GetError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(STEP_BYTES, 0);
        let step = (front - self.hashed.min(front)).min(STEP_BYTES as u64) as usize;
        let read = file.read_exact_at(&mut buffer[..step], self.hashed);
        read.map_err(|error| GetError::local("read", path, &error))?;
        self.update(&buffer[..step]);
        self.buffer = buffer;
        Ok(if self.hashed >= front {
            Caught::Up
        } else {
            Caught::Behind
        })
    }

    /// Compares the sums of the hashed bytes with the expected ones.
    ///
    /// # Errors
    /// Verification, with both sums.
    pub(super) fn finish(self) -> Result<(), GetError> {
        for (expected, hasher) in self.hashers {
            let found = Checksum::new(expected.algorithm(), hasher.finalize());
            if let Some(found) = found {
                compare(&found, &expected)?;
            }
        }
        Ok(())
    }
}

/// Holds the first `length` bytes of a file against sums.
///
/// # Errors
/// Verification, LocalFile, or the run is stopped.
pub(super) fn verify(
    shared: &Shared,
    file: (&File, &Path),
    length: u64,
    expected: &[Checksum],
) -> Result<(), GetError> {
    let mut verifier = Verifier::new(expected);
    while verifier.follow(file, length)? == Caught::Behind {
        shared.check()?;
    }
    verifier.finish()
}

/// Compares the sum of the bytes that came with the expected one.
///
/// # Errors
/// Verification, with both sums.
pub(super) fn compare(found: &Checksum, expected: &Checksum) -> Result<(), GetError> {
    if found == expected {
        return Ok(());
    }
    let text = format!("the bytes are not the expected ones: {found}, not {expected}");
    Err(GetError::new(ErrorKind::Verification, text))
}

/// The algorithm of which two sums differ: no content has both.
pub(super) fn contradiction(checksums: &[Checksum]) -> Option<Algorithm> {
    let differ =
        |one: &Checksum, other: &Checksum| one.algorithm() == other.algorithm() && one != other;
    let found = checksums
        .iter()
        .find(|one| checksums.iter().any(|other| differ(one, other)));
    found.map(Checksum::algorithm)
}

/// See [`Verifier::follow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caught {
    Up,
    Behind,
}

const STEP_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn sums_of_nothing_and_of_something_else() {
        let expected = [Checksum::parse(Algorithm::Sha256, EMPTY).unwrap()];
        assert!(Verifier::new(&expected).finish().is_ok());
        let mut other = Verifier::new(&expected);
        other.update(b"x");
        assert_eq!(other.finish().unwrap_err().kind, ErrorKind::Verification);
    }
}
