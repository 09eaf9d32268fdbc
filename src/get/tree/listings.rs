//! Listings of servers: haul's JSON where the server has it, else HTML.

use std::sync::atomic::{AtomicBool, Ordering};

use super::beneath::signed_link_of;
use super::links::{self, Kind, Link, Traits};
use crate::get::document::{self, Document, Wanted};
use crate::get::error::{ErrorKind, GetError, Retry};
use crate::get::shared::{Reporter, Shared};
use crate::get::source::HttpUrl;

/// The listings of a run.
pub(super) struct Listings<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    /// The server ignored `?format=json`.
    without_json: AtomicBool,
}

impl<'a> Listings<'a> {
    pub(super) fn new(shared: &'a Shared, reporter: &'a Reporter) -> Self {
        Self {
            shared,
            reporter,
            without_json: AtomicBool::new(false),
        }
    }

    /// A listing; `None` when the address turns out to be a file's.
    pub(super) fn fetch(&self, url: &HttpUrl) -> Result<Option<(Document, Kind)>, GetError> {
        let is_directory = url.url().path().ends_with('/');
        if is_directory && !self.without_json.load(Ordering::Relaxed) {
            let query = match signed_link_of(url) {
                Some(link) => format!("{link}&{AS_JSON}"),
                None => AS_JSON.to_owned(),
            };
            match self.fetch_as(&url.with_query(Some(&query))) {
                // A server that ignores the query sends its only form.
                Ok(Some((document, kind))) => {
                    if kind != Kind::Json {
                        self.without_json.store(true, Ordering::Relaxed);
                    }
                    return Ok(Some((document, kind)));
                }
                Ok(None) => {}
                Err(error) if error.retry != Retry::Never => return Err(error),
                Err(_) => {}
            }
            self.without_json.store(true, Ordering::Relaxed);
        }
        let found = self.fetch_as(url)?;
        if found.is_none() && is_directory {
            let text = format!("{url}: neither a listing nor a page");
            return Err(GetError::new(ErrorKind::NotFound, text));
        }
        Ok(found)
    }

    fn fetch_as(&self, url: &HttpUrl) -> Result<Option<(Document, Kind)>, GetError> {
        let kind_of = |essence: &str, url: &HttpUrl| {
            match essence {
                "application/json" => Some(Kind::Json),
                "text/html" | "application/xhtml+xml" => Some(Kind::Html),
                "text/xml" | "application/xml" => Some(Kind::Xml),
                _ => None,
            }
            .filter(|_| url.url().path().ends_with('/'))
        };
        let wanted = Wanted {
            url,
            accept: ACCEPT,
            max_bytes: MAX_BYTES,
        };
        let mut document = document::fetch(self.shared, self.reporter, wanted, |head, url| {
            kind_of(&head.media_type(), url).is_some()
        })?;
        let kind = kind_of(&document.head.media_type(), &document.url);
        document.url = document
            .url
            .with_query(signed_link_of(&document.url).as_deref());
        Ok(kind.map(|kind| (document, kind)))
    }
}

/// Gives the links of a listing to `take`, until that is `false`.
///
/// # Errors
/// Network: it is no listing. Interrupted.
pub(super) fn read(
    shared: &Shared,
    document: &mut Document,
    kind: Kind,
    take: &mut dyn FnMut(&Traits, Link) -> bool,
) -> Result<Traits, GetError> {
    let url = document.url.clone();
    let mut goes_on = Ok(());
    let found = links::read(kind, document.rewind()?, &mut |traits, link| {
        // A listing of a gigabyte takes its time.
        goes_on = shared.check();
        goes_on.is_ok() && take(traits, link)
    });
    goes_on?;
    found.map_err(|why| GetError::new(ErrorKind::Network, format!("{url}: {why}")))
}

const MAX_BYTES: usize = 1 << 30;
const AS_JSON: &str = "format=json";
const ACCEPT: &str = "application/json, text/html;q=0.9, */*;q=0.1";
