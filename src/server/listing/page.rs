//! A directory for people: a page that needs no script, and is better with one.
//!
//! The top of the page is sent before the directory is read, so that a browser shows it at once.
//! Scripts and styles are inline and allowed by their hashes alone.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::scan::Scan;
use super::step::{Follow, Memory, Progress, STEP_BYTES, STEP_ENTRIES, ScanNumber};
use crate::http::Request;
use crate::meta::Meta;
use crate::server::access::Grant;
use crate::server::semaphore::{Permit, Semaphore};

mod kept;
mod markup;
mod names;
mod registry;
mod result;
mod row;
mod shared_scan;
mod style;
mod view;

use kept::ScanKey;
use names::{Hashes, Missing};
pub(crate) use registry::ScanRegistry;
use result::{Rows, Wanted, WeakRows};
use shared_scan::{SharedScan, Stepped};
pub(super) use style::SECURITY_POLICY;
use view::{Summary, View};

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Page {
    view: View,
    state: State,
    wanted: Wanted,
    scans: Arc<ScanRegistry>,
    /// Under which others may share the scan.
    key: Option<Arc<ScanKey>>,
    /// Of names that were given back.
    hashes: Hashes,
    /// Pages whose names may be in memory at the same time.
    permits: Arc<Semaphore>,
    /// Held while names are in memory, shared by the pages with the same names.
    permit: Option<Arc<Permit>>,
    /// The last step found no permit.
    is_turned_away: bool,
}

/// The directory as the request found it.
#[derive(Debug)]
pub(crate) struct ListedDirectory<'a> {
    /// From the root.
    pub(crate) path: &'a [u8],
    /// The grant of the request.
    pub(crate) grant: &'a Grant,
    /// Its state.
    pub(crate) meta: Meta,
    /// Whether any change from now on will show in its time stamps.
    pub(crate) shows_changes: bool,
}

#[derive(Debug)]
enum State {
    Top,
    /// The top may still wait for the peer, for which no result is held.
    Unscanned,
    Scan(Arc<SharedScan>, Progress),
    Rows {
        rows: Rows,
        summary: Summary,
    },
    /// The rows' names were given back.
    GivenBack(WeakRows, Summary),
    /// The page's entries are found in the directory again.
    Finding {
        rows: Missing,
        summary: Summary,
    },
    /// While a step runs.
    Taken,
}

impl Page {
    /// The page for `request`, of a directory whose scan other requests may share.
    pub(super) fn new(
        request: &Request,
        page_entries: usize,
        permits: Arc<Semaphore>,
        (directory, scans): (Option<&ListedDirectory<'_>>, &Arc<ScanRegistry>),
    ) -> Self {
        let state = directory.filter(|it| it.shows_changes);
        let key = directory.and_then(|directory| key(directory, request));
        Self {
            view: View::new(request, page_entries),
            wanted: Wanted {
                asked: Instant::now(),
                directory: state.map(|it| it.meta),
            },
            state: State::Top,
            scans: Arc::clone(scans),
            key: key.map(Arc::new),
            hashes: Hashes::with_room(page_entries),
            permits,
            permit: None,
            is_turned_away: false,
        }
    }

    pub(super) fn fill(
        &mut self,
        scan: &mut Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<Progress> {
        let (state, progress) = match std::mem::replace(&mut self.state, State::Taken) {
            State::Top => {
                markup::top(&self.view, out);
                (State::Unscanned, Progress::More)
            }
            State::Unscanned => {
                let shared = self.scans.join(self.key.as_ref());
                (State::Scan(shared, Progress::Done), Progress::More)
            }
            State::Scan(shared, _) => (self.scan(shared, scan, out, follow)?, Progress::More),
            State::GivenBack(rows, summary) => (self.resume(rows, summary, scan)?, Progress::More),
            State::Finding { rows, summary } => (find(rows, summary, scan)?, Progress::More),
            State::Rows { rows, summary } => self.write(rows, summary, scan, out, follow)?,
            State::Taken => return Err(io::Error::other("the listing is over")),
        };
        self.state = state;
        Ok(progress)
    }

    /// Releases names that the directory can supply again, for a peer that does not read.
    pub(super) fn give_back(&mut self) {
        if let State::Rows { rows, summary } = &mut self.state {
            if rows.bytes() > FEW_BYTES {
                self.hashes.keep(rows.names());
                self.state = State::GivenBack(rows.downgrade(), summary.clone());
            } else {
                *rows = Rows::of_names(rows.names().map(<[u8]>::to_vec));
            }
            self.permit = None;
        }
    }

    /// The names that are in memory.
    pub(super) fn memory(&self) -> Memory {
        match &self.state {
            State::Rows { summary, .. } if self.permit.is_some() => {
                match summary.total <= CHEAP_ENTRIES || self.permits.is_scarce() {
                    true => Memory::Dear,
                    false => Memory::Some,
                }
            }
            _ => Memory::Little,
        }
    }

    /// The scan that the page waits for.
    pub(super) fn awaited_scan(&self) -> Option<ScanNumber> {
        match &self.state {
            State::Scan(shared, _) => shared.number(self.wanted),
            _ => None,
        }
    }

    /// Whether the page has taken a scan further that is not at its end.
    pub(super) fn scan_is_under_way(&self) -> bool {
        matches!(&self.state, State::Scan(_, Progress::More))
    }

    /// Whether the last step found no permit, and the next one should wait for some time.
    pub(super) fn take_turned_away(&mut self) -> bool {
        std::mem::take(&mut self.is_turned_away)
    }

    /// Takes the result of the scan, or the scan a step further.
    fn scan(
        &mut self,
        shared: Arc<SharedScan>,
        scan: &Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<State> {
        let Some(result) = shared.answer(self.wanted).transpose()? else {
            let of = (scan, &self.view, self.wanted);
            let stepped = shared.step(of, &self.permits, follow)?;
            self.is_turned_away = stepped == Stepped::NotPermitted;
            let progress = match stepped {
                Stepped::UnderWay => Progress::More,
                Stepped::NotPermitted | Stepped::Ended => Progress::Done,
            };
            return Ok(State::Scan(shared, progress));
        };
        self.permit = result.permit(&self.permits);
        if self.permit.is_none() {
            self.is_turned_away = true;
            return Ok(State::Scan(shared, Progress::Done));
        }
        let summary = result.summary.clone();
        markup::table_top(&self.view, &summary, out);
        let rows = Rows::of(result);
        Ok(State::Rows { rows, summary })
    }

    /// Takes rows up again that were given back: from others, or from the directory.
    fn resume(&mut self, weak: WeakRows, summary: Summary, scan: &mut Scan) -> io::Result<State> {
        if let Some((rows, permit)) = weak.upgrade(&self.permits) {
            self.permit = Some(permit);
            return Ok(State::Rows { rows, summary });
        }
        let Some(permit) = self.permits.try_acquire() else {
            self.is_turned_away = true;
            return Ok(State::GivenBack(weak, summary));
        };
        self.permit = Some(Arc::new(permit));
        scan.rewind()?;
        let rows = self.hashes.find();
        Ok(State::Finding { rows, summary })
    }

    fn write(
        &mut self,
        mut rows: Rows,
        mut summary: Summary,
        scan: &Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<(State, Progress)> {
        let start = out.len();
        while let Some(row) = rows.next() {
            // Facts that the order does not need are read only for the entries of this page. An
            // entry that has been removed since is left out.
            let look = |name: &[u8]| scan.facts(name, follow);
            if let Some(facts) = row.facts(self.wanted.asked, look)? {
                summary.bytes += row::row(&self.view, &row.name, facts, out);
            }
            if out.len() - start >= STEP_BYTES {
                return Ok((State::Rows { rows, summary }, Progress::More));
            }
        }
        markup::bottom(&self.view, &summary, out);
        self.permit = None;
        Ok((State::Taken, Progress::Done))
    }
}

/// The key under which the page's scan is shared; none is kept for a long query.
fn key(directory: &ListedDirectory<'_>, request: &Request) -> Option<ScanKey> {
    let query = &request.query;
    let texts = [query.after.as_deref(), query.filter.as_deref()];
    let texts = texts.into_iter().flatten().chain([directory.path]);
    let is_short = texts.map(<[u8]>::len).sum::<usize>() <= MAX_KEY_BYTES;
    is_short.then(|| ScanKey {
        directory: (directory.meta.device, directory.meta.inode),
        path: directory.path.into(),
        grant: directory.grant.clone(),
        sort: query.sort,
        order: query.order,
        after: query.after.clone(),
        filter: query.filter.clone(),
    })
}

/// Looks for names that were given back among the directory's next ones.
fn find(mut rows: Missing, summary: Summary, scan: &mut Scan) -> io::Result<State> {
    for _ in 0..STEP_ENTRIES {
        match scan.next_name()? {
            Some(name) if !rows.is_complete() => rows.offer(name),
            _ => {
                let rows = Rows::of_names(rows.into_names().into_iter());
                return Ok(State::Rows { rows, summary });
            }
        }
    }
    Ok(State::Finding { rows, summary })
}

/// Names that take less than a few milliseconds to be found again.
const CHEAP_ENTRIES: u64 = 10_000;

/// So much of names stays for a peer that does not read.
const FEW_BYTES: usize = 8 << 10;

/// Bytes of a key: there may be one for each connection.
const MAX_KEY_BYTES: usize = 1 << 10;
