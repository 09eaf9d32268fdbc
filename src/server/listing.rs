//! A directory as pages for people, as one page of HTML for programs, as a JSON array, and as a
//! JSON object a line.
//!
//! A listing is produced while it is sent, in steps of bounded work and memory, whatever the size
//! of the directory. The forms for programs hold all names in directory order. A page holds some
//! entries in the requested order, the total, and a link to the next page.

use std::io;
use std::sync::Arc;

use crate::http::policy::ListingPolicy;
use crate::http::{ContentKind, Explanation, ListingFormat, Query, Request, SortKey, SortOrder};
use crate::server::semaphore::Semaphore;

mod autoindex;
mod json;
mod order;
mod page;
mod scan;
mod step;
mod time;

use autoindex::Autoindex;
use json::Json;
use page::Page;
pub(super) use page::{ListedDirectory, ScanRegistry};
use scan::Scan;
pub(super) use scan::{NameSource, Visible};
use step::Follow;
pub(super) use step::{Followed, Memory, Progress, ScanNumber};

/// A listing on its way.
#[derive(Debug)]
pub(super) struct Listing {
    scan: Scan,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Page(Box<Page>),
    Autoindex(Autoindex),
    Json(Json),
}

/// Whether a listing in HTML comes in pages: for browsers, which name `text/html`, and for requests
/// with options of pages. Other programs would take the first page for the whole.
fn wants_pages(request: &Request) -> bool {
    let Query {
        format,
        sort,
        order,
        after,
        ..
    } = &request.query;
    request.accept.explanation == Explanation::Page
        || *format == Some(ListingFormat::Html)
        || after.is_some()
        || (*sort, *order) != (SortKey::default(), SortOrder::default())
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
    /// Begins the listing of what `request` names; `visible` says which names the requester may
    /// see, if not all. Names are in memory for as many pages at a time as `pages` permits. Pages
    /// of a directory share their scan by the registry.
    pub(super) fn new(
        source: NameSource,
        request: &Request,
        policy: ListingPolicy,
        (visible, pages): (Option<Visible>, Arc<Semaphore>),
        (directory, scans): (Option<&ListedDirectory<'_>>, &Arc<ScanRegistry>),
    ) -> Self {
        let filter = request.query.filter.as_deref();
        let scan = Scan::new(source, filter, policy.dot_names, visible);
        let form = match request.listing_format() {
            ListingFormat::Html if wants_pages(request) => {
                let shared = (directory, scans);
                let page = Page::new(request, policy.page_entries, pages, shared);
                Form::Page(Box::new(page))
            }
            ListingFormat::Html => Form::Autoindex(Autoindex::new(request)),
            ListingFormat::Json => Form::Json(Json::array()),
            ListingFormat::Ndjson => Form::Json(Json::lines()),
        };
        if !matches!(form, Form::Page(_)) {
            scans.count_own();
        }
        Self { scan, form }
    }

    /// Gives back memory for a peer that does not read.
    pub(super) fn give_back(&mut self) {
        if let Form::Page(page) = &mut self.form {
            page.give_back();
        }
    }

    /// Whether there is memory to release.
    pub(super) fn memory(&self) -> Memory {
        match &self.form {
            Form::Page(page) => page.memory(),
            Form::Autoindex(_) | Form::Json(_) => Memory::Little,
        }
    }

    /// The scan that this listing waits for with others.
    pub(super) fn awaited_scan(&self) -> Option<ScanNumber> {
        match &self.form {
            Form::Page(page) => page.awaited_scan(),
            Form::Autoindex(_) | Form::Json(_) => None,
        }
    }

    /// Whether a step has taken a scan further that is not at its end.
    pub(super) fn scan_is_under_way(&self) -> bool {
        match &self.form {
            Form::Page(page) => page.scan_is_under_way(),
            Form::Autoindex(_) | Form::Json(_) => false,
        }
    }

    /// Whether the last step found no permit to hold names in memory, so that the next one should
    /// be delayed.
    pub(super) fn take_turned_away(&mut self) -> bool {
        match &mut self.form {
            Form::Page(page) => page.take_turned_away(),
            Form::Autoindex(_) | Form::Json(_) => false,
        }
    }

    /// Does one step: looks at some entries, or appends about `step::STEP_BYTES` to `out`. May wait
    /// for a disk.
    ///
    /// # Errors
    /// Reading the directory failed. The bytes so far are not the whole listing, and the connection
    /// must not end as if they were.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, follow: Follow<'_>) -> io::Result<Progress> {
        match &mut self.form {
            Form::Page(page) => page.fill(&mut self.scan, out, follow),
            Form::Autoindex(index) => index.fill(&mut self.scan, out, follow),
            Form::Json(json) => json.fill(&mut self.scan, out, follow),
        }
    }
}

#[cfg(test)]
mod tests;
