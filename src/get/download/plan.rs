//! The plan of a file: which connection fetches which bytes. Pure; time is a parameter.

#[cfg(test)]
mod tests;

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
    /// Bad blocks: each comes from one connection the next time, so that another bad copy has one
    /// source.
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
    /// The extent is a block that was bad.
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

    /// The id of another connection, which gets its share once it is established.
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

    /// Work for an established connection: the first free gap, or else a share of the segment that
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

    /// The part of a gap for one connection, and whether that is a block that was bad.
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
    /// is released. If two connections wrote the same bytes, the sum might be of one copy and the
    /// file keep the other. Present bytes are not written.
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

    /// The segment skipped `count` bytes that were there. A block may have been forgotten
    /// meanwhile, so they are not claimed.
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

    /// The response for this segment has ended: the bytes behind it are free.
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

    /// The segment, whose response brings the whole file, gets back the bytes behind it that are
    /// neither present nor another segment's.
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

    /// The segment's connection has ended.
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

    /// Bytes received in this session, repeated ones included.
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

/// A smaller segment is not worth another request.
const MIN_SEGMENT_BYTES: u64 = 128 * 1024;
