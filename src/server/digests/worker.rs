//! A thread that hashes, with the least right to everything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::digest::Identity;
use crate::server::digests::service::{DigestService, tell};
use crate::server::digests::task::{STEP_BYTES, Stepped, Task};
use crate::sys::buffer::Buffer;
use crate::sys::process;

/// Hashes until the service is shut. `is_busy` says whether readers want a file system's disk.
pub(crate) fn run_digest_worker(service: &DigestService, is_busy: impl Fn(u64) -> bool) {
    process::have_least_priority();
    let mut buffer = Buffer::new(STEP_BYTES);
    while let Some(task) = service.take() {
        let device = task.device();
        let file = task.file().clone();
        let run = AssertUnwindSafe(|| hash(service, task, &is_busy, &mut buffer));
        let rest = catch_unwind(run).unwrap_or_else(|_| {
            file.digests().fail();
            None
        });
        service.put_back(device, rest);
    }
}

/// Hashes a file, or as much as is fair where others are in line.
fn hash(
    service: &DigestService,
    mut task: Task,
    is_busy: &impl Fn(u64) -> bool,
    buffer: &mut Buffer,
) -> Option<Task> {
    let (begun, mut read) = (Instant::now(), 0);
    loop {
        if service.is_shut() {
            task.file().digests().end(None);
            return None;
        }
        let is_cold = task.is_cold();
        if is_cold {
            let asked = Instant::now();
            while is_busy(task.device()) && asked.elapsed() < LONGEST_YIELD {
                std::thread::sleep(YIELD);
            }
        }
        match task.step(is_cold, buffer) {
            Stepped::Bytes(count) => read += count,
            Stepped::Done(digests, list) => {
                let identity = Identity::from(&task.file().meta);
                tell(service.store().put(&identity, digests, list));
                task.file().digests().end(Some(digests));
                return None;
            }
            Stepped::Failed => {
                task.file().digests().fail();
                return None;
            }
        }
        if read >= FAIR_BYTES && service.has_other(task.device()) {
            return Some(task);
        }
        let due = Duration::from_secs_f64(read as f64 / service.policy().rate.max(1) as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
}

/// After so many bytes another file of the same file system has its turn.
const FAIR_BYTES: u64 = 64 << 20;

/// Readers are looked for again after this.
const YIELD: Duration = Duration::from_millis(10);

/// A disk that is never idle gives a step each time that this is over.
const LONGEST_YIELD: Duration = Duration::from_secs(2);
