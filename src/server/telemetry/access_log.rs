//! The journal: one thread that writes access records, so that no worker waits for a terminal,
//! a pipe or a disk to take a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{AccessRecord, Counters};
use crate::diagnostics;

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Nowhere,
    /// Standard error.
    StandardError,
    /// A file, appended to.
    File(PathBuf),
}

/// The way to the journal's thread. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct AccessLog {
    entries: Option<Sender<Entry>>,
    counters: Arc<Counters>,
}

/// The journal's thread.
#[derive(Debug)]
pub struct AccessLogWriter {
    thread: Option<(JoinHandle<()>, Sender<Entry>)>,
}

#[derive(Debug)]
enum Entry {
    Record(Box<AccessRecord>),
    /// The file was moved away; open it anew under its name.
    Reopen,
    /// Nothing that matters comes after this.
    End,
}

impl AccessLog {
    /// Opens the destination and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be started.
    pub fn start(to: Destination, counters: Arc<Counters>) -> io::Result<(Self, AccessLogWriter)> {
        let path = match to {
            Destination::Nowhere => {
                return Ok((
                    Self {
                        entries: None,
                        counters,
                    },
                    AccessLogWriter { thread: None },
                ));
            }
            Destination::StandardError => None,
            Destination::File(path) => Some(path),
        };
        let output = Output::open(path)?;
        let (sender, receiver) = bounded(CAPACITY);
        let counted = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("haul-journal".into())
            .spawn(move || write_all(output, &receiver, &counted))?;
        let thread = Some((thread, sender.clone()));
        Ok((
            Self {
                entries: Some(sender),
                counters,
            },
            AccessLogWriter { thread },
        ))
    }

    /// Whether records are wanted at all, so that nobody makes one for nothing.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.entries.is_some()
    }

    /// Hands a record over. Never waits: if the writer is this far behind, the record is lost,
    /// counted, and the loss is written once there is room.
    pub fn record(&self, record: AccessRecord) {
        let Some(entries) = &self.entries else { return };
        if let Err(TrySendError::Full(_)) = entries.try_send(Entry::Record(Box::new(record))) {
            Counters::add_one(&self.counters.log_lines_lost);
        }
    }

    /// Has the file opened anew, after it was moved away.
    pub fn reopen(&self) {
        if let Some(entries) = &self.entries {
            // A full channel means a writer that is stuck; the next SIGHUP may find it better.
            let _ = entries.try_send(Entry::Reopen);
        }
    }
}

impl AccessLogWriter {
    /// Waits, but not for ever, until all that was recorded is written. What is recorded
    /// afterwards is lost.
    pub fn finish(self) {
        let Some((thread, entries)) = self.thread else {
            return;
        };
        // A destination that takes nothing must not keep the process alive.
        for _ in 0..FINISH_POLLS {
            // A full channel has room once the thread has caught up.
            let _ = entries.try_send(Entry::End);
            if thread.is_finished() {
                let _ = thread.join();
                return;
            }
            std::thread::sleep(FINISH_POLL);
        }
    }
}

/// A destination, and the lines that were not yet given to it.
struct Output {
    target: Target,
    text: Vec<u8>,
    lines: u64,
}

enum Target {
    StandardError,
    File { path: PathBuf, file: File },
}

impl Output {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let target = match path {
            None => Target::StandardError,
            Some(path) => Target::open(path)?,
        };
        Ok(Self {
            target,
            text: Vec::with_capacity(BUFFER_BYTES),
            lines: 0,
        })
    }

    /// Adds a record. Fails like [`Self::flush`].
    fn add(&mut self, record: &AccessRecord) -> Result<(), u64> {
        // Writing to a `Vec` cannot fail.
        let _ = writeln!(self.text, "{record}");
        self.lines += 1;
        if self.text.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Adds a line about lost ones, which is none itself.
    fn tell_of_lost(&mut self, lines: u64) {
        if lines > 0 {
            let _ = writeln!(self.text, "haul: {lines} access log lines were lost");
        }
    }

    /// Writes what has been gathered. A failing log (a full disk) must not end the service: the
    /// error says how many lines were lost.
    fn flush(&mut self) -> Result<(), u64> {
        let written = match &mut self.target {
            Target::StandardError => diagnostics::ERROR.write_all(&self.text),
            Target::File { file, .. } => file.write_all(&self.text),
        };
        self.text.clear();
        let lines = std::mem::take(&mut self.lines);
        written.map_err(|_| lines)
    }

    /// Goes on in a new file under the same name; in the old one if there can be none.
    fn reopen(&mut self) -> Result<(), u64> {
        let flushed = self.flush();
        if let Target::File { path, .. } = &self.target
            && let Ok(target) = Target::open(path.clone())
        {
            self.target = target;
        }
        flushed
    }
}

impl Target {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self::File { path, file })
    }
}

fn write_all(mut output: Output, entries: &Receiver<Entry>, counters: &Counters) {
    let mut lost_and_told = 0;
    while let Ok(first) = entries.recv() {
        // What comes in the meantime is written along with it, and nobody who records has to
        // wake a thread for each line.
        std::thread::sleep(GATHER);
        let mut is_over = false;
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            let added = match entry {
                Entry::Record(record) => output.add(&record),
                Entry::Reopen => output.reopen(),
                Entry::End => {
                    is_over = true;
                    break;
                }
            };
            if let Err(lines) = added {
                counters.log_lines_lost.fetch_add(lines, Ordering::Relaxed);
            }
        }
        let lost = counters.log_lines_lost.load(Ordering::Relaxed);
        output.tell_of_lost(lost - lost_and_told);
        match output.flush() {
            Ok(()) => lost_and_told = lost,
            Err(lines) => {
                counters.log_lines_lost.fetch_add(lines, Ordering::Relaxed);
            }
        }
        if is_over {
            return;
        }
    }
}

/// Records that may wait to be written; at some 300 bytes each a few MiB.
const CAPACITY: usize = 16_384;
const BUFFER_BYTES: usize = 64 << 10;
/// How long lines wait for others to be written with.
const GATHER: Duration = Duration::from_millis(5);
const FINISH_POLL: Duration = Duration::from_millis(5);
const FINISH_POLLS: u32 = 400;
