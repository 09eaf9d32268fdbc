//! Byte ranges against a length (RFC 9110 sections 14.1.2 and 15.3.7.2).

use crate::exchange::RangeSpec;

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
