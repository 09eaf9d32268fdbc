//! `haul get`: downloads that end whole or say why not.
//!
//! ```text
//! run → jobs ─┬→ tree (a listing becomes more jobs)
//!             ├→ download (one file over HTTP: versions come and go until one is whole)
//!             │    run → coordinator → segment   session, plan, scaler
//!             └→ sequential (into a stream)      name_protocol
//!       below: destination, part_file, mirrors, answer, verify, retry, client (wire, body)
//! ```
//!
//! Events flow one way: download → [`Event`] → display. What makes a file wrong is shut out in
//! three places: `answer` (which bytes may be put together), `part_file` (what may be believed
//! after a kill) and `verify` (what the whole must be).

mod answer;
mod client;
mod config;
mod destination;
pub mod display;
mod download;
mod error;
mod event;
mod extents;
mod keep;
mod login;
mod mirrors;
mod names;
mod pace;
mod part_file;
mod proxy;
mod retry;
mod sequential;
mod shared;
mod source;
mod tree;
mod verify;
mod watch;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crossbeam_channel::Sender;

pub use config::{
    Existing, GetConfig, Job, KeptChoice, MinRate, Naming, Preallocation, ReceiveChoice, Recursion,
    ResumeChoice, Segments, Target,
};
pub use error::{Blame, GetError};
pub use event::{Event, FileId, Summary};
pub use extents::Extent;
pub use login::{Field, Login, Netrc, basic};
pub use names::printable;
pub use proxy::Proxies;
pub use retry::RetryPolicy;
pub use source::{BadAddress, HAUL_PORT, HttpUrl, NameUrl, Source, without_credentials};
pub use verify::{Algorithm, BadSum, Sum, SumFile};
pub use watch::Cancel;

use client::Client;
use download::Fetched;
use pace::Pace;
use shared::{Reporter, Shared};

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
    let named = jobs.iter().flat_map(|job| {
        let own = match &job.source {
            Source::Http(url) => Some(url),
            Source::Name(_) => None,
        };
        own.into_iter().chain(&job.mirrors)
    });
    let client = Client::new(
        config.proxies.clone(),
        config.login.clone(),
        named.map(|url| url.url().origin()).collect(),
        config.connect_timeout,
    );
    let shared = Shared {
        client,
        pace: Pace::new(config.rate),
        cancel: cancel.clone(),
        end: config.max_time.map(|time| Instant::now() + time),
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
    match download::fetch(shared, reporter, job) {
        Ok(Fetched::Whole(summary)) => reporter.send(|file| Event::Finished { file, summary }),
        Ok(Fetched::Skipped(name)) => reporter.send(|file| Event::Skipped { file, name }),
        Err(error) => return Err(reporter.failed(&error).1),
    }
    Ok(())
}
