//! Validators distinguish the contents of a file (RFC 9110 section 8.8).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::date::Now;
use super::negotiate::Coding;
use super::policy::EtagChoice;
use crate::meta::Meta;

/// The validators of one content of a file (RFC 9110 section 8.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// For `ETag`.
    pub etag: EntityTag,
    /// For `Last-Modified`: seconds since 1970, not in the future.
    pub last_modified: u64,
    /// Whether `last_modified` is strong (RFC 9110 section 8.8.2.2).
    pub date_strength: Strength,
}

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    /// Whether it may be shared by contents that are equivalent only.
    pub strength: Strength,
    /// The text between the quotes.
    pub opaque: Box<[u8]>,
}

/// The strength of a validator (RFC 9110 section 8.8.1).
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
    /// The validators of the file that `meta` describes. The validators are strong if the file
    /// `has_settled`: before that a change may not show in its time stamps.
    pub fn of(meta: &Meta, choice: EtagChoice, has_settled: bool, now: &Now) -> Self {
        let opaque = match choice {
            EtagChoice::Inode => hash(meta).into_bytes(),
            EtagChoice::MtimeSize => format!(
                "{:x}.{:x}-{:x}",
                meta.modified.seconds, meta.modified.nanoseconds, meta.len
            )
            .into_bytes(),
        };
        // A program has set an mtime in the future; ctime is the time of that.
        let is_ahead = meta.modified > meta.changed && meta.changed.seconds > 0;
        let modified = if is_ahead {
            meta.changed
        } else {
            meta.modified
        };
        let last_modified = now.last_modified(modified);
        let strength = |is_strong| match is_strong {
            true => Strength::Strong,
            false => Strength::Weak,
        };
        let changed = last_modified.max(u64::try_from(meta.changed.seconds).unwrap_or(0));
        let is_old = changed.saturating_add(DATE_SECONDS) <= now.seconds();
        Self {
            etag: EntityTag {
                strength: strength(has_settled),
                opaque: opaque.into(),
            },
            last_modified,
            date_strength: strength(has_settled && is_old),
        }
    }

    /// The same for the representation in this coding (RFC 9110 section 8.8.3.3).
    pub(crate) fn in_coding(mut self, coding: Coding) -> Self {
        let opaque = [&self.etag.opaque, coding.suffix().as_bytes()].concat();
        self.etag.opaque = opaque.into();
        self
    }

    /// Appends the entity tag for `ETag`.
    pub fn write_etag(&self, out: &mut Vec<u8>) {
        if self.etag.strength == Strength::Weak {
            out.extend_from_slice(b"W/");
        }
        out.push(b'"');
        out.extend_from_slice(&self.etag.opaque);
        out.push(b'"');
    }
}

/// 96 bits, which reveal nothing of the file system.
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

/// A date in whole seconds is a strong validator only some seconds later (RFC 9110 section
/// 8.8.2.2).
const DATE_SECONDS: u64 = 2;

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
        let tag = |meta: &Meta| Validators::of(meta, EtagChoice::Inode, true, &now).etag;
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
        let tag = |meta: &Meta| Validators::of(meta, EtagChoice::MtimeSize, true, &now).etag;
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
    fn a_date_gets_strong_later_than_a_tag() {
        for (seconds, has_settled, etag, date) in [
            (100, false, Strength::Weak, Strength::Weak),
            (101, true, Strength::Strong, Strength::Weak),
            (102, true, Strength::Strong, Strength::Strong),
        ] {
            let now = Now::at(seconds);
            let validators = Validators::of(&meta(), EtagChoice::Inode, has_settled, &now);
            assert_eq!(validators.etag.strength, etag, "at {seconds}");
            assert_eq!(validators.date_strength, date, "at {seconds}");
        }
    }

    #[test]
    fn a_date_set_ahead_is_that_of_its_setting_for_ever() {
        let modified = Timestamp {
            seconds: 5_000,
            nanoseconds: 0,
        };
        let meta = Meta { modified, ..meta() };
        for seconds in [200, 4_999, 6_000] {
            let validators = Validators::of(&meta, EtagChoice::Inode, true, &Now::at(seconds));
            assert_eq!(validators.last_modified, 100, "at {seconds}");
        }
    }

    #[test]
    fn every_coding_has_a_tag_of_its_own() {
        let now = Now::at(1_000);
        let plain = Validators::of(&meta(), EtagChoice::MtimeSize, true, &now);
        for coding in Coding::ALL {
            assert_ne!(plain.clone().in_coding(coding).etag, plain.etag);
        }
    }
}
