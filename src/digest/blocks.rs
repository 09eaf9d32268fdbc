//! Block lists: BLAKE3 values of a file's blocks, from which its BLAKE3 digest follows.
//!
//! # The format
//!
//! A file is cut into blocks of 4 MiB, the last of which may be shorter; an empty file has one
//! empty block. Each block has a value of 32 bytes: the chaining value of the subtree that it is in
//! the file's BLAKE3 tree (section 2.1 of the BLAKE3 paper), or, where the file has one block only,
//! its BLAKE3 digest. Joined pairwise as BLAKE3 joins subtrees, the values give the root, which is
//! the BLAKE3 digest of the file: the digest proves the list, and the list each block as it comes.
//! The length is not part of the digest: a client compares it with that of the file.
//!
//! A list is transferred in version 1 as follows, numbers in network byte order.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `HAULBLK` and the version, 1, as a byte |
//! | 8 | 8 | length of the file |
//! | 16 | 8 | length of a block, 4,194,304 |
//! | 24 | 8 | zero, reserved |
//! | 32 | 32 | the root |
//! | 64 + 32 n | 32 | the value of block n |
//!
//! A list takes 8 bytes for each mebibyte of the file.

use std::fmt;

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: u64 = 4 << 20;

/// The media type of a list.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.haul.blocks";

/// Bytes in front of the first value.
const HEADER_BYTES: usize = 64;
const VALUE_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"HAULBLK\x01";

/// The value of a block.
pub(crate) type BlockValue = ChainingValue;

/// The values of all blocks of a file, which are known to give its root.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BlockList {
    len: u64,
    root: [u8; 32],
    values: Box<[BlockValue]>,
}

/// How many blocks a file of this length has: one at least.
pub(crate) fn count(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES).max(1)
}

/// Where a block of a file of this length begins, and how long it is.
pub(crate) fn extent(number: u64, len: u64) -> (u64, u64) {
    let offset = number * BLOCK_BYTES;
    (offset, len.saturating_sub(offset).min(BLOCK_BYTES))
}

/// Computes the value of one block.
#[derive(Debug)]
pub(crate) struct BlockHasher {
    hasher: blake3::Hasher,
    is_only: bool,
}

impl BlockHasher {
    /// At the start of a block of a file of `len` bytes.
    pub(crate) fn new(number: u64, len: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(number * BLOCK_BYTES);
        let is_only = count(len) == 1;
        Self { hasher, is_only }
    }

    /// Hashes bytes that follow those hashed before; no more than the block has.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The value of the block, all of which was hashed.
    pub(crate) fn finish(self) -> BlockValue {
        match self.is_only {
            true => *self.hasher.finalize().as_bytes(),
            false => self.hasher.finalize_non_root(),
        }
    }
}

impl BlockList {
    /// The list of a file of this length; `None` for another number of values than it has blocks.
    pub(crate) fn new(len: u64, values: Vec<BlockValue>) -> Option<Self> {
        if values.len() as u64 != count(len) {
            return None;
        }
        Some(Self {
            len,
            root: root(&values),
            values: values.into(),
        })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file's BLAKE3 digest.
    pub(crate) fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// The value of each block.
    pub(crate) fn values(&self) -> &[BlockValue] {
        &self.values
    }

    /// How many bytes the list of a file of this length takes.
    pub(crate) fn encoded_len(len: u64) -> u64 {
        HEADER_BYTES as u64 + count(len).saturating_mul(VALUE_BYTES as u64)
    }

    /// The list as it is transferred.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.values.len() * VALUE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.len.to_be_bytes());
        bytes.extend_from_slice(&BLOCK_BYTES.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.root);
        bytes.extend_from_slice(self.values.as_flattened());
        bytes
    }

    /// Reads a list, and holds its values against its root.
    ///
    /// # Errors
    /// [`BadBlockList`] names the fault.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadBlockList> {
        let (header, values) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(BadBlockList("it is cut off"))?;
        if header[..8] != *MAGIC {
            return Err(BadBlockList("it is in no format that is known here"));
        }
        let number = |at: usize| {
            let bytes: [u8; 8] = header[at..at + 8].try_into().unwrap_or_default();
            u64::from_be_bytes(bytes)
        };
        if number(16) != BLOCK_BYTES {
            return Err(BadBlockList("its blocks have another length"));
        }
        let (values, rest) = values.as_chunks::<VALUE_BYTES>();
        let list = Self::new(number(8), values.to_vec());
        let list = list.filter(|_| rest.is_empty());
        let list = list.ok_or(BadBlockList("it has another length than its file says"))?;
        match list.root == header[32..] {
            true => Ok(list),
            false => Err(BadBlockList("its values do not give its root")),
        }
    }
}

impl fmt::Debug for BlockList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = blake3::Hash::from_bytes(self.root);
        write!(f, "BlockList({} B, {root})", self.len)
    }
}

/// Why bytes are no block list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBlockList(&'static str);

impl fmt::Display for BadBlockList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list of blocks cannot be used: {}", self.0)
    }
}

fn root(values: &[BlockValue]) -> [u8; 32] {
    match values {
        [only] => *only,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            *merge_subtrees_root(&joined(left), &joined(right), Mode::Hash).as_bytes()
        }
    }
}

/// The chaining value of neighbouring subtrees. Halving bounds the depth to 64.
fn joined(values: &[BlockValue]) -> BlockValue {
    match values {
        [only] => *only,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            merge_subtrees_non_root(&joined(left), &joined(right), Mode::Hash)
        }
    }
}

/// The greatest power of two below `len`, which is 2 at least.
fn left_len(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(content: &[u8]) -> BlockList {
        let len = content.len() as u64;
        let value = |number| {
            let (offset, block) = extent(number, len);
            let mut hasher = BlockHasher::new(number, len);
            let bytes = &content[offset as usize..(offset + block) as usize];
            // In pieces, as files are read.
            bytes.chunks(70_001).for_each(|piece| hasher.update(piece));
            hasher.finish()
        };
        BlockList::new(len, (0..count(len)).map(value).collect()).unwrap()
    }

    fn content(len: u64) -> Vec<u8> {
        (0..len).map(|at| (at * 7 / 3 + at / 4096) as u8).collect()
    }

    #[test]
    fn the_values_give_the_digest_of_the_file_whatever_its_length() {
        for len in [
            0,
            1,
            1024,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            2 * BLOCK_BYTES,
            3 * BLOCK_BYTES - 5,
            5 * BLOCK_BYTES + 4097,
        ] {
            let content = content(len);
            let list = list_of(&content);
            assert_eq!(list.root(), blake3::hash(&content).as_bytes(), "{len}");
            let bytes = list.encode();
            assert_eq!(bytes.len() as u64, BlockList::encoded_len(len));
            assert_eq!(BlockList::decode(&bytes), Ok(list));
        }
    }

    #[test]
    fn a_list_with_any_bit_turned_is_refused_or_says_another_length() {
        let len = 2 * BLOCK_BYTES + 1;
        let bytes = list_of(&content(len)).encode();
        for at in (0..24).chain(32..bytes.len()) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let is_taken = BlockList::decode(&bad).is_ok_and(|list| list.len() == len);
            assert!(!is_taken, "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(BlockList::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        assert!(BlockList::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_list_of_another_length_has_the_wrong_number_of_values() {
        assert!(BlockList::new(BLOCK_BYTES + 1, vec![[0; 32]]).is_none());
        assert!(BlockList::new(0, Vec::new()).is_none());
        assert!(BlockList::new(u64::MAX, vec![[0; 32]]).is_none());
    }
}
