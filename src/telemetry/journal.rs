//! The journal: one thread that writes access records, so that no worker waits for a terminal,
//! a pipe or a disk to take a line.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::{AccessRecord, Counters};

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
pub struct Journal {
    entries: Option<Sender<Entry>>,
    counters: Arc<Counters>,
}

/// The journal's thread.
#[derive(Debug)]
pub struct Writer {
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

impl Journal {
    /// Opens the destination and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be started.
    pub fn start(to: Destination, counters: Arc<Counters>) -> io::Result<(Self, Writer)> {
        let path = match to {
            Destination::Nowhere => {
                return Ok((
                    Self {
                        entries: None,
                        counters,
                    },
                    Writer { thread: None },
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
            Writer { thread },
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

impl Writer {
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

enum Output {
    StandardError,
    File {
        path: PathBuf,
        writer: BufWriter<File>,
    },
}

impl Output {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::StandardError);
        };
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self::File {
            path,
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
        })
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) -> io::Result<()> {
        match self {
            Self::StandardError => writeln!(io::stderr().lock(), "{line}"),
            Self::File { writer, .. } => writeln!(writer, "{line}"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::StandardError => Ok(()),
            Self::File { writer, .. } => writer.flush(),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, .. } = self {
            *self = Self::open(Some(path.clone()))?;
        }
        Ok(())
    }
}

fn write_all(mut output: Output, entries: &Receiver<Entry>, counters: &Counters) {
    let mut lost_and_told = 0;
    loop {
        let entry = match entries.recv_timeout(FLUSH_AFTER) {
            Ok(entry) => entry,
            Err(RecvTimeoutError::Timeout) => {
                let _ = output.flush();
                // Nothing to write: wait for as long as it takes.
                match entries.recv() {
                    Ok(entry) => entry,
                    Err(_) => break,
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // A failing log (a full disk) must not end the service; the record is lost and counted.
        let written = match entry {
            Entry::Record(record) => output.line(format_args!("{record}")),
            Entry::Reopen => output.flush().and_then(|()| output.reopen()),
            Entry::End => break,
        };
        if written.is_err() {
            Counters::add_one(&counters.log_lines_lost);
        }
        let lost = counters.snapshot().log_lines_lost;
        if lost > lost_and_told && written.is_ok() {
            let lines = lost - lost_and_told;
            if output
                .line(format_args!("haul: {lines} access log lines were lost"))
                .is_ok()
            {
                lost_and_told = lost;
            }
        }
    }
    let _ = output.flush();
}

/// Records that may wait to be written; at some 300 bytes each a few MiB.
const CAPACITY: usize = 16_384;
const BUFFER_BYTES: usize = 64 << 10;
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const FINISH_POLL: Duration = Duration::from_millis(5);
const FINISH_POLLS: u32 = 400;
