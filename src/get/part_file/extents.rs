//! Sets of byte ranges: what of a file is there.

use serde::{Deserialize, Serialize};

/// A half-open range of bytes, `start..end`, never empty inside `Extents`.
pub type Extent = (u64, u64);

/// See [`Extents::run_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    There(u64),
    Missing(u64),
}

/// Disjoint extents in order, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Extents(Vec<Extent>);

impl Extents {
    /// Adds `start..end`; returns how many bytes of it were new.
    pub(crate) fn insert(&mut self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        // Everything that touches the new extent melts into it.
        let first = self.0.partition_point(|&(_, e)| e < start);
        let last = self.0.partition_point(|&(s, _)| s <= end);
        let melted = &self.0[first..last];
        let known: u64 = melted
            .iter()
            .map(|&(s, e)| e.min(end).saturating_sub(s.max(start)))
            .sum();
        let start_all = melted.first().map_or(start, |&(s, _)| s.min(start));
        let end_all = melted.last().map_or(end, |&(_, e)| e.max(end));
        self.0.splice(first..last, [(start_all, end_all)]);
        end - start - known
    }

    /// Takes `start..end` out.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|&(_, e)| e <= start);
        let last = self.0.partition_point(|&(s, _)| s < end);
        let left = self.0[first..last]
            .iter()
            .flat_map(|&(s, e)| [(s, e.min(start)), (s.max(end), e)])
            .filter(|(s, e)| s < e)
            .collect::<Vec<_>>();
        self.0.splice(first..last, left);
    }

    /// The run of present or missing bytes that begins at `at`.
    #[must_use]
    pub(crate) fn run_from(&self, at: u64) -> Run {
        match self.0.get(self.0.partition_point(|&(_, end)| end <= at)) {
            Some(&(start, end)) if start <= at => Run::There(end - at),
            Some(&(start, _)) => Run::Missing(start - at),
            None => Run::Missing(u64::MAX - at),
        }
    }

    /// Bytes in the set.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Where the bytes that reach back to offset 0 without a gap end.
    #[must_use]
    pub(crate) fn front(&self) -> u64 {
        self.0
            .first()
            .filter(|(start, _)| *start == 0)
            .map_or(0, |&(_, end)| end)
    }

    /// The extents in order.
    #[must_use]
    pub(crate) fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// The gaps in `0..length`, in order.
    #[must_use]
    pub(crate) fn gaps(&self, length: u64) -> Vec<Extent> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for &(start, end) in &self.0 {
            if at < start.min(length) {
                gaps.push((at, start.min(length)));
            }
            at = end;
        }
        if at < length {
            gaps.push((at, length));
        }
        gaps
    }

    /// Ordered, disjoint, not empty and within `0..length`: the condition for a valid state file.
    #[must_use]
    pub(crate) fn is_sound(&self, length: u64) -> bool {
        let ordered = self.0.windows(2).all(|pair| pair[0].1 < pair[1].0);
        ordered
            && self
                .0
                .iter()
                .all(|&(start, end)| start < end && end <= length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn like_a_row_of_flags(
            ranges in prop::collection::vec((0u64..60, 0u64..20, any::<bool>()), 0..20)
        ) {
            let mut extents = Extents::default();
            let mut flags = [false; 80];
            for (start, count, is_added) in ranges {
                let end = start + count;
                if !is_added {
                    flags[start as usize..end as usize].fill(false);
                    extents.remove(start, end);
                    prop_assert!(extents.is_sound(80));
                    continue;
                }
                let new = (start..end).filter(|&at| !flags[at as usize]).count() as u64;
                flags[start as usize..end as usize].fill(true);
                prop_assert_eq!(extents.insert(start, end), new);
                prop_assert!(extents.is_sound(80));
            }
            let set = flags.iter().filter(|&&flag| flag).count() as u64;
            prop_assert_eq!(extents.total(), set);
            let front = flags.iter().position(|&flag| !flag).unwrap_or(80) as u64;
            prop_assert_eq!(extents.front(), front);
            let mut missing = [false; 80];
            for (start, end) in extents.gaps(80) {
                missing[start as usize..end as usize].fill(true);
            }
            prop_assert!(flags.iter().zip(missing).all(|(&flag, missing)| flag != missing));
        }
    }
}
