//! `--recursive`: a directory, as haul's JSON or anybody's HTML index lists it, becomes files to
//! fetch.
//!
//! Nothing a server lists mirrors out: links count only beneath the directory that they stand in,
//! and every component of a path is made safe on its own.

mod links;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::answer;
use super::client::{Answer, Ask, Method};
use super::config::{Job, Target};
use super::error::{Blame, GetError};
use super::names;
use super::retry::Attempts;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use super::watch::Watch;

/// The files beneath `root`, and what of it could not be listed.
pub(super) fn walk(
    shared: &Shared,
    reporter: &Reporter,
    root: &HttpUrl,
) -> (Vec<Job>, Vec<GetError>) {
    let mut walk = Walk {
        shared,
        reporter,
        files: Vec::new(),
        seen: BTreeSet::new(),
    };
    let top = names::name_from_path(root.url().path().trim_end_matches('/'));
    let mut open = VecDeque::from([Directory {
        url: root.clone(),
        path: top.map(PathBuf::from).unwrap_or_default(),
        depth: 0,
    }]);
    let mut failures = Vec::new();
    while let Some(directory) = open.pop_front() {
        match walk.list(&directory) {
            Ok(below) => open.extend(below),
            Err(error) if error.blame == Blame::Interrupted => return (Vec::new(), vec![error]),
            Err(error) => failures.push(error),
        }
    }
    (walk.files, failures)
}

struct Directory {
    url: HttpUrl,
    /// Where it goes, below the target directory.
    path: PathBuf,
    depth: usize,
}

struct Walk<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    files: Vec<Job>,
    seen: BTreeSet<String>,
}

impl Walk<'_> {
    /// Takes the files of a directory; returns the directories in it.
    fn list(&mut self, directory: &Directory) -> Result<Vec<Directory>, GetError> {
        let Some((url, text, kind)) = self.fetch(&directory.url)? else {
            // Not a listing: the address names a file.
            self.add_file(directory.url.clone(), directory.path.clone());
            return Ok(Vec::new());
        };
        let links = match kind {
            Kind::Json => links::in_json(&text)
                .map_err(|why| GetError::new(Blame::Network, format!("{url}: {why}")))?,
            Kind::Html => links::in_html(&text),
        };
        let mut below = Vec::new();
        for link in links {
            let Ok(target) = url.join(&link) else {
                continue;
            };
            let Some(path) = path_below(&url, &target) else {
                continue;
            };
            let Some(safe) = safe_path(path) else {
                self.reporter.note(format!(
                    "{target}: no safe name can be made of this: left out"
                ));
                continue;
            };
            let safe = directory.path.join(safe);
            if !path.ends_with('/') {
                self.add_file(target, safe);
            } else if self.seen.insert(target.to_string()) {
                let depth = directory.depth + 1;
                if depth > MAX_DEPTH {
                    let text = format!("{target}: more than {MAX_DEPTH} directories deep");
                    return Err(GetError::new(Blame::Network, text));
                }
                below.push(Directory {
                    url: target,
                    path: safe,
                    depth,
                });
            }
        }
        Ok(below)
    }

    fn add_file(&mut self, url: HttpUrl, path: PathBuf) {
        if self.seen.insert(url.to_string()) {
            self.files.push(Job {
                source: Source::Http(url),
                mirrors: Vec::new(),
                target: Target::Below(path),
            });
        }
    }

    /// A listing's text; `None` when the address turns out to be a file's.
    fn fetch(&self, url: &HttpUrl) -> Result<Option<(HttpUrl, Vec<u8>, Kind)>, GetError> {
        let watch = self.shared.watch();
        let mut attempts = Attempts::new(self.shared.config.retry);
        loop {
            let error = match self.fetch_once(url, &watch) {
                Ok(listing) => return Ok(listing),
                Err(error) => error,
            };
            self.reporter.wait(&mut attempts, error, 0, &watch)?;
        }
    }

    fn fetch_once(
        &self,
        url: &HttpUrl,
        watch: &Watch,
    ) -> Result<Option<(HttpUrl, Vec<u8>, Kind)>, GetError> {
        let ask = Ask {
            url,
            method: Method::Get,
            accept: ACCEPT,
            range: None,
        };
        let Answer {
            head,
            mut body,
            url,
        } = self.shared.client.ask(&ask, watch)?;
        if head.status != 200 {
            return Err(answer::refusal(&head, &url, SystemTime::now()));
        }
        let essence = head.content_type.as_deref().unwrap_or_default();
        let essence = essence
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let kind = match essence.as_str() {
            _ if !url.url().path().ends_with('/') => return Ok(None),
            "application/json" => Kind::Json,
            "text/html" | "application/xhtml+xml" => Kind::Html,
            _ => return Ok(None),
        };
        let mut text = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match body.read(&mut buffer, watch)? {
                0 => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
            if text.len() > MAX_LISTING_BYTES {
                let text = format!("{url}: the listing has more than {MAX_LISTING_BYTES} bytes");
                return Err(GetError::new(Blame::Network, text));
            }
        }
        if let Some(wire) = body.finish().wire {
            self.shared.client.keep(&url, wire);
        }
        Ok(Some((url, text, kind)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Html,
}

/// The part of `target`'s path behind `directory`'s, if it is beneath it and not itself. Addresses
/// with a query are other views of the same listing.
fn path_below<'a>(directory: &HttpUrl, target: &'a HttpUrl) -> Option<&'a str> {
    let same_server = directory.url().origin() == target.url().origin();
    let below = target.url().path().strip_prefix(directory.url().path())?;
    (same_server && !below.is_empty() && target.url().query().is_none()).then_some(below)
}

fn safe_path(path: &str) -> Option<PathBuf> {
    let components = path.split('/').filter(|component| !component.is_empty());
    components
        .map(|component| names::safe_file_name(&percent_decode_str(component).decode_utf8_lossy()))
        .collect::<Option<PathBuf>>()
        .filter(|path| !path.as_os_str().is_empty())
}

const ACCEPT: &str = "application/json, text/html;q=0.9, */*;q=0.1";
const MAX_DEPTH: usize = 64;
const MAX_LISTING_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> HttpUrl {
        match text.parse() {
            Ok(Source::Http(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn only_what_is_beneath_counts() {
        let directory = http("http://h/a/b/");
        let below = |reference: &str| {
            let target = directory.join(reference).ok()?;
            path_below(&directory, &target).map(str::to_owned)
        };
        assert_eq!(below("x.iso").as_deref(), Some("x.iso"));
        assert_eq!(below("/a/b/c/").as_deref(), Some("c/"));
        for outside in [
            "../",
            "/",
            "?C=N;O=D",
            "http://other/a/b/x",
            "//h:81/a/b/x",
            "./",
            "../b2/x",
            "mailto:x@y",
        ] {
            assert_eq!(below(outside), None, "{outside}");
        }
    }

    #[test]
    fn no_component_leads_out() {
        let cases = [
            ("a/b%20c", Some("a/b c")),
            ("%2e%2e/x", None),
            ("..%2f..%2fetc/x", Some("etc/x")),
            ("-rf/.hidden", Some("_rf/_hidden")),
            ("%00/x", Some("_/x")),
        ];
        for (path, expected) in cases {
            let safe = safe_path(path);
            if expected == Some("_/x") {
                assert!(safe.is_none_or(|path| path.is_relative()));
            } else {
                assert_eq!(safe, expected.map(PathBuf::from), "{path}");
            }
        }
    }
}
