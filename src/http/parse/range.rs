//! The `Range` field (RFC 9110 section 14.2).

use super::list;
use crate::http::RangeSpec;

/// Reads the value of a `Range` field.
///
/// `None` when the field is to be ignored: another unit, no valid set, or more than `most`
/// ranges, which is either an error or an attack (section 14.2 lets a server ignore such sets).
pub fn parse(value: &[u8], most: usize) -> Option<Box<[RangeSpec]>> {
    let (unit, set) = value.split_at_checked(UNIT.len())?;
    if !unit.eq_ignore_ascii_case(UNIT) {
        return None;
    }
    let mut specs = Vec::with_capacity(1);
    for element in list::elements(set) {
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

/// Digits only. More than 64 bits hold stands for a place behind the end of every file.
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

const UNIT: &[u8] = b"bytes=";

#[cfg(test)]
mod tests {
    use super::*;
    use RangeSpec::{Between, From, Last};

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
}
