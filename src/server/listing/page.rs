//! A directory for people: a page that needs no script, and is better with one.
//!
//! The top of the page is sent before the directory is read, so that something is on the screen
//! at once. Scripts and styles are in the page itself and allowed by their hashes alone.

use std::io;

use super::order::{Ranked, Selection};
use super::scan::{Depth, Found, Scan};
use super::step::{Follow, Progress, STEP_BYTES, STEP_ENTRIES};
use crate::http::Request;

mod markup;
mod row;
mod shell;
mod style;
mod view;

pub(super) use style::SECURITY_POLICY;
use view::{Summary, View};

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Page {
    view: View,
    state: State,
}

#[derive(Debug)]
enum State {
    Top,
    Scan(Selection),
    Rows {
        /// In the page's order.
        rows: Names,
        summary: Summary,
    },
}

/// Names in one piece of memory, for as long as the peer takes to read the page.
#[derive(Debug)]
struct Names {
    /// Each ends in a NUL, which no name holds.
    bytes: Box<[u8]>,
    at: usize,
}

impl Names {
    fn of(rows: &[Ranked]) -> Self {
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.item.name.len() + 1).sum());
        for row in rows {
            bytes.extend_from_slice(&row.item.name);
            bytes.push(0);
        }
        Self {
            bytes: bytes.into_boxed_slice(),
            at: 0,
        }
    }

    fn next(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.at..];
        let len = memchr::memchr(0, rest)?;
        self.at += len + 1;
        Some(&rest[..len])
    }
}

impl Page {
    pub(super) fn new(request: &Request, page_entries: usize) -> Self {
        Self {
            view: View::new(request, page_entries),
            state: State::Top,
        }
    }

    pub(super) fn fill(
        &mut self,
        scan: &mut Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<Progress> {
        match &mut self.state {
            State::Top => {
                markup::top(&self.view, out);
                self.state = State::Scan(self.view.selection());
            }
            State::Scan(selection) => {
                if select(selection, self.view.depth(), scan, follow)? == Progress::Done {
                    let (rows, summary) = self.view.summarize(selection);
                    markup::table_top(&self.view, &summary, out);
                    self.state = State::Rows {
                        rows: Names::of(&rows),
                        summary,
                    };
                }
            }
            State::Rows { rows, summary } => {
                let start = out.len();
                while let Some(name) = rows.next() {
                    // Looked at only now if the order did not need it: a page's worth of inodes
                    // instead of the whole directory's. What has gone since is left out.
                    if let Some(facts) = scan.facts(name, follow) {
                        summary.bytes += row::row(&self.view, name, facts, out);
                    }
                    if out.len() - start >= STEP_BYTES {
                        return Ok(Progress::More);
                    }
                }
                markup::bottom(&self.view, summary, out);
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::More)
    }
}

/// Offers the next names to the selection.
fn select(
    selection: &mut Selection,
    depth: Depth,
    scan: &mut Scan,
    follow: Follow<'_>,
) -> io::Result<Progress> {
    for _ in 0..STEP_ENTRIES {
        match scan.next(depth, follow)? {
            Found::Item(item) => selection.offer(item),
            Found::Skipped => {}
            Found::End => return Ok(Progress::Done),
        }
    }
    Ok(Progress::More)
}
