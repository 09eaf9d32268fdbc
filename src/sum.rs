//! Digests of local files, computed in parallel over files and, with BLAKE3, within them.
//!
//! Threads take pieces of work from a [`feed::Feed`]; results come back in the order of the names,
//! see [`compute`].

mod feed;
mod progress;
mod read;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, unbounded};

pub use crate::digest::checksum_file::{Style, escape, line};
use crate::digest::{Algorithm, Checksum, Store};
use feed::{Feed, Found};
pub use progress::Progress;
pub use walk::DirectoryChoice;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct SumConfig {
    /// How digests are computed.
    pub algorithm: Algorithm,
    /// Threads that hash.
    pub threads: NonZeroUsize,
    /// The state directory: unchanged files' digests are taken from the store there, and new ones
    /// kept in it. `None` reads every file.
    pub state: Option<PathBuf>,
    /// The treatment of directories.
    pub directories: DirectoryChoice,
}

/// An event of a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file's digest, or the error. The order is that of the names.
    File(&'a Path, Result<Checksum, io::Error>),
    /// A message about the store for the operator.
    Notice(String),
    /// A moment has passed.
    Tick,
}

/// Computes the digest of each file. `-` is standard input.
///
/// # Errors
/// The first error of `on`, which ends the work.
pub fn compute(
    config: &SumConfig,
    paths: impl IntoIterator<Item = PathBuf> + Send,
    progress: &Progress,
    mut on: impl FnMut(Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let store = match &config.state {
        None => None,
        Some(directory) => {
            let (store, notice) = Store::open(Some(directory));
            if let Some(notice) = notice {
                on(Event::Notice(notice.to_string()))?;
            }
            Some(store)
        }
    };
    let paths: Vec<PathBuf> = paths.into_iter().collect();
    let feed = Feed::new(walk::Walk::new(paths, config.directories), config.algorithm);
    let (sender, results) = unbounded::<Found>();
    let outcome = std::thread::scope(|scope| {
        for number in 0..config.threads.get() {
            let (sender, feed, store) = (sender.clone(), &feed, store.as_ref());
            let work = move || feed.work(store, progress, &sender);
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error),
                // Fewer do as well.
                Err(_) => break,
            }
        }
        drop(sender);
        let outcome = in_order(&feed, &results, &mut on);
        if outcome.is_err() {
            progress.cancelled.store(true, Ordering::Relaxed);
        }
        // Threads that wait for room have to notice it.
        feed.advance_to(u64::MAX);
        outcome
    });
    if let Some(notice) = store.and_then(|store| store.flush()) {
        on(Event::Notice(notice.to_string()))?;
    }
    outcome
}

/// Hands results on in the order of their numbers.
fn in_order(
    feed: &Feed,
    results: &crossbeam_channel::Receiver<Found>,
    on: &mut impl FnMut(Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    loop {
        match results.recv_timeout(TICK) {
            Ok(found) => drop(early.insert(found.number, found)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Some(found) = early.remove(&next) {
            next += 1;
            if let Some(notice) = found.notice {
                on(Event::Notice(notice))?;
            }
            on(Event::File(&found.path, found.result))?;
        }
        feed.advance_to(next);
        on(Event::Tick)?;
    }
}

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);
