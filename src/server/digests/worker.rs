//! A thread that has files hashed one after the other, without delaying requests.

use std::time::{Duration, Instant};

use crate::digest::Identity;
use crate::server::digests::hash_thread::{HashThreads, Right};
use crate::server::digests::service::{DigestService, tell};
use crate::server::digests::task::{Stepped, Task};

/// Has files hashed until the service is shut. `done_when_idle` returns the reads of a file
/// system's disk for requests so far, or `None` while one is under way.
pub(crate) fn run_digest_worker(
    service: &DigestService,
    hash_threads: &HashThreads,
    done_when_idle: impl Fn(u64) -> Option<u64>,
) {
    while let Some(task) = service.take() {
        let device = task.device();
        let file = task.file().clone();
        let rest = match hash(service, task, hash_threads, &done_when_idle) {
            Some(rest) => rest,
            None => {
                file.digests().fail();
                None
            }
        };
        service.put_back(device, rest);
    }
}

/// Has a file hashed, or a part of it if others are queued, and returns the rest; `None` if the
/// file cannot be hashed.
fn hash(
    service: &DigestService,
    mut task: Task,
    hash_threads: &HashThreads,
    done_when_idle: &impl Fn(u64) -> Option<u64>,
) -> Option<Option<Task>> {
    let (mut read, mut done) = (0, None);
    let mut without_idle = 0;
    loop {
        if service.is_shut() {
            task.file().digests().end(None);
            return Some(None);
        }
        let is_cold = task.is_cold();
        if is_cold {
            done = wait_for_idle_disk(done, || done_when_idle(task.device()));
        }
        let begun = Instant::now();
        let stepped;
        let right = match task.is_small() || without_idle > 0 {
            true => Right::Lowest,
            false => Right::Idle,
        };
        (task, stepped) = hash_threads.step(task, right)?;
        without_idle = match right == Right::Idle && begun.elapsed() >= MAX_YIELD {
            true => STEPS_WITHOUT_IDLE,
            false => without_idle.saturating_sub(1),
        };
        if !matches!(stepped, Stepped::Bytes(_)) {
            task.drop_rest();
        }
        let count = match stepped {
            Stepped::Bytes(count) => count,
            Stepped::Done(digests, list) => {
                let identity = Identity::from(&task.file().meta);
                tell(service.store().put(&identity, digests, list));
                task.file().digests().end(Some(digests));
                return Some(None);
            }
            Stepped::Failed => return None,
        };
        if is_cold {
            task.drop_behind(count);
        }
        read += count;
        if read >= FAIR_BYTES && service.has_other(task.device()) {
            return Some(Some(task));
        }
        // By the step: what waited for the disk is not made up for.
        let due = Duration::from_secs_f64(count as f64 / service.policy().rate.max(1) as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
}

/// Waits until the disk has been idle since the last step, or for a limited time: a sequential
/// reader leaves gaps, which are not idle time. Returns the reads of the disk for requests.
fn wait_for_idle_disk(mut before: Option<u64>, look: impl Fn() -> Option<u64>) -> Option<u64> {
    let asked = Instant::now();
    loop {
        let now = look();
        if (now.is_some() && now == before) || asked.elapsed() >= MAX_YIELD {
            return now;
        }
        before = now;
        std::thread::sleep(YIELD);
    }
}

/// After so many bytes another file of the same file system has its turn.
const FAIR_BYTES: u64 = 64 << 20;

/// Readers are looked for again after this: longer than an extent takes to be sent.
const YIELD: Duration = Duration::from_millis(20);

/// Steps without an idle processor before the hash thread gets a minimal share instead.
const STEPS_WITHOUT_IDLE: u32 = 16;

/// A disk that is never idle gives a step each time that this is over, and so does a processor.
const MAX_YIELD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_disk_is_idle_once_nothing_was_read_between_two_looks() {
        let answers = [None, Some(4), None, Some(5), Some(6), Some(6), Some(7)];
        let looked = Cell::new(0);
        let look = || answers[looked.replace(looked.get() + 1)];
        assert_eq!(wait_for_idle_disk(Some(3), look), Some(6));
        assert_eq!(looked.get(), 6);
        // Nothing was read since: no wait.
        assert_eq!(wait_for_idle_disk(Some(7), look), Some(7));
        assert_eq!(looked.get(), 7);
    }
}
