//! Threads that read and hash at the lowest priority (`SCHED_IDLE`).
//!
//! They may be without the processor for seconds at any point, so they take no lock: tasks come and
//! go by dedicated channels, and all else is done by the thread that waits for them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::server::digests::task::{STEP_BYTES, Stepped, Task};
use crate::sys::buffer::Buffer;
use crate::sys::process;

/// The ways to a pair of threads that hash; they end with it.
#[derive(Debug)]
pub(crate) struct HashThreads {
    idle: HashThread,
    lowest: HashThread,
}

/// The right of a step to the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Only when no other thread wants the processor.
    Idle,
    /// The least share of one that is never idle.
    Lowest,
}

#[derive(Debug)]
struct HashThread {
    tasks: Sender<Task>,
    stepped: Receiver<(Task, Stepped)>,
}

impl HashThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// As clone(2).
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {
            idle: HashThread::start(Right::Idle)?,
            lowest: HashThread::start(Right::Lowest)?,
        })
    }

    /// Runs a step of a task and waits for it; `None` if the thread has ended.
    pub(super) fn step(&self, task: Task, right: Right) -> Option<(Task, Stepped)> {
        match right {
            Right::Idle => self.idle.step(task),
            Right::Lowest => self.lowest.step(task),
        }
    }
}

impl HashThread {
    fn start(right: Right) -> io::Result<Self> {
        let (tasks, todo) = bounded(1);
        let (done, stepped) = bounded(1);
        let builder = std::thread::Builder::new().name("haul-hash".into());
        builder.spawn(move || run(right, &todo, &done))?;
        Ok(Self { tasks, stepped })
    }

    fn step(&self, task: Task) -> Option<(Task, Stepped)> {
        self.tasks.send(task).ok()?;
        self.stepped.recv().ok()
    }
}

fn run(right: Right, todo: &Receiver<Task>, done: &Sender<(Task, Stepped)>) {
    match right {
        Right::Idle => process::have_idle_processor_only(),
        Right::Lowest => process::have_lowest_priority(),
    }
    process::have_least_disk_priority();
    let mut buffer = Buffer::new(STEP_BYTES);
    for mut task in todo {
        let step = AssertUnwindSafe(|| task.step(&mut buffer));
        let stepped = catch_unwind(step).unwrap_or(Stepped::Failed);
        if done.send((task, stepped)).is_err() {
            return;
        }
    }
}
