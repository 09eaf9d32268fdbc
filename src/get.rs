//! `haul get`: downloads that end whole or say why not.
//!
//! ```text
//! run → jobs ─┬→ tree (a listing becomes more jobs)
//!             └→ transfer (one file) → crew (one version of it) → segment (one connection)
//!                  destination, part       coordinator: plan, ramp    client, wire, body
//!                  retry, leads            session, verify            answer
//! ```
//!
//! Events flow one way: transfer → [`Event`] → display. What makes a file wrong is shut out in
//! three places: `answer` (which bytes may be put together), `part` (what may be believed after a
//! kill) and `verify` (what the whole must be).

mod answer;
mod body;
mod client;
mod coordinator;
mod crew;
mod destination;
pub mod display;
mod error;
mod event;
mod extents;
mod leads;
mod name_protocol;
mod names;
mod pace;
mod part;
mod plan;
mod proxy;
mod ramp;
mod retry;
mod segment;
mod session;
mod source;
mod stream;
mod transfer;
mod tree;
mod verify;
mod watch;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

pub use error::{Blame, GetError};
pub use event::{Event, FileId, Summary};
pub use extents::Extent;
pub use names::printable;
pub use proxy::Proxies;
pub use retry::RetryPolicy;
pub use source::{BadAddress, HAUL_PORT, HttpUrl, NameUrl, Source};
pub use verify::{BadSum, Sum, SumFile, parse_hex};
pub use watch::Cancel;

use client::Client;
use pace::Pace;
use transfer::Fetched;
use watch::Watch;

/// How to download; what is the same for all files of a run.
#[derive(Clone, Debug)]
pub struct GetConfig {
    /// Where files go that have no path of their own.
    pub directory: PathBuf,
    /// Where files get their names from.
    pub naming: Naming,
    /// What an address that ends in a directory means.
    pub recursion: Recursion,
    /// What to do with files that are there already.
    pub existing: Existing,
    /// Files at once, at least 1.
    pub parallel: usize,
    /// Connections per file.
    pub segments: Segments,
    /// Way of the bytes from socket to file.
    pub receive: ReceiveChoice,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Time for a connection to come about.
    pub connect_timeout: Duration,
    /// Time without a byte after which a connection is given up.
    pub stall_timeout: Duration,
    /// Bytes a second over all connections.
    pub rate: Option<u64>,
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// Sums that every file must have.
    pub sums: Vec<Sum>,
    /// Sums by file name.
    pub sum_file: Option<SumFile>,
}

/// Where a file's name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The end of its address.
    Url,
    /// `Content-Disposition`, made safe.
    Remote,
}

/// Whether listings are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursion {
    /// Every address is a file.
    Off,
    /// A directory is fetched with everything below it.
    On,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Refuse,
    /// Replace it, once the new one is whole.
    Overwrite,
    /// Leave it, and be content if its size and time are the server's.
    Skip,
    /// Leave it if its size and time are the server's, else replace it.
    Update,
}

/// Connections per file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// As many as pay.
    Auto,
    /// So many, at least 1, as long as the server takes them.
    Fixed(usize),
}

/// Way of the bytes from socket to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveChoice {
    /// What measured best.
    Auto,
    /// Through a pipe, inside the kernel.
    Splice,
    /// Through a buffer.
    Copy,
}

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its address.
    pub source: Source,
    /// Other addresses of the same file.
    pub mirrors: Vec<HttpUrl>,
    /// Where it goes.
    pub target: Target,
}

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into [`GetConfig::directory`], under a name found by [`GetConfig::naming`].
    Named,
    /// To this path below [`GetConfig::directory`]; safe already.
    Below(PathBuf),
    /// To this path, below [`GetConfig::directory`] unless it is absolute; the user's own choice.
    Path(PathBuf),
    /// To standard output.
    Stream,
}

/// Fetches all files, `parallel` at a time, and tells `events` how it goes.
///
/// # Errors
/// The blame of the first file, in order, that could not be had; the event said why.
pub fn run(
    config: GetConfig,
    jobs: &[Job],
    events: &Sender<Event>,
    cancel: &Cancel,
) -> Result<(), Blame> {
    let shared = Shared {
        client: Client::new(config.proxies.clone(), config.connect_timeout),
        pace: Pace::new(config.rate),
        cancel: cancel.clone(),
        config,
    };
    let (jobs, failures) = expand(&shared, jobs, events);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(failures);
    thread::scope(|scope| {
        for _ in 0..shared.config.parallel.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while !shared.cancel.is_cancelled() {
                    let file = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(file) else { break };
                    let reporter = Reporter {
                        file,
                        events: events.clone(),
                        about: (jobs.len() > 1).then(|| job.source.to_string()),
                    };
                    if let Err(blame) = fetch(&shared, &reporter, job) {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push((file, blame));
                    }
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if shared.cancel.is_cancelled() && next.into_inner() < jobs.len() {
        return Err(Blame::Interrupted);
    }
    failures
        .into_iter()
        .min()
        .map_or(Ok(()), |(_, blame)| Err(blame))
}

/// Puts the files of every directory in its place, where directories are followed.
fn expand(
    shared: &Shared,
    jobs: &[Job],
    events: &Sender<Event>,
) -> (Vec<Job>, Vec<(FileId, Blame)>) {
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for job in jobs {
        match (&job.source, shared.config.recursion) {
            (Source::Http(url), Recursion::On) => {
                let reporter = Reporter {
                    file: files.len(),
                    events: events.clone(),
                    about: (jobs.len() > 1).then(|| url.to_string()),
                };
                let (found, errors) = tree::walk(shared, &reporter, url);
                files.extend(found);
                failures.extend(errors.iter().map(|error| reporter.failed(error)));
            }
            _ => files.push(job.clone()),
        }
    }
    (files, failures)
}

fn fetch(shared: &Shared, reporter: &Reporter, job: &Job) -> Result<(), Blame> {
    match transfer::fetch(shared, reporter, job) {
        Ok(Fetched::Whole(summary)) => reporter.send(|file| Event::Finished { file, summary }),
        Ok(Fetched::Skipped(name)) => reporter.send(|file| Event::Skipped { file, name }),
        Err(error) => return Err(reporter.failed(&error).1),
    }
    Ok(())
}

/// What all threads of a run share.
#[derive(Debug)]
struct Shared {
    config: GetConfig,
    client: Client,
    pace: Pace,
    cancel: Cancel,
}

impl Shared {
    fn watch(&self) -> Watch {
        Watch::new(self.cancel.clone(), self.config.stall_timeout)
    }

    fn check(&self) -> Result<(), GetError> {
        self.watch().check()
    }
}

/// Tells the display of one file.
#[derive(Debug)]
struct Reporter {
    file: FileId,
    events: Sender<Event>,
    /// Its address, where there are several files and a text has to say which one it is about.
    about: Option<String>,
}

impl Reporter {
    fn send(&self, event: impl FnOnce(FileId) -> Event) {
        // A display that has gone is no reason to stop downloading.
        let _ = self.events.send(event(self.file));
    }

    fn failed(&self, error: &GetError) -> (FileId, Blame) {
        let (text, blame) = (self.told(error.to_string()), error.blame);
        self.send(|file| Event::Failed { file, text, blame });
        (self.file, blame)
    }

    fn note(&self, text: String) {
        let text = self.told(text);
        self.send(|file| Event::Note { file, text });
    }

    fn retry(&self, text: String, wait: Duration) {
        let text = self.told(text);
        self.send(|file| Event::Retry {
            file,
            text,
            wait: wait.as_secs_f64(),
        });
    }

    /// `text`, with the file's address where it does not have it already.
    fn told(&self, text: String) -> String {
        match &self.about {
            Some(about) if !text.contains(about.as_str()) => format!("{about}: {text}"),
            _ => text,
        }
    }
}

/// The most that a connection takes before it looks at its limits again.
const TICKET_BYTES: usize = 1024 * 1024;
const NOT_RESUMED: &str = "what an earlier run left cannot be resumed: starting over";
