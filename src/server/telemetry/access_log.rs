//! The access log: one thread writes the records, so that no worker waits for a terminal, a pipe or
//! a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::diagnostics;
use crate::server::telemetry::counters::Counters;
use crate::server::telemetry::log_format::LogFormat;
use crate::server::telemetry::record::AccessRecord;
use crate::server::telemetry::redact::redact;

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

/// A handle of the access log's thread, shared by its clones.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Option<Queue>,
    counters: Arc<Counters>,
}

/// The writer of the access log.
#[derive(Debug)]
pub struct AccessLogWriter(Stage);

#[derive(Debug)]
enum Stage {
    Off,
    /// The destination is open, and no thread runs yet.
    Opened(Box<Output>, Receiver<Entry>, Arc<Counters>, Queue),
    Running(JoinHandle<()>, Queue),
}

#[derive(Clone, Debug)]
struct Queue {
    entries: Sender<Entry>,
    format: LogFormat,
    state: Arc<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Memory of the records that wait.
    bytes: AtomicUsize,
    /// The file was moved away and is to be opened again. A full queue cannot lose this.
    reopens: AtomicBool,
    /// The end of the log: no line follows.
    ends: AtomicBool,
}

#[derive(Debug)]
enum Entry {
    Record(Box<AccessRecord>),
    /// Wakes the thread to look at the queue's state.
    Wake,
}

impl AccessLog {
    /// Opens the destination. Records wait until [`AccessLogWriter::start`].
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(
        to: Destination,
        format: LogFormat,
        counters: Arc<Counters>,
    ) -> io::Result<(Self, AccessLogWriter)> {
        let target = match to {
            Destination::Nowhere => None,
            Destination::StandardError => Some(OpenLog::StandardError),
            Destination::File(path) => Some(OpenLog::open(path)?),
        };
        let Some(target) = target else {
            let queue = None;
            return Ok((Self { queue, counters }, AccessLogWriter(Stage::Off)));
        };
        let (entries, receiver) = bounded(MAX_RECORDS);
        let queue = Queue {
            entries,
            format,
            state: Arc::default(),
        };
        let output = Box::new(Output::new(target, format));
        let counted = Arc::clone(&counters);
        let writer = AccessLogWriter(Stage::Opened(output, receiver, counted, queue.clone()));
        let queue = Some(queue);
        Ok((Self { queue, counters }, writer))
    }

    /// Whether there is a log at all.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether the format has `Referer` and `User-Agent`.
    #[inline]
    #[must_use]
    pub fn wants_client_fields(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.format != LogFormat::Haul)
    }

    /// Queues a record, without waiting: if the writer is too far behind, the record is lost and
    /// counted, and the count is written once there is room.
    pub fn record(&self, mut record: AccessRecord) {
        let Some(queue) = &self.queue else { return };
        cut(&mut record.request);
        if let Some(fields) = &mut record.client_fields {
            // A page on another server may hold a link of this one's.
            fields.referer = redacted(std::mem::take(&mut fields.referer));
        }
        let bytes = bytes_of(&record);
        if queue.state.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES
            && queue
                .entries
                .try_send(Entry::Record(Box::new(record)))
                .is_ok()
        {
            return;
        }
        queue.state.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Counters::add_one(&self.counters.log_lines_lost);
    }

    /// Opens the file again, after it was moved away.
    pub fn reopen(&self) {
        if let Some(queue) = &self.queue {
            queue.state.reopens.store(true, Ordering::Release);
            queue.wake();
        }
    }
}

impl Queue {
    fn wake(&self) {
        // The thread checks the flag after each batch; only an empty queue needs an entry.
        let _ = self.entries.try_send(Entry::Wake);
    }
}

impl AccessLogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self) -> io::Result<Self> {
        let Stage::Opened(output, receiver, counters, queue) = self.0 else {
            return Ok(self);
        };
        let state = Arc::clone(&queue.state);
        let thread = std::thread::Builder::new()
            .name("haul-log".into())
            .spawn(move || write_all(*output, &receiver, &state, &counters))?;
        Ok(Self(Stage::Running(thread, queue)))
    }

    /// Waits, but not for ever, until all that was recorded is written. Later records are lost.
    pub fn finish(self) {
        let Stage::Running(thread, queue) = self.0 else {
            return;
        };
        queue.state.ends.store(true, Ordering::Release);
        queue.wake();
        // A destination that takes nothing must not keep the process alive.
        for _ in 0..FINISH_POLLS {
            if thread.is_finished() {
                let _ = thread.join();
                return;
            }
            std::thread::sleep(FINISH_POLL);
        }
    }
}

fn redacted(field: Box<[u8]>) -> Box<[u8]> {
    let mut field = field.into_vec();
    redact(&mut field);
    field.into_boxed_slice()
}

/// Removes secrets, and cuts a long request with a note of its length; idempotent.
pub(crate) fn cut(request: &mut Vec<u8>) {
    redact(request);
    let length = request.len();
    if length > MAX_REQUEST + MAX_NOTE {
        request.truncate(MAX_REQUEST);
        request.extend_from_slice(format!("... ({length} bytes)").as_bytes());
        request.shrink_to_fit();
    }
}

fn bytes_of(record: &AccessRecord) -> usize {
    let fields = record.client_fields.as_ref();
    size_of::<AccessRecord>() + record.request.len() + fields.map_or(0, |fields| fields.bytes())
}

/// A destination, and the lines that were not yet given to it.
#[derive(Debug)]
struct Output {
    target: OpenLog,
    format: LogFormat,
    text: Vec<u8>,
    lines: u64,
    /// The last line that was written broke off: a full disk took its beginning only.
    is_torn: bool,
    /// The lines lost since the file takes nothing.
    outage: Option<u64>,
}

#[derive(Debug)]
enum OpenLog {
    StandardError,
    File { path: PathBuf, file: File },
}

impl Output {
    fn new(target: OpenLog, format: LogFormat) -> Self {
        Self {
            target,
            format,
            text: Vec::with_capacity(BUFFER_BYTES),
            lines: 0,
            is_torn: false,
            outage: None,
        }
    }

    /// Adds a record. Fails like [`Self::flush`].
    fn add(&mut self, record: &AccessRecord) -> Result<(), u64> {
        self.format.write(record, &mut self.text);
        self.text.push(b'\n');
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

    /// Writes the batch. A failing log (a full disk) must not end the service: the error is the
    /// number of lost lines.
    fn flush(&mut self) -> Result<(), u64> {
        if self.is_torn && !self.text.is_empty() {
            self.text.insert(0, b'\n');
        }
        let (written, result) = match &self.target {
            OpenLog::StandardError => {
                let result = diagnostics::ERROR.write_all(&self.text);
                (self.text.len() * usize::from(result.is_ok()), result)
            }
            OpenLog::File { file, .. } => write_some(file, &self.text),
        };
        let taken = &self.text[..written];
        self.is_torn = taken.last().map_or(self.is_torn, |last| *last != b'\n');
        let whole = taken.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !self.text.is_empty() {
            let lost = self.lines.saturating_sub(whole);
            self.tell_of_outage(&result, lost);
        }
        self.text.clear();
        let lines = std::mem::take(&mut self.lines);
        result.map_err(|_| lines.saturating_sub(whole))
    }

    /// Says that the file takes nothing, and that it takes lines again: once each.
    fn tell_of_outage(&mut self, result: &io::Result<()>, lost: u64) {
        // An error of standard error cannot be said there.
        let OpenLog::File { path, .. } = &self.target else {
            return;
        };
        let path = path.display();
        match (result, self.outage) {
            (Err(error), None) => diagnostics::say(format_args!(
                "haul: cannot write the access log {path}: {error}; lines are lost until it can \
                 be written again"
            )),
            (Ok(()), Some(lost)) => diagnostics::say(format_args!(
                "haul: the access log {path} is written again; {lost} lines were lost"
            )),
            _ => {}
        }
        self.outage = match result {
            Err(_) => Some(self.outage.unwrap_or(0) + lost),
            Ok(()) => None,
        };
    }

    /// Goes on in a new file under the same name; in the old one if there can be none.
    fn reopen(&mut self) -> Result<(), u64> {
        let flushed = self.flush();
        if let OpenLog::File { path, .. } = &self.target {
            match OpenLog::open(path.clone()) {
                Ok(target) => (self.target, self.is_torn) = (target, false),
                Err(error) => diagnostics::say(format_args!(
                    "haul: cannot reopen the access log {}: {error}; it goes on in the old file{}",
                    path.display(),
                    match error.kind() {
                        // As root, or where the permissions are right, only that can be why.
                        io::ErrorKind::PermissionDenied =>
                            ". A directory that was made anew is out of the sandbox's reach: \
                             restart, or see --sandbox",
                        _ => "",
                    }
                )),
            }
        }
        flushed
    }
}

impl OpenLog {
    fn open(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        // A FIFO without a reader blocks an open for writing alone.
        options.read(is_fifo(&path));
        let file = options.open(&path)?;
        Ok(Self::File { path, file })
    }
}

fn is_fifo(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.file_type().is_fifo())
}

/// As `write_all`; also returns the bytes written before an error.
fn write_some(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn write_all(
    mut output: Output,
    entries: &Receiver<Entry>,
    state: &QueueState,
    counters: &Counters,
) {
    let mut lost_and_told = 0;
    let lose = |result: Result<(), u64>| {
        counters
            .log_lines_lost
            .add(result.err().unwrap_or_default());
        // Without a lost line, only the note of earlier ones was not written.
        result.is_ok()
    };
    while let Ok(first) = entries.recv() {
        // Records that arrive meanwhile are written in the same batch, so not every line wakes the
        // thread.
        std::thread::sleep(GATHER);
        let ends = state.ends.load(Ordering::Acquire);
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            if let Entry::Record(record) = entry {
                state.bytes.fetch_sub(bytes_of(&record), Ordering::Relaxed);
                lose(output.add(&record));
            }
        }
        let lost = counters.log_lines_lost.sum();
        output.tell_of_lost(lost - lost_and_told);
        if lose(output.flush()) {
            lost_and_told = lost;
        }
        if state.reopens.swap(false, Ordering::Acquire) {
            lose(output.reopen());
        }
        if ends {
            return;
        }
        // A request during a full queue has not woken this thread.
        if state.ends.load(Ordering::Acquire) && entries.is_empty() {
            return;
        }
    }
}

/// Records that may wait to be written, in number and in memory.
const MAX_RECORDS: usize = 16_384;
const MAX_BYTES: usize = 4 << 20;
/// Bytes of a request that are logged.
const MAX_REQUEST: usize = 1 << 10;
/// Room for the note on a cut request.
const MAX_NOTE: usize = 40;
const BUFFER_BYTES: usize = 64 << 10;
/// How long lines wait for others to be written with.
const GATHER: Duration = Duration::from_millis(5);
const FINISH_POLL: Duration = Duration::from_millis(5);
const FINISH_POLLS: u32 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn output(file: File) -> Output {
        let path = PathBuf::new();
        Output::new(OpenLog::File { path, file }, LogFormat::Haul)
    }

    #[test]
    fn a_line_after_a_torn_one_stands_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut output = output(File::create(&path).expect("a file"));
        // As a full disk leaves it.
        output.text.extend_from_slice(b"half a li");
        output.flush().expect("written");
        output.text.extend_from_slice(b"whole\n");
        output.flush().expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"half a li\nwhole\n");
    }

    #[test]
    fn lines_that_a_full_disk_did_not_take_are_counted() {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let mut output = output(full.expect("/dev/full"));
        output.text.extend_from_slice(b"one\ntwo\n");
        output.lines = 2;
        assert_eq!(output.flush(), Err(2));
        assert!(!output.is_torn);
    }

    #[test]
    fn a_long_request_is_cut_and_its_length_said() {
        let mut request = vec![b'a'; 20_000];
        cut(&mut request);
        assert_eq!(request.len(), MAX_REQUEST + "... (20000 bytes)".len());
        assert!(request.ends_with(b"aa... (20000 bytes)"));
        let mut short = b"GET / HTTP/1.1".to_vec();
        cut(&mut short);
        assert_eq!(short, b"GET / HTTP/1.1");
    }
}
