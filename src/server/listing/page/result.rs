//! The entries of a page as a scan has found them, for all connections that show the page.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::view::Summary;
use crate::meta::Meta;
use crate::server::listing::order::Ranked;
use crate::server::listing::scan::ItemFacts;
use crate::server::semaphore::{Permit, Semaphore};

/// The result of a scan.
#[derive(Debug)]
pub(super) struct ScanResult {
    rows: Box<[Row]>,
    pub(super) summary: Summary,
    begun: Instant,
    /// The directory's state when it was read; `None` if its time stamps cannot prove that it is
    /// unchanged.
    directory: Option<Meta>,
    /// Held by all users of the result.
    permit: Mutex<Weak<Permit>>,
}

/// A request for a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// When the request was there already.
    pub(super) asked: Instant,
    /// The state in which the request found the directory.
    pub(super) directory: Option<Meta>,
}

/// The rest of the rows of a page.
#[derive(Debug)]
pub(super) struct Rows {
    result: Arc<ScanResult>,
    at: usize,
}

/// The rows of a page that may have been dropped.
#[derive(Debug)]
pub(super) struct WeakRows {
    result: Weak<ScanResult>,
    at: usize,
}

/// An entry of a page.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: Box<[u8]>,
    seen: Mutex<Option<Seen>>,
}

/// The last look at an entry.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    /// `None` if the entry was removed.
    facts: Option<ItemFacts>,
}

impl ScanResult {
    /// The result of a scan begun at `begun`, of a directory in this state.
    pub(super) fn new(
        (rows, summary): (Vec<Ranked>, Summary),
        begun: Instant,
        directory: Option<Meta>,
        permit: &Arc<Permit>,
    ) -> Self {
        let names = rows.into_iter().map(|row| row.item.name);
        Self {
            rows: rows_of(names),
            summary,
            begun,
            directory,
            permit: Mutex::new(Arc::downgrade(permit)),
        }
    }

    /// Whether the result is current for a request: read after the request arrived, or of a
    /// directory that has not changed since.
    pub(super) fn answers(&self, wanted: Wanted) -> bool {
        self.begun >= wanted.asked
            || (self.directory.is_some() && self.directory == wanted.directory)
    }

    /// The permit of the result's users, or a new one.
    pub(super) fn permit(&self, permits: &Arc<Semaphore>) -> Option<Arc<Permit>> {
        let mut shared = lock(&self.permit);
        if let Some(permit) = shared.upgrade() {
            return Some(permit);
        }
        let permit = Arc::new(permits.try_acquire()?);
        *shared = Arc::downgrade(&permit);
        Some(permit)
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.iter().map(Row::bytes).sum::<usize>()
    }
}

impl Rows {
    pub(super) fn of(result: Arc<ScanResult>) -> Self {
        Self { result, at: 0 }
    }

    /// Rows that are not shared.
    pub(super) fn of_names(names: impl ExactSizeIterator<Item = Vec<u8>>) -> Self {
        Self::of(Arc::new(ScanResult {
            rows: rows_of(names),
            summary: Summary::default(),
            begun: Instant::now(),
            directory: None,
            permit: Mutex::default(),
        }))
    }

    /// How much memory the rest of them takes.
    pub(super) fn bytes(&self) -> usize {
        self.left().iter().map(Row::bytes).sum()
    }

    /// Goes on to the next row.
    pub(super) fn next(&mut self) -> Option<&Row> {
        let row = self.result.rows.get(self.at)?;
        self.at += 1;
        Some(row)
    }

    /// The names of the rows that are left.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.left().iter().map(|row| &*row.name)
    }

    fn left(&self) -> &[Row] {
        self.result.rows.get(self.at..).unwrap_or_default()
    }

    /// Lets go of them; others may still have them.
    pub(super) fn downgrade(&self) -> WeakRows {
        WeakRows {
            result: Arc::downgrade(&self.result),
            at: self.at,
        }
    }
}

impl WeakRows {
    /// The rows and their permit, if others have kept them and a permit is left.
    pub(super) fn upgrade(&self, permits: &Arc<Semaphore>) -> Option<(Rows, Arc<Permit>)> {
        let result = self.result.upgrade()?;
        let permit = result.permit(permits)?;
        let at = self.at;
        Some((Rows { result, at }, permit))
    }
}

impl Row {
    /// The facts, from a look-up for a request that arrived after this one: changes of a file show
    /// in no time stamp of its directory.
    ///
    /// # Errors
    /// Those of `look`: no page without the entry is whole.
    pub(super) fn facts(
        &self,
        asked: Instant,
        look: impl FnOnce(&[u8]) -> io::Result<Option<ItemFacts>>,
    ) -> io::Result<Option<ItemFacts>> {
        let known = *lock(&self.seen);
        if let Some(seen) = known.filter(|seen| seen.at >= asked) {
            return Ok(seen.facts);
        }
        let at = Instant::now();
        let facts = look(&self.name)?;
        *lock(&self.seen) = Some(Seen { at, facts });
        Ok(facts)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }
}

/// Exactly as much room as the rows need: collected in place they would take that of their source.
fn rows_of(names: impl ExactSizeIterator<Item = Vec<u8>>) -> Box<[Row]> {
    let mut rows = Vec::with_capacity(names.len());
    rows.extend(names.map(|name| Row {
        name: name.into(),
        seen: Mutex::default(),
    }));
    rows.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
