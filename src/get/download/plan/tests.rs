//! Plans under connections that break, and content that comes wrong.

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
fn claimed_bytes_are_not_assigned_to_another_connection() {
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
    /// Whatever the order of starts, ends and stalls, every byte is fetched in the end.
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
