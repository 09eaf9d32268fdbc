//! Byte ranges (RFC 9110 section 14): `Range`, its selection of a length, `Content-Range`.

use std::fmt;

use super::field_values::{decimal, elements};

/// An element of a `Range` field's set (RFC 9110 section 14.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last`, both inclusive, `first <= last`.
    Between {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte.
        last: u64,
    },
    /// `first-`: all from there.
    From(u64),
    /// `-count`: the last bytes.
    Last(u64),
}

/// A range within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Position of the first byte.
    pub offset: u64,
    /// Number of bytes; never zero.
    pub len: u64,
}

impl ByteRange {
    /// Its place in a file of `total` bytes.
    pub(super) fn content_range(self, total: u64) -> ContentRange {
        ContentRange::Part {
            start: self.offset,
            end: self.offset + self.len,
            total: Some(total),
        }
    }
}

/// The outcome of a set of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole file.
    Whole,
    /// A single part.
    One(ByteRange),
    /// Several parts, which neither overlap nor touch. At least two.
    Several(Vec<ByteRange>),
    /// No byte of the file (416).
    Unsatisfiable,
}

/// The value of `Content-Range` (RFC 9110 section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes START-LAST/TOTAL`; `end` is one past the last byte, `total` may be unknown (`*`).
    Part {
        start: u64,
        end: u64,
        total: Option<u64>,
    },
    /// `bytes */TOTAL`, of a 416.
    Unsatisfied { total: u64 },
}

/// Reads the value of a `Range` field.
///
/// `None` when the field is to be ignored: another unit, an invalid set, or more than `most`
/// ranges, which section 14.2 lets a server ignore as an error or an attack.
pub fn parse(value: &[u8], most: usize) -> Option<Box<[RangeSpec]>> {
    let (unit, set) = value.split_at_checked(UNIT.len())?;
    if !unit.eq_ignore_ascii_case(UNIT) {
        return None;
    }
    let mut specs = Vec::with_capacity(1);
    for element in elements(set) {
        if specs.len() == most {
            return None;
        }
        specs.push(parse_spec(element)?);
    }
    (!specs.is_empty()).then(|| specs.into_boxed_slice())
}

fn parse_spec(element: &[u8]) -> Option<RangeSpec> {
    let dash = element.iter().position(|byte| *byte == b'-')?;
    match (&element[..dash], &element[dash + 1..]) {
        ([], count) => Some(RangeSpec::Last(parse_position(count)?)),
        (first, []) => Some(RangeSpec::From(parse_position(first)?)),
        (first, last) => {
            let (first, last) = (parse_position(first)?, parse_position(last)?);
            (first <= last).then_some(RangeSpec::Between { first, last })
        }
    }
}

/// Digits only. A number beyond 64 bits is a place behind the end of every file.
fn parse_position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |position, digit| {
        digit.is_ascii_digit().then(|| {
            position
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// Resolves a set of ranges against a file of `len` bytes.
///
/// Ranges that overlap or touch are joined at the place of the first, so that no set sends more
/// bytes than the file has.
pub fn resolve(specs: &[RangeSpec], len: u64) -> Selection {
    if let [spec] = specs {
        return match extent(*spec, len) {
            Some(extent) => Selection::One(extent),
            None => nothing(specs, len),
        };
    }
    let mut extents: Vec<(usize, ByteRange)> = specs
        .iter()
        .filter_map(|spec| extent(*spec, len))
        .enumerate()
        .collect();
    extents.sort_by_key(|(_, extent)| extent.offset);
    let mut merged: Vec<(usize, ByteRange)> = Vec::with_capacity(extents.len());
    for (place, extent) in extents {
        match merged.last_mut() {
            Some((first_place, last)) if extent.offset <= last.offset + last.len => {
                let end = (last.offset + last.len).max(extent.offset + extent.len);
                last.len = end - last.offset;
                *first_place = place.min(*first_place);
            }
            _ => merged.push((place, extent)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    match merged.as_slice() {
        [] => nothing(specs, len),
        [(_, extent)] => Selection::One(*extent),
        _ => Selection::Several(merged.into_iter().map(|(_, extent)| extent).collect()),
    }
}

/// The part of a file of `len` bytes that a range covers, if there is one.
fn extent(spec: RangeSpec, len: u64) -> Option<ByteRange> {
    let (offset, end) = match spec {
        RangeSpec::Between { first, last } => (first, last.saturating_add(1).min(len)),
        RangeSpec::From(first) => (first, len),
        RangeSpec::Last(count) => (len.saturating_sub(count), len),
    };
    (offset < end).then(|| ByteRange {
        offset,
        len: end - offset,
    })
}

/// The last bytes of an empty file can be requested (section 14.1.2), but not expressed in
/// `Content-Range`.
fn nothing(specs: &[RangeSpec], len: u64) -> Selection {
    let suffix = |spec: &RangeSpec| matches!(spec, RangeSpec::Last(count) if *count > 0);
    if len == 0 && specs.iter().any(suffix) {
        Selection::Whole
    } else {
        Selection::Unsatisfiable
    }
}

impl ContentRange {
    /// Reads the field's value; `None` for everything that is not `bytes` and in order.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            digits => Some(decimal(digits)?),
        };
        if range.trim() == "*" {
            return Some(Self::Unsatisfied { total: total? });
        }
        let (start, last) = range.trim().split_once('-')?;
        let (start, end) = (decimal(start)?, decimal(last)?.checked_add(1)?);
        (start < end && total.is_none_or(|total| end <= total)).then_some(Self::Part {
            start,
            end,
            total,
        })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { start, end, total } => {
                write!(f, "bytes {start}-{}/", end - 1)?;
                match total {
                    Some(total) => write!(f, "{total}"),
                    None => f.write_str("*"),
                }
            }
            Self::Unsatisfied { total } => write!(f, "bytes */{total}"),
        }
    }
}

const UNIT: &[u8] = b"bytes=";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use RangeSpec::{Between, From, Last};

    /// The positions of a file of `len` bytes that a set selects, one by one.
    fn naive(specs: &[RangeSpec], len: u64) -> Vec<bool> {
        (0..len)
            .map(|position| {
                specs.iter().any(|spec| match *spec {
                    Between { first, last } => (first..=last).contains(&position),
                    From(first) => position >= first,
                    Last(count) => position + count.min(len) >= len,
                })
            })
            .collect()
    }

    fn spec() -> impl Strategy<Value = RangeSpec> {
        let position = || prop_oneof![8 => 0_u64..24, 1 => Just(u64::MAX), 1 => any::<u64>()];
        prop_oneof![
            (position(), position()).prop_map(|(one, other)| Between {
                first: one.min(other),
                last: one.max(other),
            }),
            position().prop_map(From),
            position().prop_map(Last),
        ]
    }

    proptest! {
        #[test]
        fn every_byte_asked_for_is_sent_once(
            specs in proptest::collection::vec(spec(), 1..8),
            len in 0_u64..20,
        ) {
            let wanted = naive(&specs, len);
            let extents = match resolve(&specs, len) {
                Selection::Whole => {
                    prop_assert_eq!(len, 0);
                    return Ok(());
                }
                Selection::Unsatisfiable => Vec::new(),
                Selection::One(extent) => vec![extent],
                Selection::Several(extents) => {
                    prop_assert!(extents.len() > 1);
                    extents
                }
            };
            let mut sent = vec![0; wanted.len()];
            for ByteRange { offset, len: part } in &extents {
                prop_assert!(*part > 0);
                for position in *offset..offset + part {
                    sent[position as usize] += 1;
                }
            }
            let wanted: Vec<i32> = wanted.into_iter().map(i32::from).collect();
            prop_assert_eq!(sent, wanted);
            for one in &extents {
                prop_assert!(extents.iter().all(|other| one.offset + one.len != other.offset));
            }
        }
    }

    #[test]
    fn parts_keep_the_order_in_which_they_were_asked_for() {
        let between = |first, last| Between { first, last };
        let set = [
            between(50, 59),
            between(0, 9),
            between(55, 69),
            between(20, 29),
        ];
        let extent = |offset, len| ByteRange { offset, len };
        assert_eq!(
            resolve(&set, 100),
            Selection::Several(vec![extent(50, 20), extent(0, 10), extent(20, 10)])
        );
    }

    #[test]
    fn the_end_of_the_number_range_holds() {
        let huge = u64::MAX;
        let one = |spec| resolve(&[spec], huge);
        let last = Selection::One(ByteRange {
            offset: huge - 1,
            len: 1,
        });
        assert_eq!(
            one(Between {
                first: huge - 1,
                last: huge
            }),
            last
        );
        assert_eq!(one(From(huge)), Selection::Unsatisfiable);
        assert_eq!(
            one(Last(huge)),
            Selection::One(ByteRange {
                offset: 0,
                len: huge
            })
        );
        assert_eq!(resolve(&[Last(5)], 0), Selection::Whole);
        assert_eq!(resolve(&[Last(0)], 0), Selection::Unsatisfiable);
        assert_eq!(resolve(&[From(0)], 0), Selection::Unsatisfiable);
    }

    #[test]
    fn all_forms_are_read() {
        let parsed = parse(b"bytes=0-499, 500-,,\t-20", 64).expect("a valid set");
        assert_eq!(
            *parsed,
            [
                Between {
                    first: 0,
                    last: 499
                },
                From(500),
                Last(20)
            ]
        );
        assert_eq!(
            *parse(b"Bytes=7-7", 64).expect("a valid set"),
            [Between { first: 7, last: 7 }]
        );
        let huge = parse(b"bytes=0-99999999999999999999999", 64).expect("a valid set");
        assert_eq!(
            *huge,
            [Between {
                first: 0,
                last: u64::MAX
            }]
        );
    }

    #[test]
    fn what_is_no_set_of_byte_ranges_is_ignored() {
        let bad = [
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=1 - 2",
            "bytes=+1-2",
            "bytes=0-1,x",
            "lines=0-1",
            "bytes 0-1",
            "bytes =0-1",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=--1",
            "",
        ];
        for bad in bad {
            assert_eq!(parse(bad.as_bytes(), 64), None, "{bad}");
        }
    }

    #[test]
    fn a_set_with_too_many_ranges_is_ignored() {
        assert!(parse(b"bytes=0-0,2-2", 2).is_some());
        assert!(parse(b"bytes=0-0,2-2,4-4", 2).is_none());
    }

    #[test]
    fn a_content_range_is_written_as_it_is_read() {
        let part = |start, end, total| Some(ContentRange::Part { start, end, total });
        for (text, expected) in [
            ("bytes 0-0/1", part(0, 1, Some(1))),
            ("bytes 5-9/*", part(5, 10, None)),
            ("bytes */7", Some(ContentRange::Unsatisfied { total: 7 })),
        ] {
            assert_eq!(ContentRange::parse(text), expected);
            assert_eq!(
                expected.map(|range| range.to_string()).as_deref(),
                Some(text)
            );
        }
        for wrong in [
            "",
            "bytes 1-0/5",
            "bytes 0-5/5",
            "bytes +0-1/5",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }
}
