//! Digests of files: how they are computed, written down, and kept from one run to the next.
//!
//! The server sends digests, the client verifies them, `haul sum` prints them. No protocol and no
//! source of bytes is part of this module.

mod algorithm;
pub(crate) mod blocks;
pub(crate) mod checksum_file;
pub(crate) mod hasher;
pub(crate) mod identity;
pub(crate) mod store;

pub use algorithm::{Algorithm, Checksum, ChecksumError};
pub(crate) use blocks::BlockList;
pub use checksum_file::ChecksumFile;
pub(crate) use hasher::Digests;
pub(crate) use hasher::{FileHasher, Wanted};
pub(crate) use identity::Identity;
pub(crate) use store::Store;
