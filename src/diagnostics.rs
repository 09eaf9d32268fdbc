//! Messages to a person. A separate thread writes them, so that a stuck or closed terminal, pipe or
//! disk never blocks or fails the program.

pub mod shell;

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Write};
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::process::{Standard, error_is_journal};

/// Standard error: errors, and how things go.
pub static ERROR: Lines = Lines::new(Standard::Error);
/// Standard output: results.
pub static OUTPUT: Lines = Lines::new(Standard::Output);

/// A standard stream and the lines on their way to it.
#[derive(Debug)]
pub struct Lines {
    to: Standard,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Held while bytes are written, by threads that may wait.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    /// Lines for which there was no room.
    lost: u64,
    has_thread: bool,
    is_writing: bool,
    error: Option<io::ErrorKind>,
}

impl Lines {
    const fn new(to: Standard) -> Self {
        let queue = Queue {
            bytes: Vec::new(),
            lost: 0,
            has_thread: false,
            is_writing: false,
            error: None,
        };
        Self {
            to,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            turn: Mutex::new(()),
        }
    }

    /// Queues a line; never waits. Lines beyond [`QUEUE_BYTES`] are lost, and their number is
    /// written.
    pub fn say(&'static self, line: impl Display) {
        let line = format!("{line}\n");
        let mut queue = self.queue();
        if !queue.bytes.is_empty() && queue.bytes.len() + line.len() > QUEUE_BYTES {
            queue.lost += 1;
            return;
        }
        queue.bytes.extend_from_slice(line.as_bytes());
        self.start_thread(&mut queue);
        self.changed.notify_all();
    }

    fn start_thread(&'static self, queue: &mut Queue) {
        if !queue.has_thread {
            let thread = std::thread::Builder::new().name("haul-say".into());
            queue.has_thread = thread.spawn(|| self.write_all_lines()).is_ok();
        }
    }

    /// Waits until every line is written or `gives_up`; the error is that of the last failed write.
    /// Where no thread can be had, the lines are written here, for as long as that takes.
    ///
    /// # Errors
    /// As write(2); `TimedOut` after giving up.
    pub fn finish(&'static self, gives_up: impl Fn() -> bool) -> io::Result<()> {
        let mut queue = self.queue();
        if !queue.bytes.is_empty() {
            self.start_thread(&mut queue);
        }
        if !queue.has_thread {
            let bytes = std::mem::take(&mut queue.bytes);
            drop(queue);
            return self.write_all(&bytes);
        }
        while queue.has_thread && (queue.is_writing || !queue.bytes.is_empty()) {
            if gives_up() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let waited = self.changed.wait_timeout(queue, LOOK_UP);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.error.take().map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Writes, and waits for as long as that takes: for threads that do nothing else.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.to).write_all(bytes)
    }

    fn write_all_lines(&self) {
        let mut queue = self.queue();
        loop {
            while queue.bytes.is_empty() {
                let woken = self.changed.wait(queue);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
            }
            let mut bytes = std::mem::take(&mut queue.bytes);
            let lost = std::mem::take(&mut queue.lost);
            queue.is_writing = true;
            drop(queue);
            if lost > 0 {
                bytes.extend_from_slice(format!("haul: {lost} lines were lost here\n").as_bytes());
            }
            let written = self.write_all(&bytes);
            queue = self.queue();
            queue.is_writing = false;
            queue.error = written.err().map(|error| error.kind()).or(queue.error);
            self.changed.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line to standard error. One that begins with `haul:` is a warning, with the journal's
/// prefix where the journal reads it (sd-daemon(3)).
pub fn say(line: impl Display) {
    let line = line.to_string();
    match line.starts_with("haul: ") && error_is_journal() {
        true => ERROR.say(format_args!("<4>{line}")),
        false => ERROR.say(line),
    }
}

/// Waits for a moment until both streams are written. To be called last.
pub fn finish() {
    let ends = Instant::now() + LAST_WORDS;
    // A failure here cannot be reported.
    let _ = OUTPUT.finish(|| Instant::now() > ends);
    let _ = ERROR.finish(|| Instant::now() > ends);
}

/// Makes panics go through [`say`]: the default hook waits for standard error, and may panic
/// itself.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        if IS_QUIET.get() {
            return;
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        say(format_args!(
            "thread '{name}' {panic}\n{}",
            std::backtrace::Backtrace::capture()
        ));
        if name == "main" {
            finish();
        }
    }));
}

/// Runs what panics where others return an error; the caller says why it failed. `None` is a panic.
pub(crate) fn catch_quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    let before = IS_QUIET.replace(true);
    let result = catch_unwind(work);
    IS_QUIET.set(before);
    result.ok()
}

thread_local! {
    /// The thread's panics are said by who catches them.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Bytes that may wait to be written.
const QUEUE_BYTES: usize = 64 << 10;
const LOOK_UP: Duration = Duration::from_millis(20);
const LAST_WORDS: Duration = Duration::from_secs(1);
