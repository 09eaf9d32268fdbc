//! A directory for people: a page that needs no script, and is better with one.
//!
//! The top of the page is sent before the directory is read, so that something is on the screen
//! at once. Scripts and styles are in the page itself and allowed by their hashes alone.

use std::io;
use std::sync::Arc;

use super::order::PageSelection;
use super::scan::{Scan, Scanned};
use super::step::{Follow, Memory, Progress, STEP_BYTES, STEP_ENTRIES};
use crate::http::Request;
use crate::server::semaphore::{Permit, Semaphore};

mod markup;
mod names;
mod row;
mod style;
mod view;

use names::{Hashes, Missing, Names};
pub(super) use style::SECURITY_POLICY;
use view::{Summary, View};

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Page {
    view: View,
    state: State,
    /// Of names that were given back.
    hashes: Hashes,
    /// Pages whose names may be in memory at the same time.
    permits: Arc<Semaphore>,
    /// Held while a scan is under way or names are in memory.
    permit: Option<Permit>,
}

#[derive(Debug)]
enum State {
    Top,
    Scan(PageSelection),
    Rows {
        rows: Names,
        summary: Summary,
    },
    /// The rows' names were given back.
    GivenBack(Summary),
    /// The page's entries are found in the directory again.
    Finding {
        rows: Missing,
        summary: Summary,
    },
    /// While a step runs.
    Taken,
}

impl Page {
    pub(super) fn new(request: &Request, page_entries: usize, permits: Arc<Semaphore>) -> Self {
        Self {
            view: View::new(request, page_entries),
            state: State::Top,
            hashes: Hashes::with_room(page_entries),
            permits,
            permit: None,
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
                (State::Scan(self.view.selection()), Progress::More)
            }
            waiting @ (State::Scan(_) | State::GivenBack(_)) if !self.is_permitted() => {
                (waiting, Progress::More)
            }
            State::Scan(selection) => (self.select(selection, scan, out, follow)?, Progress::More),
            State::GivenBack(summary) => {
                scan.rewind()?;
                let rows = self.hashes.find();
                (State::Finding { rows, summary }, Progress::More)
            }
            State::Finding { rows, summary } => (find(rows, summary, scan)?, Progress::More),
            State::Rows { rows, summary } => self.write(rows, summary, scan, out, follow),
            State::Taken => return Err(io::Error::other("the listing is over")),
        };
        self.state = state;
        Ok(progress)
    }

    /// Gives back, for a peer that does not read, what the directory tells again.
    pub(super) fn give_back(&mut self) {
        if let State::Rows { rows, summary } = &self.state
            && rows.are_large()
        {
            self.hashes.keep(rows);
            self.state = State::GivenBack(summary.clone());
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

    fn is_permitted(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = self.permits.try_acquire();
        }
        self.permit.is_some()
    }

    /// Offers the next names to the selection.
    fn select(
        &self,
        mut selection: PageSelection,
        scan: &mut Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<State> {
        for _ in 0..STEP_ENTRIES {
            match scan.next(self.view.depth(), follow)? {
                Scanned::Item(item) => selection.offer(item),
                Scanned::Skipped => {}
                Scanned::End => {
                    let (rows, summary) = self.view.summarize(&mut selection);
                    markup::table_top(&self.view, &summary, out);
                    let rows = Names::of(rows);
                    return Ok(State::Rows { rows, summary });
                }
            }
        }
        Ok(State::Scan(selection))
    }

    fn write(
        &mut self,
        mut rows: Names,
        mut summary: Summary,
        scan: &Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> (State, Progress) {
        let start = out.len();
        while let Some(name) = rows.next() {
            // Looked at only now if the order did not need it: a page's worth of inodes instead of
            // the whole directory's. An entry that has gone since is left out.
            if let Some(facts) = scan.facts(&name, follow).ok().flatten() {
                summary.bytes += row::row(&self.view, &name, facts, out);
            }
            if out.len() - start >= STEP_BYTES {
                return (State::Rows { rows, summary }, Progress::More);
            }
        }
        markup::bottom(&self.view, &summary, out);
        self.permit = None;
        (State::Taken, Progress::Done)
    }
}

/// Looks for names that were given back among the directory's next ones.
fn find(mut rows: Missing, summary: Summary, scan: &mut Scan) -> io::Result<State> {
    for _ in 0..STEP_ENTRIES {
        match scan.next_name()? {
            Some(name) if !rows.is_complete() => rows.offer(name),
            _ => {
                let rows = rows.into_names();
                return Ok(State::Rows { rows, summary });
            }
        }
    }
    Ok(State::Finding { rows, summary })
}

/// Names that take less than a few milliseconds to be found again.
const CHEAP_ENTRIES: u64 = 10_000;
