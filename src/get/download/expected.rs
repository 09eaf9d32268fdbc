//! The expected file of a download, by which responses and content are checked.

use std::fs::File;
use std::io::Seek;

use crate::get::client::Response;
use crate::get::config::{Job, Target};
use crate::get::destination;
use crate::get::error::{ErrorKind, GetError};
use crate::get::metalink;
use crate::get::shared::Reporter;
use crate::get::source::HttpUrl;
use crate::get::tree::links::is_listing;
use crate::http::client_response::Framing;

/// What is known of a file before its first response.
pub(super) struct Expected {
    /// The length that it must have.
    length: Option<u64>,
    /// Its length in a listing.
    listed_length: Option<u64>,
    /// A metalink stands for the files that it describes.
    follows_metalinks: bool,
    /// The user gave a name even to the page about a directory.
    takes_page: bool,
}

impl Expected {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            length: job.length,
            listed_length: job.known.map(|known| known.length),
            follows_metalinks: job.target == Target::Named,
            takes_page: matches!(job.target, Target::Path(_)),
        }
    }

    /// Whether the file has to have a certain length.
    pub(super) fn has_length(&self) -> bool {
        self.length.is_some()
    }

    /// Whether the response is a directory's or a metalink's instead of a file's; it comes from
    /// `url`.
    pub(super) fn other_kind(&self, url: &HttpUrl, response: &Response) -> Option<OtherKind> {
        if !self.takes_page && destination::is_directory(url, response) {
            return Some(OtherKind::Directory);
        }
        let is_metalink = response.head.media_type() == metalink::MEDIA_TYPE;
        (self.follows_metalinks && is_metalink).then_some(OtherKind::Metalink)
    }

    /// Checks that a response to a request for `asked` is of the file.
    pub(super) fn refuse(
        &self,
        asked: &HttpUrl,
        response: &Response,
        reporter: &Reporter,
    ) -> Result<(), GetError> {
        if let Framing::Length(found) = response.head.framing() {
            self.check_length(&response.url, found)?;
        }
        self.refuse_page(asked, response, reporter)
    }

    /// Whether a file of so many bytes may be the one.
    pub(super) fn check_length(&self, url: &HttpUrl, found: u64) -> Result<(), GetError> {
        match self.length {
            Some(expected) if expected != found => {
                let text = format!("{url}: it has {found} bytes, not {expected}");
                Err(GetError::new(ErrorKind::Verification, text))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a page in place of the file, as of a login or a captive portal. Without proof the
    /// user is warned.
    fn refuse_page(
        &self,
        asked: &HttpUrl,
        response: &Response,
        reporter: &Reporter,
    ) -> Result<(), GetError> {
        let name = |url: &HttpUrl| {
            let last = url.url().path().rsplit('/').next();
            last.unwrap_or_default().to_ascii_lowercase()
        };
        let (name, found) = (name(asked), name(&response.url));
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        let may_be_page = extension.is_none_or(|extension| PAGES.contains(&extension));
        if self.takes_page || may_be_page || response.head.media_type() != "text/html" {
            return Ok(());
        }
        let url = &response.url;
        match self.listed_length {
            Some(length) if response.head.framing() != Framing::Length(length) => {
                let text =
                    format!("{url}: a page came instead of the file of {length} B in the listing");
                return Err(GetError::passing(ErrorKind::Incomplete, text));
            }
            _ if name != found => reporter.note(format!(
                "{asked} leads to {url}, which is a page (text/html): look whether it is the file"
            )),
            _ => {}
        }
        Ok(())
    }

    /// Whether content is a page about a directory, from a server that gives it without a slash.
    pub(super) fn is_listing(&self, url: &HttpUrl, content_type: &str, mut file: &File) -> bool {
        let name = url.url().path().to_ascii_lowercase();
        let is_short = file
            .metadata()
            .is_ok_and(|file| file.len() <= MAX_LISTING_BYTES);
        let may_be = !self.takes_page
            && is_short
            && content_type.to_ascii_lowercase().starts_with("text/html")
            && ![".html", ".htm"].iter().any(|it| name.ends_with(it));
        may_be && file.rewind().is_ok() && is_listing(file)
    }
}

/// An address that leads to other files.
pub(super) enum OtherKind {
    Directory,
    Metalink,
}

/// Extensions of files that may be served as a page.
const PAGES: [&str; 10] = [
    "html", "htm", "shtml", "xhtml", "php", "asp", "aspx", "jsp", "cgi", "pl",
];
/// No page about a directory is taken for one beyond this.
const MAX_LISTING_BYTES: u64 = 64 << 20;
