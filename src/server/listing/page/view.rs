//! The page's view of a directory.

use crate::http::{Query, Request, SortKey, Target};
use crate::server::listing::order::{PageSelection, Ranked};
use crate::server::listing::scan::Depth;

/// The entries that a page shows, and their address.
#[derive(Debug)]
pub(super) struct View {
    pub(super) target: Target,
    pub(super) query: Query,
    /// Scheme and authority, for commands that are pasted elsewhere.
    pub(super) origin: String,
    /// The query of the link that opens the entries, with its question mark.
    pub(super) link: String,
    pub(super) page_entries: usize,
}

/// The facts about the directory as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// How many entries there are, of those that match the filter.
    pub(super) total: u64,
    /// The number of entries on earlier pages.
    pub(super) before: u64,
    /// The number of entries on this page.
    pub(super) here: u64,
    /// Place of the last entry here, if more follow.
    pub(super) next: Option<Vec<u8>>,
    /// Bytes of the files that are shown.
    pub(super) bytes: u64,
}

impl View {
    pub(super) fn new(request: &Request, page_entries: usize) -> Self {
        let host = request.host.as_deref().unwrap_or("HOST");
        let host = host.get(..MAX_HOST_BYTES).unwrap_or(host);
        Self {
            target: Target {
                trailing_slash: true,
                ..request.target.clone()
            },
            query: request.query.clone(),
            origin: format!("http://{host}"),
            link: request.link_query(),
            page_entries,
        }
    }

    pub(super) fn selection(&self) -> PageSelection {
        let Query {
            sort, order, after, ..
        } = &self.query;
        PageSelection::new(*sort, *order, self.page_entries, after.as_deref())
    }

    pub(super) fn depth(&self) -> Depth {
        match self.query.sort {
            SortKey::Name | SortKey::Kind => Depth::Kind,
            SortKey::Size | SortKey::Time => Depth::Facts,
        }
    }

    pub(super) fn summarize(&self, selection: &mut PageSelection) -> (Vec<Ranked>, Summary) {
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

/// No name of a host is longer (RFC 1035 section 2.3.4), with a port.
const MAX_HOST_BYTES: usize = 255 + 6;
