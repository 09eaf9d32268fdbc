//! All wanted digests of a file in one pass.

use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::algorithm::{Algorithm, Checksum};
use crate::digest::blocks::{self, BLOCK_BYTES, BlockHasher, BlockList, BlockValue};

/// The wanted digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) sha256: bool,
    pub(crate) sha512: bool,
    /// BLAKE3, and its block list.
    pub(crate) blake3: bool,
}

impl Wanted {
    /// What a server computes in any case: SHA-256 and BLAKE3, with its block list.
    pub(crate) const USUAL: Self = Self {
        sha256: true,
        sha512: false,
        blake3: true,
    };

    /// BLAKE3 and its block list.
    pub(crate) const BLOCKS: Self = Self {
        sha256: false,
        sha512: false,
        blake3: true,
    };

    /// The digest by this algorithm alone; `None` if it is not computed in one pass with others.
    pub(crate) fn only(algorithm: Algorithm) -> Option<Self> {
        let nothing = Self::default();
        match algorithm {
            Algorithm::Sha256 => Some(Self {
                sha256: true,
                ..nothing
            }),
            Algorithm::Sha512 => Some(Self {
                sha512: true,
                ..nothing
            }),
            Algorithm::Blake3 => Some(Self {
                blake3: true,
                ..nothing
            }),
            Algorithm::Md5 | Algorithm::Sha1 => None,
        }
    }

    /// The digests of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sha256: self.sha256 || other.sha256,
            sha512: self.sha512 || other.sha512,
            blake3: self.blake3 || other.blake3,
        }
    }

    /// Whether no digest is wanted.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The digests of a file's content that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) sha512: Option<[u8; 64]>,
    pub(crate) blake3: Option<[u8; 32]>,
}

impl Digests {
    /// The wanted digests that are not known.
    pub(crate) fn missing(&self, wanted: Wanted) -> Wanted {
        Wanted {
            sha256: wanted.sha256 && self.sha256.is_none(),
            sha512: wanted.sha512 && self.sha512.is_none(),
            blake3: wanted.blake3 && self.blake3.is_none(),
        }
    }

    /// The union of two sets of digests of the same content.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sha256: self.sha256.or(other.sha256),
            sha512: self.sha512.or(other.sha512),
            blake3: self.blake3.or(other.blake3),
        }
    }

    /// The digest by this algorithm, if it is known.
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<Checksum> {
        let digest: &[u8] = match algorithm {
            Algorithm::Sha256 => self.sha256.as_ref()?,
            Algorithm::Sha512 => self.sha512.as_ref()?,
            Algorithm::Blake3 => self.blake3.as_ref()?,
            Algorithm::Md5 | Algorithm::Sha1 => return None,
        };
        Checksum::new(algorithm, digest)
    }
}

/// Hashes a file of known length from its start.
#[derive(Debug)]
pub(crate) struct FileHasher {
    len: u64,
    hashed: u64,
    sha256: Option<Sha256>,
    sha512: Option<Sha512>,
    blocks: Option<Blocks>,
}

#[derive(Debug, Default)]
struct Blocks {
    values: Vec<BlockValue>,
    current: Option<BlockHasher>,
}

impl FileHasher {
    /// For a file of `len` bytes.
    pub(crate) fn new(wanted: Wanted, len: u64) -> Self {
        Self {
            len,
            hashed: 0,
            sha256: wanted.sha256.then(Sha256::new),
            sha512: wanted.sha512.then(Sha512::new),
            blocks: wanted.blake3.then(Blocks::default),
        }
    }

    /// Bytes hashed so far.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Bytes of the file that are not hashed yet.
    pub(crate) fn left(&self) -> u64 {
        self.len - self.hashed
    }

    /// Hashes the next bytes; those behind the end are left out.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let mut rest = &bytes[..bytes.len().min(most)];
        while !rest.is_empty() {
            let in_block = (BLOCK_BYTES - self.hashed % BLOCK_BYTES) as usize;
            let (piece, after) = rest.split_at(rest.len().min(in_block));
            self.update_within_block(piece);
            rest = after;
        }
    }

    fn update_within_block(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha512 {
            hasher.update(bytes);
        }
        let number = self.hashed / BLOCK_BYTES;
        self.hashed += bytes.len() as u64;
        if let Some(blocks) = &mut self.blocks {
            let begin = || BlockHasher::new(number, self.len);
            let mut block = blocks.current.take().unwrap_or_else(begin);
            block.update(bytes);
            match self.hashed.is_multiple_of(BLOCK_BYTES) || self.hashed == self.len {
                true => blocks.values.push(block.finish()),
                false => blocks.current = Some(block),
            }
        }
    }

    /// The digests, and the block list if BLAKE3 was wanted; `None` before the end of the file.
    pub(crate) fn finish(self) -> Option<(Digests, Option<BlockList>)> {
        if self.hashed < self.len {
            return None;
        }
        let list = self.blocks.map(|mut blocks| {
            if self.len == 0 {
                blocks.values.push(BlockHasher::new(0, 0).finish());
            }
            debug_assert_eq!(blocks.values.len() as u64, blocks::count(self.len));
            BlockList::new(self.len, blocks.values)
        });
        let list = list.flatten();
        let digests = Digests {
            sha256: self.sha256.map(|hasher| hasher.finalize().into()),
            sha512: self.sha512.map(|hasher| hasher.finalize().into()),
            blake3: list.as_ref().map(|list| *list.root()),
        };
        Some((digests, list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted {
        sha256: true,
        sha512: true,
        blake3: true,
    };

    #[test]
    fn one_pass_gives_what_each_algorithm_gives_alone_however_it_is_cut() {
        for len in [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 77] {
            let content: Vec<u8> = (0..len).map(|at| (at / 5) as u8).collect();
            let mut hasher = FileHasher::new(ALL, len);
            content.chunks(3_000_017).for_each(|cut| hasher.update(cut));
            // Growth during the hash does not change the digest.
            hasher.update(b"more");
            let (digests, list) = hasher.finish().expect("all of it");
            for (algorithm, found) in [
                (Algorithm::Sha256, digests.sha256.map(|sum| sum.to_vec())),
                (Algorithm::Sha512, digests.sha512.map(|sum| sum.to_vec())),
                (Algorithm::Blake3, list.map(|list| list.root().to_vec())),
            ] {
                let mut alone = algorithm.hasher();
                alone.update(&content);
                assert_eq!(found.as_deref(), Some(&*alone.finalize()), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn there_is_no_digest_before_the_end() {
        let mut hasher = FileHasher::new(ALL, 3);
        hasher.update(b"ab");
        assert_eq!((hasher.hashed(), hasher.left()), (2, 1));
        assert!(hasher.finish().is_none());
    }
}
