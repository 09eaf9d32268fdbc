//! The bytes of the store's entries: the content that they are of, then the digests.

use crate::digest::blocks::BlockList;
use crate::digest::hasher::Digests;
use crate::digest::identity::Identity;

/// The entry of a file's digests.
pub(super) fn encode(identity: &Identity, digests: &Digests) -> Vec<u8> {
    let mut bytes = identity.content().to_vec();
    let fields: [Option<&[u8]>; 3] = [
        digests.sha256.as_ref().map(AsRef::as_ref),
        digests.sha512.as_ref().map(AsRef::as_ref),
        digests.blake3.as_ref().map(AsRef::as_ref),
    ];
    for field in fields {
        bytes.push(u8::from(field.is_some()));
        bytes.extend_from_slice(field.unwrap_or_default());
    }
    bytes
}

/// The digests of an entry; `None` if it is of another content.
pub(super) fn decode(identity: &Identity, bytes: &[u8]) -> Option<Digests> {
    let mut rest = bytes.strip_prefix(identity.content())?;
    let digests = Digests {
        sha256: take(&mut rest)?,
        sha512: take(&mut rest)?,
        blake3: take(&mut rest)?,
    };
    rest.is_empty().then_some(digests)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<Option<[u8; N]>> {
    let (is_there, after) = rest.split_first()?;
    if *is_there == 0 {
        *rest = after;
        return Some(None);
    }
    let (field, after) = after.split_first_chunk()?;
    *rest = after;
    Some(Some(*field))
}

/// The entry of a file's block list.
pub(super) fn encode_blocks(identity: &Identity, list: &BlockList) -> Vec<u8> {
    let mut bytes = identity.content().to_vec();
    bytes.append(&mut list.encode());
    bytes
}

/// The list of an entry; `None` if it is of another content.
pub(super) fn decode_blocks(identity: &Identity, bytes: &[u8]) -> Option<BlockList> {
    BlockList::decode(bytes.strip_prefix(identity.content())?).ok()
}
