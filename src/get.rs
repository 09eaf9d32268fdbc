//! `haul get`: downloads that end whole or report why not.
//!
//! ```text
//! run → jobs ─┬→ tree (a listing becomes more jobs)
//!             ├→ metalink (a document becomes more jobs)
//!             ├→ download (one file over HTTP: versions come and go until one is whole)
//!             │    run → coordinator → segment   session, plan, scaler
//!             └→ sequential (into a stream)      name_protocol
//!       below: destination, part_file (validate, keep), checksum, shared (attempts, rate),
//!              client (connection, body)
//! ```
//!
//! Events flow one way: download → [`Event`] → display. Four places guard against a wrong file:
//! `part_file::validate` (which bytes may be joined), `part_file` (which bytes are valid after a
//! kill), `download::prover` (each block) and `checksum` (the whole).

mod blocks;
mod checksum;
mod client;
mod config;
mod destination;
pub mod display;
mod document;
mod download;
mod error;
mod event;
pub(crate) mod metalink;
mod names;
pub(crate) mod part_file;
mod repair;
mod sequential;
mod server_digest;
mod shared;
mod source;
pub(crate) mod tree;

use std::cell::{Cell, RefCell};
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;

pub use crate::dial::Family;
pub use crate::digest::{Algorithm, Checksum, ChecksumError, ChecksumFile};
pub use crate::tls::client::{ClientTls, Verification};
pub use crate::tls::pin::{BadPin, Pin};
pub use client::cancellation::Cancel;
pub use config::filter::Filter;
pub use config::login::{Field, Login, Netrc, basic};
pub use config::proxy::Proxies;
pub use config::{
    DigestChoice, Downgrade, Existing, GetConfig, Job, KeptChoice, Known, MinRate, Naming,
    Preallocation, ReceiveChoice, Recursion, RepairChoice, ResumeChoice, RetryPolicy, Segments,
    Target,
};
pub use error::{ErrorKind, GetError};
pub use event::{Event, FileId, Summary};
pub use metalink::{BadMetalink, parse as parse_metalink};
pub use names::printable;
pub use part_file::extents::Extent;
pub use source::{BadAddress, HAUL_PORT, HttpUrl, NameUrl, Source, without_credentials};

use client::Client;
use document::Wanted;
use shared::places::Places;
use shared::rate::RateLimit;
use shared::written::Written;
use shared::{Reporter, Shared};
use tree::{Found, Tree};

/// Fetches all files, `parallel` at a time, and sends its progress to `events`.
///
/// # Errors
/// The kind of the first failure, in the order of files; its event had the text.
pub fn run(
    config: GetConfig,
    jobs: &[Job],
    events: &Sender<Event>,
    cancel: &Cancel,
) -> Result<(), ErrorKind> {
    let named = config.named.iter().chain(&config.checksum_list);
    let named = named.map(|url| url.url().origin()).collect();
    let client = Client::new(&config, named);
    let mut run = Run {
        several: jobs.len() > 1 || config.recursion == Recursion::On,
        shared: Shared {
            client,
            rate_limit: RateLimit::new(config.rate),
            cancel: cancel.clone(),
            end: config
                .max_time
                .and_then(|time| Instant::now().checked_add(time)),
            written: Written::default(),
            places: Places::default(),
            config,
        },
        events,
        next: AtomicUsize::new(0),
        failed: Mutex::new(None),
        stopped: AtomicBool::new(false),
    };
    if let Some(url) = run.shared.config.checksum_list.take() {
        match run.checksums(&url) {
            Ok(checksums) => run.shared.config.checksum_file = Some(checksums),
            Err(error) => return run.ended(Err(run.reporter(None).failed(&error).1)),
        }
    }
    run.ended(run.all(jobs))
}

/// The state of a run that its threads share.
struct Run<'a> {
    shared: Shared,
    events: &'a Sender<Event>,
    /// Notes have to name their file.
    several: bool,
    /// The index of the next file.
    next: AtomicUsize,
    /// The first file, in order, that could not be had.
    failed: Mutex<Option<(FileId, ErrorKind)>>,
    /// Not all files were tried.
    stopped: AtomicBool,
}

impl Run<'_> {
    fn ended(&self, outcome: Result<(), ErrorKind>) -> Result<(), ErrorKind> {
        let exit_status = outcome.err().map_or(0, ErrorKind::exit_status);
        let _ = self.events.send(Event::Ended { exit_status });
        outcome
    }

    /// Files are fetched while directories are still walked, which waits for them.
    fn all(&self, jobs: &[Job]) -> Result<(), ErrorKind> {
        let reporter = self.reporter(None);
        let tree = Tree::new(&self.shared, &reporter);
        let parallel = self.shared.config.parallel.max(1);
        let (found, waiting) = crossbeam_channel::bounded(WAITING_FILES);
        thread::scope(|scope| {
            for number in 0..parallel {
                let waiting = waiting.clone();
                let serve = || {
                    for (reporter, job) in waiting {
                        if self.shared.check().is_err()
                            || self.fetch_all(&tree, (reporter, job)).is_err()
                        {
                            self.stopped.store(true, Ordering::Relaxed);
                            break;
                        }
                    }
                };
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, serve) {
                    // Fewer do as well.
                    if number == 0 {
                        self.fail(&reporter, &GetError::no_thread(&error));
                    }
                    break;
                }
            }
            // Senders fail once there are no fetchers.
            drop(waiting);
            let has_found = Cell::new(false);
            for job in jobs {
                let send = |job: Job| {
                    has_found.set(true);
                    let reporter = self.reporter(Some(job.source.to_string()));
                    found.send((reporter, job)).is_ok()
                };
                let goes_on = match &job.source {
                    Source::Http(url) if self.shared.config.recursion == Recursion::On => {
                        self.walk(&tree, tree::Root::new(url.clone()), &send)
                    }
                    _ => send(job.clone()),
                };
                if !goes_on {
                    self.stopped.store(true, Ordering::Relaxed);
                    break;
                }
            }
            drop(found);
            if !has_found.get() && self.shared.config.filter.is_set() {
                reporter.note("no file matches --include and --exclude".to_owned());
            }
        });
        if self.stopped.load(Ordering::Relaxed)
            && let Err(error) = self.shared.check()
        {
            return Err(error.kind);
        }
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |(_, kind)| Err(kind))
    }

    /// Passes the files of a directory to `take`; returns whether it wants more.
    fn walk(&self, tree: &Tree<'_>, root: tree::Root, take: &dyn Fn(Job) -> bool) -> bool {
        let mut goes_on = true;
        tree.walk(root, &mut |found| {
            goes_on = match found {
                Found::File(job) => take(job),
                Found::Failed(error) => {
                    self.fail(&self.reporter(None), &error);
                    !error.is_stop()
                }
            };
            goes_on
        });
        goes_on
    }

    /// Fetches a file, or the files of the directory that the address turns out to be.
    ///
    /// # Errors
    /// The run ends.
    fn fetch_all(&self, tree: &Tree<'_>, (reporter, job): (Reporter, Job)) -> Result<(), GetError> {
        let open = RefCell::new(Vec::new());
        self.fetch(&reporter, &job, &open)?;
        loop {
            let Some(root) = open.borrow_mut().pop() else {
                return Ok(());
            };
            // Not by way of the line that this thread serves: it may be full.
            let fetch = |job: Job| {
                let reporter = self.reporter(Some(job.source.to_string()));
                self.fetch(&reporter, &job, &open).is_ok()
            };
            if !self.walk(tree, root, &fetch) {
                return Err(GetError::interrupted());
            }
        }
    }

    /// Fetches a file; the directory that it turns out to be is `open`.
    fn fetch(
        &self,
        reporter: &Reporter,
        job: &Job,
        open: &RefCell<Vec<tree::Root>>,
    ) -> Result<(), GetError> {
        match download::fetch(&self.shared, reporter, job) {
            Ok(Some(summary)) => reporter.send(|file| Event::Finished { file, summary }),
            Ok(None) => {}
            Err(GetError {
                directory: Some(url),
                ..
            }) if self.shared.config.recursion == Recursion::On => {
                open.borrow_mut().push(tree::Root::found(*url, job));
            }
            Err(GetError {
                metalink: Some(url),
                ..
            }) => match metalink::fetch(&self.shared, reporter, &url) {
                Ok(files) => {
                    for mut file in files {
                        file.mirrors.extend_from_slice(&job.mirrors);
                        let reporter = self.reporter(Some(file.source.to_string()));
                        self.fetch(&reporter, &file, open)?;
                    }
                }
                Err(error) => return self.stop_at(reporter, error),
            },
            Err(error) => return self.stop_at(reporter, error),
        }
        Ok(())
    }

    /// Notes that a file cannot be had.
    ///
    /// # Errors
    /// The run ends.
    fn stop_at(&self, reporter: &Reporter, error: GetError) -> Result<(), GetError> {
        self.fail(reporter, &error);
        match error.is_stop() {
            true => Err(error),
            false => Ok(()),
        }
    }

    fn fail(&self, reporter: &Reporter, error: &GetError) {
        let failure = reporter.failed(error);
        let mut first = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none_or(|(file, _)| failure.0 < file) {
            *first = Some(failure);
        }
    }

    /// The list of sums at `url`.
    fn checksums(&self, url: &HttpUrl) -> Result<ChecksumFile, GetError> {
        let reporter = self.reporter(None);
        let wanted = Wanted {
            url,
            accept: "*/*",
            max_bytes: MAX_CHECKSUM_LIST_BYTES,
        };
        let mut document = document::fetch(&self.shared, &reporter, wanted, |_, _| true)?;
        ChecksumFile::read(BufReader::new(document.rewind()?), None, MAX_SUMS_BYTES)
            .map_err(|error| GetError::new(ErrorKind::Verification, format!("{url}: {error}")))
    }

    /// The voice of the next file.
    fn reporter(&self, about: Option<String>) -> Reporter {
        Reporter {
            file: self.next.fetch_add(1, Ordering::Relaxed),
            events: self.events.clone(),
            about: about.filter(|_| self.several),
        }
    }
}

/// A million sums of files with names of 40 bytes, in memory.
const MAX_SUMS_BYTES: usize = 160 << 20;
/// Twice what a million lines of `sha256sum` take.
const MAX_CHECKSUM_LIST_BYTES: usize = 256 << 20;
/// Files that were found and wait for their turn.
const WAITING_FILES: usize = 256;
