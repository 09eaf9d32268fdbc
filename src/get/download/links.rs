//! A response's links to other addresses of its file, and its digest (RFC 6249).

use crate::digest::Checksum;
use crate::get::client::Response;
use crate::get::config::{Downgrade, Job};
use crate::get::error::GetError;
use crate::get::metalink;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::{HttpUrl, Source};
use crate::http::client_response::Framing;
use crate::http::link_field::{self, Link};

/// See [`find`].
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// The best first.
    pub(super) urls: Vec<HttpUrl>,
    pub(super) digest: Option<Checksum>,
}

/// The duplicates in a response's links, and those in the metalink that describes its file. A
/// metalink that cannot be fetched or used is reported.
///
/// # Errors
/// The user stops it.
pub(super) fn find(
    shared: &Shared,
    reporter: &Reporter,
    response: &Response,
) -> Result<Linked, GetError> {
    let mut links = link_field::parse(response.head.link.as_deref().unwrap_or_default());
    links.sort_by_key(|link| link.priority);
    let has = |link: &&Link, relation: &str| link.relations.iter().any(|it| it == relation);
    let mut found = Linked::default();
    let duplicates = links.iter().filter(|link| has(link, "duplicate"));
    found.urls = duplicates
        .filter_map(|link| response.url.join(&link.target).ok())
        .collect();
    let described = links.iter().find(|link| {
        has(link, "describedby") && link.media_type.as_deref() == Some(metalink::MEDIA_TYPE)
    });
    if let Some(url) = described.and_then(|link| response.url.join(&link.target).ok())
        && is_safe(shared, &response.url, &url)
    {
        match metalink::fetch(shared, reporter, &url) {
            Ok(jobs) => found.take(jobs, response),
            Err(error) if error.is_stop() => return Err(error),
            Err(error) => reporter.note(format!("{error}: it is left out")),
        }
    }
    found.urls.retain(|url| is_safe(shared, &response.url, url));
    Ok(found)
}

impl Linked {
    /// Takes a metalink's entry for the file of this length.
    fn take(&mut self, jobs: Vec<Job>, response: &Response) {
        let is_it = |job: &Job| {
            job.length
                .is_none_or(|length| response.head.framing() == Framing::Length(length))
        };
        let mut jobs = jobs.into_iter().filter(is_it);
        let (Some(job), None) = (jobs.next(), jobs.next()) else {
            return;
        };
        if let Source::Http(url) = job.source {
            self.urls.push(url);
        }
        self.urls.extend(job.mirrors);
        self.digest = job.checksums.into_iter().next();
    }
}

/// A link from https does not lead to http.
fn is_safe(shared: &Shared, from: &HttpUrl, to: &HttpUrl) -> bool {
    !from.is_secure() || to.is_secure() || shared.config.downgrade == Downgrade::Allowed
}
