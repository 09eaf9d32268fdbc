//! What tells one content of a file from another (RFC 9110 section 8.8).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::date::Now;
use super::policy::EtagChoice;
use crate::meta::Meta;

/// What tells one content of a file from another (RFC 9110 section 8.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// For `ETag`.
    pub etag: EntityTag,
    /// For `Last-Modified`: seconds since 1970, not in the future.
    pub last_modified: u64,
    /// How far `last_modified` can be trusted (RFC 9110 section 8.8.2.2).
    pub date_strength: Strength,
}

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    /// Whether it may be shared by contents that are equivalent only.
    pub strength: Strength,
    /// What stands between the quotes.
    pub opaque: Box<[u8]>,
}

/// How much a validator promises (RFC 9110 section 8.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Equal means the same bytes.
    Strong,
    /// Equal means equivalent.
    Weak,
}

impl EntityTag {
    /// The tag that `bytes` begin with, and what follows it.
    pub(super) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (strength, quoted) = match bytes {
            [b'W', b'/', b'"', rest @ ..] => (Strength::Weak, rest),
            [b'"', rest @ ..] => (Strength::Strong, rest),
            _ => return None,
        };
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        let is_etagc = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        let opaque = &quoted[..end];
        opaque.iter().all(is_etagc).then(|| {
            (
                Self {
                    strength,
                    opaque: opaque.into(),
                },
                &quoted[end + 1..],
            )
        })
    }
}

impl Validators {
    /// The validators of the file that `meta` describes.
    pub fn of(meta: &Meta, choice: EtagChoice, now: &Now) -> Self {
        let opaque = match choice {
            EtagChoice::Inode => hash(meta).into_bytes(),
            EtagChoice::MtimeSize => format!(
                "{:x}.{:x}-{:x}",
                meta.modified.seconds, meta.modified.nanoseconds, meta.len
            )
            .into_bytes(),
        };
        let last_modified = now.last_modified(meta.modified);
        // A file may be written twice within one tick of the clock that stamps it, and look the
        // same. Once the last change is some ticks in the past it cannot any more.
        let settled = now.seconds().saturating_sub(last_modified) >= SETTLED_SECONDS;
        let strength = if settled {
            Strength::Strong
        } else {
            Strength::Weak
        };
        Self {
            etag: EntityTag {
                strength,
                opaque: opaque.into(),
            },
            last_modified,
            date_strength: strength,
        }
    }

    /// Appends the entity tag as it stands in `ETag`.
    pub fn write_etag(&self, out: &mut Vec<u8>) {
        if self.etag.strength == Strength::Weak {
            out.extend_from_slice(b"W/");
        }
        out.push(b'"');
        out.extend_from_slice(&self.etag.opaque);
        out.push(b'"');
    }
}

/// 96 bits, of which nothing can be learnt about the file system.
fn hash(meta: &Meta) -> String {
    let mut hasher = blake3::Hasher::new();
    for number in [meta.device, meta.inode, meta.len] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [meta.modified, meta.changed] {
        hasher.update(&time.seconds.to_le_bytes());
        hasher.update(&time.nanoseconds.to_le_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hasher.finalize().as_bytes()[..12])
}

/// Coarser than the time stamps of every file system in use but FAT, whose are even seconds.
const SETTLED_SECONDS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Timestamp;

    fn meta() -> Meta {
        let time = Timestamp {
            seconds: 100,
            nanoseconds: 5,
        };
        Meta {
            device: 1,
            inode: 2,
            links: 1,
            len: 3,
            modified: time,
            changed: time,
        }
    }

    #[test]
    fn every_part_of_the_meta_data_makes_another_tag() {
        let now = Now::at(1_000);
        let tag = |meta: &Meta| Validators::of(meta, EtagChoice::Inode, &now).etag;
        let other = Timestamp {
            seconds: 100,
            nanoseconds: 6,
        };
        let variants = [
            meta(),
            Meta {
                device: 9,
                ..meta()
            },
            Meta { inode: 9, ..meta() },
            Meta { len: 9, ..meta() },
            Meta {
                modified: other,
                ..meta()
            },
            Meta {
                changed: other,
                ..meta()
            },
        ];
        for (index, one) in variants.iter().enumerate() {
            for (other_index, other) in variants.iter().enumerate() {
                assert_eq!(tag(one) == tag(other), index == other_index);
            }
        }
    }

    #[test]
    fn replicas_share_the_tag_of_mtime_and_size() {
        let now = Now::at(1_000);
        let tag = |meta: &Meta| Validators::of(meta, EtagChoice::MtimeSize, &now).etag;
        let replica = Meta {
            device: 7,
            inode: 8,
            changed: Timestamp::default(),
            ..meta()
        };
        assert_eq!(tag(&meta()), tag(&replica));
        assert_ne!(tag(&meta()), tag(&Meta { len: 4, ..meta() }));
    }

    #[test]
    fn a_young_file_has_a_weak_tag() {
        for (seconds, strength) in [
            (99, Strength::Weak),
            (101, Strength::Weak),
            (102, Strength::Strong),
        ] {
            let validators = Validators::of(&meta(), EtagChoice::Inode, &Now::at(seconds));
            assert_eq!(validators.etag.strength, strength, "at {seconds}");
        }
    }
}
