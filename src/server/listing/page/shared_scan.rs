//! A scan that concurrent requests for one page of a directory share.
//!
//! No connection owns the scan: each takes it one step further in its turn of the disk queue, so a
//! connection that leaves interrupts nothing. A scan serves all requests that arrived before it
//! began. Later ones take it to its end and begin the next, unless the directory's time stamps
//! prove the names unchanged. So a crowd costs at most two scans, and no response is older than its
//! request.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::kept::{KeptResults, ScanKey};
use super::result::{ScanResult, Wanted};
use super::view::View;
use crate::meta::Meta;
use crate::server::listing::order::PageSelection;
use crate::server::listing::scan::{Depth, Scan, Scanned};
use crate::server::listing::step::{Follow, STEP_ENTRIES, ScanNumber};
use crate::server::semaphore::{Permit, Semaphore};
use crate::server::telemetry::Counters;

/// Scans of a directory for the same page, one after another.
#[derive(Debug)]
pub(super) struct SharedScan {
    number: ScanNumber,
    /// Held while a step runs: for disk workers alone.
    running: Mutex<Option<RunningScan>>,
    /// Held for moments.
    last: Mutex<LastScan>,
    /// The place and the key of results that are kept.
    kept: Option<(Arc<KeptResults>, Arc<ScanKey>)>,
    counters: Arc<Counters>,
}

/// A scan that has begun.
#[derive(Debug)]
struct RunningScan {
    scan: Scan,
    selection: PageSelection,
    depth: Depth,
    begun: Instant,
    directory: Option<Meta>,
    permit: Arc<Permit>,
}

/// The last scan that has ended.
#[derive(Debug)]
enum LastScan {
    None,
    /// The permit is held for connections that have not taken the result yet; a kept result has
    /// none.
    Ended(Arc<ScanResult>, Option<Arc<Permit>>),
    /// The directory could not be read.
    Failed {
        begun: Instant,
        kind: io::ErrorKind,
        code: Option<i32>,
    },
}

/// The result of a scan's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// No permit is free.
    NotPermitted,
    UnderWay,
    /// It has ended, with a result for the request.
    Ended,
}

impl SharedScan {
    pub(super) fn new(
        kept: Option<(Arc<KeptResults>, Arc<ScanKey>)>,
        counters: Arc<Counters>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let found = kept.as_ref().and_then(|(kept, key)| kept.find(key));
        if found.is_some() {
            Counters::add_one(&counters.listings_shared);
        }
        Self {
            number: ScanNumber(NEXT.fetch_add(1, Ordering::Relaxed)),
            running: Mutex::default(),
            last: Mutex::new(found.map_or(LastScan::None, |found| LastScan::Ended(found, None))),
            kept,
            counters,
        }
    }

    /// The number by which the disk queue runs one step at a time; `None` if there is nothing to
    /// wait for. Takes no lock that could block a hot worker.
    pub(super) fn number(&self, wanted: Wanted) -> Option<ScanNumber> {
        let last = self.last.try_lock().ok();
        let is_there = last.is_some_and(|last| last.answer(wanted).is_some());
        (self.kept.is_some() && !is_there).then_some(self.number)
    }

    /// The result, if it is current for this request.
    pub(super) fn answer(&self, wanted: Wanted) -> Option<io::Result<Arc<ScanResult>>> {
        lock(&self.last).answer(wanted)
    }

    /// Takes the scan a step further, or begins the one that `scan` makes. May wait for a disk.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn step(
        &self,
        (scan, view, wanted): (&Scan, &View, Wanted),
        permits: &Arc<Semaphore>,
        follow: Follow<'_>,
    ) -> io::Result<Stepped> {
        let mut slot = lock(&self.running);
        let mut running = match slot.take() {
            Some(running) => running,
            // The scan that this step waited for has ended meanwhile.
            None if self.answer(wanted).is_some() => return Ok(Stepped::Ended),
            None => match self.permit(permits) {
                None => return Ok(Stepped::NotPermitted),
                Some(permit) => {
                    Counters::add_one(&self.counters.listing_scans);
                    RunningScan {
                        scan: scan.again()?,
                        selection: view.selection(),
                        depth: view.depth(),
                        begun: Instant::now(),
                        directory: wanted.directory,
                        permit: Arc::new(permit),
                    }
                }
            },
        };
        match running.step(follow) {
            Ok(Stepped::Ended) => self.end(running, view),
            Ok(stepped) => {
                *slot = Some(running);
                return Ok(stepped);
            }
            Err(error) => {
                *lock(&self.last) = LastScan::Failed {
                    begun: running.begun,
                    kind: error.kind(),
                    code: error.raw_os_error(),
                };
                return Err(error);
            }
        }
        Ok(Stepped::Ended)
    }

    /// A permit for another scan, which also serves connections that have not taken the last
    /// result.
    fn permit(&self, permits: &Arc<Semaphore>) -> Option<Permit> {
        let last = std::mem::replace(&mut *lock(&self.last), LastScan::None);
        let unused = match last {
            LastScan::Ended(_, Some(permit)) => Arc::into_inner(permit),
            _ => None,
        };
        unused.or_else(|| permits.try_acquire())
    }

    fn end(&self, running: RunningScan, view: &View) {
        let RunningScan {
            scan,
            mut selection,
            begun,
            directory,
            permit,
            ..
        } = running;
        let directory = directory.filter(|_| !scan.has_looked());
        let found = view.summarize(&mut selection);
        let result = Arc::new(ScanResult::new(found, begun, directory, &permit));
        if let Some((kept, key)) = &self.kept
            && directory.is_some()
        {
            kept.keep(key, &result);
        }
        *lock(&self.last) = LastScan::Ended(result, Some(permit));
    }
}

impl LastScan {
    fn answer(&self, wanted: Wanted) -> Option<io::Result<Arc<ScanResult>>> {
        match self {
            Self::Ended(result, _) if result.answers(wanted) => Some(Ok(Arc::clone(result))),
            Self::Failed { begun, kind, code } if *begun >= wanted.asked => {
                let error = code.map_or((*kind).into(), io::Error::from_raw_os_error);
                Some(Err(error))
            }
            _ => None,
        }
    }
}

impl RunningScan {
    fn step(&mut self, follow: Follow<'_>) -> io::Result<Stepped> {
        for _ in 0..STEP_ENTRIES {
            match self.scan.next(self.depth, follow)? {
                Scanned::Item(item) => self.selection.offer(item),
                Scanned::Skipped => {}
                Scanned::End => return Ok(Stepped::Ended),
            }
        }
        Ok(Stepped::UnderWay)
    }
}

/// A step that panicked leaves no scan behind, and the next one starts again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
