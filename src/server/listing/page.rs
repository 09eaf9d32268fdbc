//! A directory for people: a page that needs no script, and is better with one.
//!
//! The top of the page is sent before the directory is read, so that something is on the screen
//! at once. Scripts and styles are in the page itself and allowed by their hashes alone.

use std::io;

use super::order::{Ranked, Selection};
use super::scan::{Depth, Found, Scan};
use super::{Follow, Progress, STEP_BYTES, STEP_ENTRIES};
use crate::http::{Query, Request, SortKey, Target};

mod markup;
mod row;
mod shell;
mod style;

pub(super) use style::SECURITY_POLICY;

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Page {
    view: View,
    state: State,
}

/// What the page shows, and under which address.
#[derive(Debug)]
struct View {
    target: Target,
    query: Query,
    /// Scheme and authority, for commands that are to work elsewhere.
    origin: String,
    page_entries: usize,
}

#[derive(Debug)]
enum State {
    Top,
    Scan(Selection),
    Rows {
        /// In the page's order.
        rows: std::vec::IntoIter<Ranked>,
        summary: Summary,
    },
}

/// What the page says about the directory as a whole.
#[derive(Clone, Debug, Default)]
struct Summary {
    /// How many entries there are, of those that match the filter.
    total: u64,
    /// How many of them stand on earlier pages.
    before: u64,
    /// How many of them stand on this page.
    here: u64,
    /// Place of the last entry here, if more follow.
    next: Option<Vec<u8>>,
    /// Bytes of the files that are shown.
    bytes: u64,
}

impl Page {
    pub(super) fn new(request: &Request, page_entries: usize) -> Self {
        let host = request.host.as_deref().unwrap_or("HOST");
        let view = View {
            target: Target {
                trailing_slash: true,
                ..request.target.clone()
            },
            query: request.query.clone(),
            origin: format!("http://{host}"),
            page_entries,
        };
        Self {
            view,
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
                        rows: rows.into_iter(),
                        summary,
                    };
                }
            }
            State::Rows { rows, summary } => {
                let start = out.len();
                for ranked in rows.by_ref() {
                    // Looked at only now if the order did not need it: a page's worth of inodes
                    // instead of the whole directory's. What has gone since is left out.
                    if let Some(facts) = scan.facts(&ranked.item.name, follow) {
                        summary.bytes += row::row(&self.view, &ranked.item.name, facts, out);
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

impl View {
    fn selection(&self) -> Selection {
        let Query {
            sort, order, after, ..
        } = &self.query;
        Selection::new(*sort, *order, self.page_entries, after.as_deref())
    }

    fn depth(&self) -> Depth {
        match self.query.sort {
            SortKey::Name | SortKey::Kind => Depth::Kind,
            SortKey::Size | SortKey::Time => Depth::Facts,
        }
    }

    fn summarize(&self, selection: &mut Selection) -> (Vec<Ranked>, Summary) {
        let rows = selection.take();
        let here = rows.len() as u64;
        let (total, before) = (selection.total, selection.before);
        let next = rows
            .last()
            .filter(|_| before + here < total)
            .map(Ranked::cursor);
        (
            rows,
            Summary {
                total,
                before,
                here,
                next,
                bytes: 0,
            },
        )
    }
}
