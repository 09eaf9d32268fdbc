//! The plan of a file: which connection fetches which bytes. Pure; the clock comes in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::digest::blocks::BLOCK_BYTES;
use crate::get::part_file::extents::{Extent, Extents, Run};

/// A connection's share, for as long as it has one. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId(u64);

/// The use of the next bytes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Its share is through.
    Nothing,
    /// So many are there already.
    Skip(usize),
    /// So many are missing.
    Write(usize),
}

/// The extents of a file that are there, and the connections that fetch the others.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None` until the end of a body without a length.
    length: Option<u64>,
    done: Extents,
    /// Blocks that came wrong: each comes from one connection the next time, so that it is known
    /// whose fault it is if it comes wrong again.
    forgotten: Extents,
    segments: BTreeMap<SegmentId, Assignment>,
    next_id: u64,
    received: u64,
}

#[derive(Debug)]
struct Assignment {
    at: u64,
    /// The bytes that a connection may be writing just now end here, never before `at`.
    claimed: u64,
    end: u64,
    /// The extent is a block that came wrong.
    is_undivided: bool,
    /// Smoothed bytes a second; `None` before the first tick.
    rate: Option<f64>,
    since_tick: u64,
}

impl Assignment {
    /// Bytes that can still be given to another connection.
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.claimed)
    }
}

impl Plan {
    /// A plan for a file of `length` bytes, of which `done` are there.
    pub(crate) fn new(length: Option<u64>, done: Extents) -> Self {
        Self {
            length,
            done,
            forgotten: Extents::default(),
            segments: BTreeMap::new(),
            next_id: 0,
            received: 0,
        }
    }

    /// The segment of a response that brings the file from its first byte on.
    pub(crate) fn whole(&mut self) -> SegmentId {
        let id = self.reserve();
        self.insert(id, (0, self.length.unwrap_or(u64::MAX)));
        id
    }

    /// The name of one more connection, which gets its share once it stands.
    pub(crate) fn reserve(&mut self) -> SegmentId {
        let id = SegmentId(self.next_id);
        self.next_id += 1;
        id
    }

    pub(crate) fn is_assigned(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }

    /// The most connections that could be given a share now.
    pub(crate) fn shares(&self) -> u64 {
        let Some(length) = self.length else { return 0 };
        let mut taken = self.done.clone();
        for segment in self.segments.values() {
            taken.insert(segment.at, segment.end);
        }
        let gaps = taken.gaps(length).into_iter();
        let gaps = gaps.map(|(start, end)| (end - start).div_ceil(MIN_SEGMENT_BYTES));
        let divided = self.segments.values().filter(|it| !it.is_undivided);
        let parts = divided
            .map(Assignment::left)
            .map(|left| (left / MIN_SEGMENT_BYTES).saturating_sub(1));
        gaps.sum::<u64>() + parts.sum::<u64>()
    }

    /// Work for a connection that stands: the first free gap, or else a share of the segment that
    /// would take longest.
    pub(crate) fn assign(&mut self, id: SegmentId) -> Option<Extent> {
        let length = self.length?;
        let mut taken = self.done.clone();
        for segment in self.segments.values() {
            taken.insert(segment.at, segment.end);
        }
        let (extent, is_undivided) = match taken.gaps(length).first() {
            Some(&gap) => self.undivided(gap),
            None => (self.split()?, false),
        };
        self.insert(id, extent);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.is_undivided = is_undivided;
        }
        Some(extent)
    }

    /// The part of a gap that one connection brings, and whether that is a block that came wrong.
    fn undivided(&self, (start, end): Extent) -> (Extent, bool) {
        match self.forgotten.run_from(start) {
            Run::There(bytes) => {
                let block_end = (start / BLOCK_BYTES + 1) * BLOCK_BYTES;
                ((start, end.min(start + bytes).min(block_end)), true)
            }
            Run::Missing(bytes) => ((start, end.min(start.saturating_add(bytes))), false),
        }
    }

    /// How many bytes the segment may still receive; 0 when it is through.
    pub(crate) fn room(&self, id: SegmentId) -> u64 {
        self.segments
            .get(&id)
            .map_or(0, |segment| segment.end.saturating_sub(segment.at))
    }

    /// Claims the segment's next bytes, at most `most`: no other segment gets them before this one
    /// is released. Were two connections to write the same bytes, the sum might be taken from one's
    /// while the file keeps the other's. Nor are bytes written that are there.
    pub(crate) fn claim(&mut self, id: SegmentId, most: usize) -> Claim {
        let Some(segment) = self.segments.get_mut(&id) else {
            return Claim::Nothing;
        };
        let room = segment.end.saturating_sub(segment.at);
        let up_to = |limit: u64| usize::try_from(room.min(limit)).map_or(most, |up| up.min(most));
        let claim = match self.done.run_from(segment.at) {
            _ if room == 0 => Claim::Nothing,
            Run::There(bytes) => Claim::Skip(up_to(bytes)),
            Run::Missing(bytes) => Claim::Write(up_to(bytes)),
        };
        if let Claim::Skip(count) | Claim::Write(count) = claim {
            segment.claimed = segment.at + count as u64;
        }
        claim
    }

    /// `count` more bytes of the segment are in the file.
    pub(crate) fn record(&mut self, id: SegmentId, count: u64) {
        self.received += count;
        if let Some(segment) = self.segments.get_mut(&id) {
            self.done.insert(segment.at, segment.at + count);
            segment.at += count;
            segment.claimed = segment.claimed.max(segment.at);
            segment.since_tick += count;
        }
    }

    /// The segment passed over `count` bytes that were there: a block may have been forgotten
    /// meanwhile, so they are not claimed anew.
    pub(crate) fn pass_over(&mut self, id: SegmentId, count: u64) {
        self.received += count;
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.at += count;
            segment.claimed = segment.claimed.max(segment.at);
            segment.since_tick += count;
        }
    }

    /// These bytes are wrong and no segment is writing them: they are missing again.
    pub(crate) fn forget(&mut self, (start, end): Extent) {
        self.done.remove(start, end);
        self.forgotten.insert(start, end);
    }

    /// The response for this segment ends at `end`: the bytes behind it are free.
    pub(crate) fn clip(&mut self, id: SegmentId, end: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.end = segment.end.min(end);
        }
    }

    /// The response for this segment has ended: what is behind it is anybody's.
    pub(crate) fn clip_here(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.end = segment.at;
        }
    }

    /// Whether all bytes so far are the segment's, from the first one on, and no other segment
    /// writes.
    pub(crate) fn is_only_writer(&self, id: SegmentId) -> bool {
        let mine = self.segments.get(&id).map(|segment| segment.at);
        let idle = |(&other, segment): (&SegmentId, &Assignment)| {
            other == id || segment.claimed == segment.at
        };
        mine == Some(self.done.total()) && self.segments.iter().all(idle)
    }

    /// The segment, whose answer brings the whole file, is the only one from now on.
    pub(crate) fn leave_to(&mut self, id: SegmentId) {
        self.segments.retain(|&other, _| other == id);
        if let (Some(segment), Some(length)) = (self.segments.get_mut(&id), self.length) {
            segment.end = length;
        }
    }

    /// The segment, whose answer brings the whole file, gets back the bytes behind it that are
    /// neither there nor another segment's.
    pub(crate) fn reclaim(&mut self, id: SegmentId) {
        let (Some(mine), Some(length)) = (self.segments.get(&id), self.length) else {
            return;
        };
        let others = self.segments.values().map(|segment| segment.at);
        let there = self.done.as_slice().iter().map(|&(start, _)| start);
        let behind = others.chain(there).filter(|&start| start >= mine.end);
        let end = behind.min().unwrap_or(length);
        if let Some(mine) = self.segments.get_mut(&id) {
            mine.end = end;
        }
    }

    /// The body without a length has ended here.
    pub(crate) fn end_here(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.end = segment.at;
            self.length = Some(segment.at);
        }
    }

    /// Only `done` is still there.
    pub(crate) fn restrict_to(&mut self, done: &Extents) {
        self.done = done.clone();
    }

    /// The segment's connection is gone.
    pub(crate) fn release(&mut self, id: SegmentId) {
        self.segments.remove(&id);
    }

    /// Takes the rates of the time since the last tick.
    pub(crate) fn tick(&mut self, elapsed: Duration) {
        for segment in self.segments.values_mut() {
            let now = segment.since_tick as f64 / elapsed.as_secs_f64().max(1e-3);
            segment.rate = Some(segment.rate.map_or(now, |rate| rate * 0.7 + now * 0.3));
            segment.since_tick = 0;
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.length
            .is_some_and(|length| self.done.total() == length)
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(crate) fn done(&self) -> &Extents {
        &self.done
    }

    /// Bytes received in this session, those that came twice counted twice.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    fn insert(&mut self, id: SegmentId, (start, end): Extent) {
        self.segments.insert(
            id,
            Assignment {
                at: start,
                claimed: start,
                end,
                is_undivided: false,
                rate: None,
                since_tick: 0,
            },
        );
    }

    /// Cuts the segment that would take longest, so that its connection and a new one of middling
    /// rate end together.
    fn split(&mut self) -> Option<Extent> {
        let rates: Vec<f64> = self
            .segments
            .values()
            .filter_map(|segment| segment.rate)
            .collect();
        let mean = (rates.iter().sum::<f64>() / rates.len().max(1) as f64).max(1.0);
        let rate = |segment: &Assignment| segment.rate.unwrap_or(mean).max(mean / 100.0);
        let left = Assignment::left;
        let time = |segment: &Assignment| left(segment) as f64 / rate(segment);
        let slowest = self
            .segments
            .values_mut()
            .filter(|segment| !segment.is_undivided)
            .filter(|segment| left(segment) >= 2 * MIN_SEGMENT_BYTES)
            .max_by(|a, b| time(a).total_cmp(&time(b)))?;
        let keep = left(slowest) as f64 * rate(slowest) / (rate(slowest) + mean);
        let keep = (keep as u64).clamp(MIN_SEGMENT_BYTES, left(slowest) - MIN_SEGMENT_BYTES);
        let end = std::mem::replace(&mut slowest.end, slowest.claimed + keep);
        Some((slowest.end, end))
    }
}

/// Less than this is not worth another request.
const MIN_SEGMENT_BYTES: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    impl Plan {
        fn next(&mut self) -> Option<(SegmentId, Extent)> {
            let id = self.reserve();
            Some((id, self.assign(id)?))
        }
    }

    #[test]
    fn halves_without_knowledge_and_in_proportion_with_it() {
        let mut plan = Plan::new(Some(64 * MIB), Extents::default());
        let first = plan.whole();
        let (second, extent) = plan.next().unwrap();
        assert_eq!(extent, (32 * MIB, 64 * MIB));
        // The second one runs at a third of the first one's rate: it is the one to be helped.
        plan.record(first, 3 * MIB);
        plan.record(second, MIB);
        plan.tick(Duration::from_secs(1));
        let (_, (start, end)) = plan.next().unwrap();
        assert_eq!(end, 64 * MIB);
        let kept = start - 33 * MIB;
        assert_eq!(kept, 31 * MIB / 3, "1 of 1 + 2 MiB/s");
    }

    #[test]
    fn what_a_broken_connection_leaves_goes_to_the_next() {
        let mut plan = Plan::new(Some(10 * MIB), Extents::default());
        let first = plan.whole();
        plan.record(first, MIB);
        plan.release(first);
        let (second, extent) = plan.next().unwrap();
        assert_eq!(extent, (MIB, 10 * MIB));
        plan.clip(second, 2 * MIB);
        plan.record(second, MIB);
        assert_eq!(plan.room(second), 0);
        plan.release(second);
        assert_eq!(plan.next().unwrap().1, (2 * MIB, 10 * MIB));
    }

    #[test]
    fn what_a_connection_is_writing_is_nobody_elses() {
        let mut plan = Plan::new(Some(2 * MIB), Extents::default());
        let first = plan.whole();
        assert_eq!(plan.claim(first, MIB as usize), Claim::Write(MIB as usize));
        let (_, (start, end)) = plan.next().unwrap();
        assert_eq!((start, end), (MIB + MIB / 2, 2 * MIB));
        assert_eq!(
            plan.claim(first, 4 * MIB as usize),
            Claim::Write((MIB + MIB / 2) as usize)
        );
        assert_eq!(plan.next().unwrap().1.0, MIB + MIB / 2 + MIB / 4);
    }

    #[test]
    fn what_a_refused_connection_was_to_bring_goes_back() {
        let mut plan = Plan::new(Some(8 * MIB), Extents::default());
        let first = plan.whole();
        let (second, _) = plan.next().unwrap();
        let (third, extent) = plan.next().unwrap();
        assert_eq!(extent, (6 * MIB, 8 * MIB));
        plan.release(second);
        plan.reclaim(first);
        assert_eq!(plan.room(first), 6 * MIB, "up to what the third one brings");
        plan.record(third, MIB);
        plan.release(third);
        plan.reclaim(first);
        assert_eq!(
            plan.room(first),
            6 * MIB,
            "up to what the third one brought"
        );
        plan.record(first, 6 * MIB);
        assert_eq!(plan.next().unwrap().1, (7 * MIB, 8 * MIB));
    }

    #[test]
    fn a_file_is_left_to_one_segment_only_where_no_other_has_written() {
        let mut plan = Plan::new(Some(8 * MIB), Extents::default());
        let first = plan.whole();
        plan.record(first, MIB);
        let (second, _) = plan.next().unwrap();
        assert!(plan.is_only_writer(first));
        plan.claim(second, 1000);
        assert!(!plan.is_only_writer(first), "the second one is writing");
        plan.record(second, 1000);
        plan.release(second);
        assert!(!plan.is_only_writer(first), "the second one has written");
        let mut plan = Plan::new(Some(8 * MIB), Extents::default());
        let first = plan.whole();
        let (second, _) = plan.next().unwrap();
        plan.leave_to(first);
        assert_eq!(plan.claim(second, 1000), Claim::Nothing);
        assert_eq!(plan.room(first), 8 * MIB);
    }

    #[test]
    fn what_is_there_is_skipped_and_never_written_again() {
        let mut done = Extents::default();
        done.insert(10, 20);
        let mut plan = Plan::new(Some(30), done);
        let whole = plan.whole();
        for claim in [Claim::Write(10), Claim::Skip(10), Claim::Write(10)] {
            assert_eq!(plan.claim(whole, 100), claim);
            match claim {
                Claim::Skip(_) => plan.pass_over(whole, 10),
                _ => plan.record(whole, 10),
            }
        }
        assert_eq!(plan.claim(whole, 100), Claim::Nothing);
        assert!(plan.is_whole());
    }

    #[test]
    fn what_is_forgotten_while_it_is_passed_over_is_fetched_again() {
        let mut done = Extents::default();
        done.insert(0, 20);
        let mut plan = Plan::new(Some(30), done);
        let whole = plan.whole();
        assert_eq!(plan.claim(whole, 100), Claim::Skip(20));
        plan.forget((10, 20));
        plan.pass_over(whole, 20);
        assert_eq!(plan.claim(whole, 100), Claim::Write(10));
        plan.record(whole, 10);
        plan.release(whole);
        assert_eq!(plan.next().map(|(_, extent)| extent), Some((10, 20)));
    }

    #[test]
    fn a_block_that_came_wrong_comes_from_one_connection() {
        let mut done = Extents::default();
        done.insert(0, 16 * MIB);
        let mut plan = Plan::new(Some(16 * MIB), done);
        plan.forget((4 * MIB, 8 * MIB));
        plan.forget((8 * MIB, 12 * MIB));
        let (first, extent) = plan.next().unwrap();
        assert_eq!(extent, (4 * MIB, 8 * MIB));
        assert_eq!(plan.next().unwrap().1, (8 * MIB, 12 * MIB));
        assert_eq!(plan.next(), None);
        plan.record(first, MIB);
        plan.release(first);
        assert_eq!(plan.next().unwrap().1, (5 * MIB, 8 * MIB));
    }

    #[test]
    fn small_remainders_are_not_split() {
        let mut plan = Plan::new(Some(2 * MIN_SEGMENT_BYTES - 1), Extents::default());
        plan.whole();
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn a_body_without_length_is_whole_at_its_end() {
        let mut plan = Plan::new(None, Extents::default());
        let only = plan.whole();
        assert_eq!(plan.next(), None);
        plan.record(only, 5);
        assert!(!plan.is_whole());
        plan.end_here(only);
        assert!(plan.is_whole());
        assert_eq!(plan.length(), Some(5));
    }

    proptest! {
        /// However connections come, go and stall: in the end every byte was fetched.
        #[test]
        fn always_ends_whole(steps in prop::collection::vec((0u8..4, 0u64..3 * MIB), 1..200)) {
            let length = 16 * MIB;
            let mut plan = Plan::new(Some(length), Extents::default());
            let mut busy = vec![plan.whole()];
            for (step, amount) in steps {
                let chosen = amount as usize % busy.len().max(1);
                match step {
                    0 => busy.extend(plan.next().map(|(id, _)| id)),
                    1 if !busy.is_empty() => plan.release(busy.swap_remove(chosen)),
                    2 => plan.tick(Duration::from_millis(100)),
                    _ => if let Some(&id) = busy.get(chosen) {
                        let count = amount.min(plan.room(id));
                        plan.record(id, count);
                    }
                }
            }
            busy.drain(..).for_each(|id| plan.release(id));
            while !plan.is_whole() {
                let (id, (start, end)) = plan.next().expect("a gap");
                prop_assert!(start < end && end <= length);
                plan.record(id, end - start);
                plan.release(id);
            }
            prop_assert_eq!(plan.done().front(), length);
        }
    }
}
