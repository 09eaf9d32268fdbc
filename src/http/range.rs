//! Byte ranges against a length (RFC 9110 sections 14.1.2 and 15.3.7.2).

use crate::http::RangeSpec;

/// A range within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Position of the first byte.
    pub offset: u64,
    /// Number of bytes; never zero.
    pub len: u64,
}

/// What a set of ranges comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole file.
    Whole,
    /// One part.
    One(Extent),
    /// Several parts, which neither overlap nor touch. At least two.
    Several(Vec<Extent>),
    /// Nothing that the file has (416).
    Unsatisfiable,
}

/// Resolves a set of ranges against a file of `len` bytes.
///
/// Ranges that overlap or touch become one, which takes the place of the first of them, so that
/// no set makes haul send more than the file holds.
pub fn resolve(specs: &[RangeSpec], len: u64) -> Selection {
    if let [spec] = specs {
        return match extent(*spec, len) {
            Some(extent) => Selection::One(extent),
            None => nothing(specs, len),
        };
    }
    let mut extents: Vec<(usize, Extent)> = specs
        .iter()
        .filter_map(|spec| extent(*spec, len))
        .enumerate()
        .collect();
    extents.sort_by_key(|(_, extent)| extent.offset);
    let mut merged: Vec<(usize, Extent)> = Vec::with_capacity(extents.len());
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
fn extent(spec: RangeSpec, len: u64) -> Option<Extent> {
    let (offset, end) = match spec {
        RangeSpec::Between { first, last } => (first, last.saturating_add(1).min(len)),
        RangeSpec::From(first) => (first, len),
        RangeSpec::Last(count) => (len.saturating_sub(count), len),
    };
    (offset < end).then(|| Extent {
        offset,
        len: end - offset,
    })
}

/// An empty file's last bytes can be asked for (section 14.1.2), but not told in `Content-Range`.
fn nothing(specs: &[RangeSpec], len: u64) -> Selection {
    let suffix = |spec: &RangeSpec| matches!(spec, RangeSpec::Last(count) if *count > 0);
    if len == 0 && specs.iter().any(suffix) {
        Selection::Whole
    } else {
        Selection::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which positions of a file of `len` bytes a set asks for, one by one.
    fn naive(specs: &[RangeSpec], len: u64) -> Vec<bool> {
        (0..len)
            .map(|position| {
                specs.iter().any(|spec| match *spec {
                    RangeSpec::Between { first, last } => (first..=last).contains(&position),
                    RangeSpec::From(first) => position >= first,
                    RangeSpec::Last(count) => position + count.min(len) >= len,
                })
            })
            .collect()
    }

    fn spec() -> impl Strategy<Value = RangeSpec> {
        let position = || prop_oneof![8 => 0_u64..24, 1 => Just(u64::MAX), 1 => any::<u64>()];
        prop_oneof![
            (position(), position()).prop_map(|(one, other)| RangeSpec::Between {
                first: one.min(other),
                last: one.max(other),
            }),
            position().prop_map(RangeSpec::From),
            position().prop_map(RangeSpec::Last),
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
            for Extent { offset, len: part } in &extents {
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
        let between = |first, last| RangeSpec::Between { first, last };
        let set = [
            between(50, 59),
            between(0, 9),
            between(55, 69),
            between(20, 29),
        ];
        let extent = |offset, len| Extent { offset, len };
        assert_eq!(
            resolve(&set, 100),
            Selection::Several(vec![extent(50, 20), extent(0, 10), extent(20, 10)])
        );
    }

    #[test]
    fn the_end_of_the_number_range_holds() {
        let huge = u64::MAX;
        let one = |spec| resolve(&[spec], huge);
        let last = Selection::One(Extent {
            offset: huge - 1,
            len: 1,
        });
        assert_eq!(
            one(RangeSpec::Between {
                first: huge - 1,
                last: huge
            }),
            last
        );
        assert_eq!(one(RangeSpec::From(huge)), Selection::Unsatisfiable);
        assert_eq!(
            one(RangeSpec::Last(huge)),
            Selection::One(Extent {
                offset: 0,
                len: huge
            })
        );
        assert_eq!(resolve(&[RangeSpec::Last(5)], 0), Selection::Whole);
        assert_eq!(resolve(&[RangeSpec::Last(0)], 0), Selection::Unsatisfiable);
        assert_eq!(resolve(&[RangeSpec::From(0)], 0), Selection::Unsatisfiable);
    }
}
