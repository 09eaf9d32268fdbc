//! A directory as a page for people, as a JSON array, and as a JSON object a line.
//!
//! A listing is made while it is sent, in steps of bounded work and memory, however many names
//! the directory holds. The JSON forms follow the directory's own order. The page shows so many
//! entries in the order asked for, says how many there are, and links to the next ones.

use std::io;

use crate::http::policy::ListingPolicy;
use crate::http::{ContentKind, ListingFormat, Request};
use crate::sys::directory::{Directory, EntryFacts};

mod json;
mod order;
mod page;
mod scan;

use json::Json;
use page::Page;
use scan::Scan;

/// A listing on its way.
#[derive(Debug)]
pub(super) struct Listing {
    scan: Scan,
    form: Form,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Call again. A step may find nothing to write yet.
    More,
    /// The listing is whole.
    Done,
}

#[derive(Debug)]
enum Form {
    Page(Box<Page>),
    Json(Json),
}

/// Looks at what a link in the directory leads to, following it; `None` when that is outside the
/// root, absent, or neither a file nor a directory.
pub(super) type Follow<'a> = &'a dyn Fn(&[u8]) -> Option<EntryFacts>;

/// The form of the listing that a request asks for: by its query, else by `Accept`.
pub(super) fn format(request: &Request) -> ListingFormat {
    request.query.format.unwrap_or(request.accept.listing)
}

/// How the content of a listing is labelled.
pub(super) fn content_kind(format: ListingFormat) -> ContentKind {
    match format {
        ListingFormat::Html => ContentKind {
            content_type: "text/html; charset=utf-8",
            security_policy: Some(page::SECURITY_POLICY),
        },
        ListingFormat::Json => ContentKind {
            content_type: "application/json",
            security_policy: None,
        },
        ListingFormat::Ndjson => ContentKind {
            content_type: "application/x-ndjson",
            security_policy: None,
        },
    }
}

impl Listing {
    /// Begins the listing of the directory that `request` names.
    pub(super) fn new(directory: Directory, request: &Request, policy: ListingPolicy) -> Self {
        let scan = Scan::new(directory, request.query.filter.as_deref(), policy.dot_names);
        let form = match format(request) {
            ListingFormat::Html => Form::Page(Box::new(Page::new(request, policy.page_entries))),
            ListingFormat::Json => Form::Json(Json::array()),
            ListingFormat::Ndjson => Form::Json(Json::lines()),
        };
        Self { scan, form }
    }

    /// Does one step: looks at some entries, or appends about [`STEP_BYTES`] to `out`. May wait
    /// for a disk.
    ///
    /// # Errors
    /// Reading the directory failed. What was written is not the whole listing, and the
    /// connection must not end as if it were.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, follow: Follow<'_>) -> io::Result<Progress> {
        match &mut self.form {
            Form::Page(page) => page.fill(&mut self.scan, out, follow),
            Form::Json(json) => json.fill(&mut self.scan, out, follow),
        }
    }
}

/// How much a step appends before it ends. A step may exceed it by one entry.
pub(super) const STEP_BYTES: usize = 60 << 10;

/// How many entries a step looks at when it writes nothing.
const STEP_ENTRIES: usize = 2_000;

#[cfg(test)]
mod tests;
