//! `--recursive`: a directory, as a listing in JSON, XML or HTML shows it, becomes files to fetch.
//!
//! No listed link leads out: links count only beneath the directory that they stand in,
//! and every component of a path is made a name here on its own. Every directory is listed once,
//! and no two names of the server become one here.

pub(crate) mod links;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::config::{Job, Known, Target};
use super::destination;
use super::error::{ErrorKind, GetError, Retry};
use super::names;
use super::page::{self, Page};
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use crate::signed_link::Presented;
use links::{Kind, Link, Traits};

/// A file or directory that a walk finds.
pub(super) enum Found {
    File(Job),
    /// Something that cannot be had.
    Failed(GetError),
}

/// Takes what is found; `false` ends the walk.
pub(super) type Sink<'a> = dyn FnMut(Found) -> bool + 'a;

/// Where a walk begins.
pub(super) struct Root {
    url: HttpUrl,
    /// Where it goes, for a directory that an address turned out to be on another walk.
    path: Option<PathBuf>,
    /// How many components of `path` are the name of that walk's root.
    root_components: usize,
}

impl Root {
    pub(super) fn new(url: HttpUrl) -> Self {
        Self {
            url,
            path: None,
            root_components: 0,
        }
    }

    /// The directory at `url` that the file of `job` turned out to be.
    pub(super) fn found(url: HttpUrl, job: &Job) -> Self {
        let path = match &job.target {
            Target::Below(path) => Some(path.clone()),
            _ => None,
        };
        Self {
            url,
            path,
            root_components: job.root_components,
        }
    }
}

/// All walks of a run.
pub(super) struct Tree<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    seen: Mutex<Seen>,
    /// Hashes stand for names and addresses: a million of them have to fit into memory.
    hashes: RandomState,
    /// The server did not know `?format=json`.
    without_json: AtomicBool,
}

#[derive(Default)]
struct Seen {
    /// The local paths that are taken, each with the address that took it.
    paths: HashMap<u64, u64>,
    /// The identities of directories that were found.
    identities: HashSet<u64>,
    /// The addresses of directories that were listed.
    addresses: HashSet<u64>,
    directories: usize,
}

/// A directory that is to be listed.
struct Directory {
    url: HttpUrl,
    /// Where it goes, below the target directory.
    path: PathBuf,
    /// Its path below the root of the walk.
    below: PathBuf,
    depth: usize,
    root_components: usize,
    above: Option<Arc<Level>>,
}

/// A directory and those that it was reached through.
struct Level {
    url: HttpUrl,
    contents: Contents,
    above: Option<Arc<Self>>,
}

/// The signs that two directories are one.
#[derive(Default, PartialEq, Eq)]
struct Contents {
    entries: u64,
    hash: u64,
    /// A file whose metadata tell, where the listing does not have them.
    sample: Option<String>,
    has_files: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(shared: &'a Shared, reporter: &'a Reporter) -> Self {
        Self {
            shared,
            reporter,
            seen: Mutex::default(),
            hashes: RandomState::new(),
            without_json: AtomicBool::new(false),
        }
    }

    /// Gives all files beneath `root` to `sink`, which go below its path, or below the directory's
    /// own name.
    pub(super) fn walk(&self, root: Root, sink: &mut Sink<'_>) {
        let mut open = Vec::new();
        match self.first(root) {
            Ok(directory) => open.extend(directory),
            Err(error) => {
                sink(Found::Failed(error));
            }
        }
        while let Some(directory) = open.pop() {
            let end = match self.list(&directory, &mut open, sink) {
                Ok(wants_more) => !wants_more,
                Err(error) => {
                    let stops = error.is_stop();
                    !sink(Found::Failed(error)) || stops
                }
            };
            if end {
                return;
            }
        }
    }

    /// The directory that a walk begins with, unless it is not wanted or was found before.
    fn first(&self, root: Root) -> Result<Option<Directory>, GetError> {
        let Root {
            url,
            path,
            root_components,
        } = root;
        let Some(path) = path else {
            let last = page::components(&url).filter(|it| !it.is_empty()).last();
            let own = last.and_then(|name| names::local_name(&name));
            let path = own.map(PathBuf::from).unwrap_or_default();
            return Ok(Some(Directory {
                url,
                below: PathBuf::new(),
                root_components: path.components().count(),
                path,
                depth: 0,
                above: None,
            }));
        };
        let below: PathBuf = path.components().skip(root_components).collect();
        let depth = below.components().count();
        if self.seen().addresses.contains(&self.address(&url)) {
            self.reporter.note(format!(
                "{url}: the same directory as another one, left out"
            ));
            return Ok(None);
        }
        let is_wanted = depth == 0 || self.shared.config.filter.wants_directory(&below);
        if !is_wanted || !self.reaches(&url, depth)? {
            return Ok(None);
        }
        Ok(Some(Directory {
            url,
            path,
            below,
            depth,
            root_components,
            above: None,
        }))
    }

    /// Whether a directory as deep as this is to be listed.
    fn reaches(&self, url: &HttpUrl, depth: usize) -> Result<bool, GetError> {
        match self.shared.config.depth {
            Some(deepest) if depth > deepest => {
                self.reporter
                    .note(format!("{url}: deeper than --depth {deepest}, left out"));
                Ok(false)
            }
            None if depth > MAX_DEPTH => {
                let text = format!("{url}: more than {MAX_DEPTH} directories deep");
                Err(GetError::new(ErrorKind::Network, text))
            }
            _ => Ok(true),
        }
    }

    fn address(&self, url: &HttpUrl) -> u64 {
        let components: Vec<_> = page::components(url).collect();
        self.hash(&(url.url().origin(), components))
    }

    /// Gives a directory's files to `sink` and its directories to `open`; says whether to go on.
    fn list(
        &self,
        directory: &Directory,
        open: &mut Vec<Directory>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, GetError> {
        {
            let mut seen = self.seen();
            seen.directories += 1;
            if seen.directories > MAX_DIRECTORIES {
                let text = format!("{}: more than {MAX_DIRECTORIES} directories", directory.url);
                return Err(GetError::new(ErrorKind::Network, text));
            }
        }
        let Some((mut page, kind)) = self.fetch(&directory.url)? else {
            // Not a listing: the address names a file.
            let file = self.file(directory, &directory.url, directory.path.clone());
            return Ok(file.is_none_or(sink));
        };
        let address = self.address(&page.url);
        self.seen().addresses.insert(address);
        let mut survey = Survey::default();
        let traits = self.survey(&mut page, kind, &mut survey)?;
        if let Some(same) = self.same_above(directory, &page.url, &survey.contents) {
            self.reporter
                .note(format!("{}: a link to {same}, left out", directory.url));
            return Ok(true);
        }
        let is_page = kind == Kind::Html && !traits.is_titled && !survey.leads_up;
        if survey.contents.entries == 0 {
            let is_made_by_scripts = traits.has_scripts && !(traits.is_titled && survey.leads_up);
            if is_page || is_made_by_scripts || leads_elsewhere(&page.url, &traits) {
                let text = format!("{}: a page without links to files below it", page.url);
                return Err(GetError::new(ErrorKind::NotFound, text));
            }
            self.reporter.note(format!("{}: nothing in it", page.url));
        }
        let page_file = is_page.then(|| directory.path.join("index.html"));
        if let Some(path) = page_file.clone() {
            self.reporter.note(format!(
                "{}: a page, not a listing: it and what it links to is fetched",
                page.url
            ));
            if let Some(file) = self.file(directory, &page.url, path)
                && !sink(file)
            {
                return Ok(false);
            }
        }
        let level = Arc::new(Level {
            url: page.url.clone(),
            contents: survey.contents,
            above: directory.above.clone(),
        });
        let base = page.url.clone();
        let mut wants_more = true;
        let first = open.len();
        self.read(&mut page, kind, &mut |traits, link| {
            let Some((url, components)) = below(&base, traits, &link) else {
                return true;
            };
            if link.leads_out {
                let note = format!("{url}: a link that leads out of what is served, left out");
                self.reporter.note(note);
                return true;
            }
            let found = self.place(directory, &url, &components);
            wants_more = match found {
                Place::Nowhere => true,
                Place::File(path) if page_file.as_ref() == Some(&path) => true,
                Place::File(path) => self
                    .listed(directory, &url, path, &link)
                    .is_none_or(&mut *sink),
                Place::Directory(path, below) => match self.enters(&url, &path, &link) {
                    Ok(true) => {
                        open.push(Directory {
                            url,
                            path,
                            below,
                            depth: directory.depth + 1,
                            root_components: directory.root_components,
                            above: Some(Arc::clone(&level)),
                        });
                        true
                    }
                    Ok(false) => true,
                    Err(error) => sink(Found::Failed(error)),
                },
                Place::TooDeep(error) => sink(Found::Failed(error)),
            };
            wants_more
        })?;
        open[first..].reverse();
        Ok(wants_more)
    }

    /// Where a link's file or directory goes, if it is wanted.
    fn place(&self, directory: &Directory, url: &HttpUrl, components: &[Vec<u8>]) -> Place {
        let Some(names) = local_names(components) else {
            return Place::Nowhere;
        };
        let (path, below) = (directory.path.join(&names), directory.below.join(&names));
        let filter = &self.shared.config.filter;
        let is_directory = url.url().path().ends_with('/');
        let wanted = match is_directory {
            true => filter.wants_directory(&below),
            false => filter.wants_file(&below),
        };
        if !wanted {
            return Place::Nowhere;
        }
        let mut pairs = components.iter().zip(names.iter());
        if pairs.any(|(theirs, ours)| ours.as_bytes() != theirs) {
            let path = path.display();
            self.reporter.note(format!("{url}: here it is {path}"));
        }
        if !is_directory {
            return Place::File(path);
        }
        match self.reaches(url, directory.depth + 1) {
            Ok(true) => Place::Directory(path, below),
            Ok(false) => Place::Nowhere,
            Err(error) => Place::TooDeep(error),
        }
    }

    /// Whether a directory was not found before, under this or another address.
    fn enters(&self, url: &HttpUrl, path: &Path, link: &Link) -> Result<bool, GetError> {
        let identity = link.identity.as_ref();
        let identity = identity.map(|id| self.hash(&(url.url().origin(), id)));
        if identity.is_some_and(|identity| !self.seen().identities.insert(identity)) {
            self.reporter.note(format!(
                "{url}: the same directory as another one, left out"
            ));
            return Ok(false);
        }
        Ok(matches!(self.take(path, url)?, Taken::First))
    }

    /// The file at `url`, of which no listing tells, unless it was found before.
    fn file(&self, directory: &Directory, url: &HttpUrl, path: PathBuf) -> Option<Found> {
        self.listed(directory, url, path, &Link::default())
    }

    /// The file at `url`, unless it was found before.
    fn listed(
        &self,
        directory: &Directory,
        url: &HttpUrl,
        path: PathBuf,
        link: &Link,
    ) -> Option<Found> {
        match self.take(&path, url) {
            Ok(Taken::First) => {}
            Ok(Taken::Again) => return None,
            Err(error) => return Some(Found::Failed(error)),
        }
        let known = link.length.zip(link.modified);
        Some(Found::File(Job {
            known: known.map(|(length, modified)| Known { length, modified }),
            root_components: directory.root_components,
            ..Job::new(Source::Http(url.clone()), Target::Below(path))
        }))
    }

    fn take(&self, path: &Path, url: &HttpUrl) -> Result<Taken, GetError> {
        let address = self.address(url);
        match self.seen().paths.entry(self.hash(path)) {
            Entry::Vacant(free) => {
                free.insert(address);
                Ok(Taken::First)
            }
            Entry::Occupied(taken) if *taken.get() == address => Ok(Taken::Again),
            Entry::Occupied(_) => {
                let path = path.display();
                let text = format!("{url}: another name of the server is {path} here: left out");
                Err(GetError::new(ErrorKind::LocalFile, text))
            }
        }
    }

    /// The directory above that this one is a link to.
    fn same_above(
        &self,
        directory: &Directory,
        url: &HttpUrl,
        contents: &Contents,
    ) -> Option<HttpUrl> {
        let levels = std::iter::successors(directory.above.as_deref(), |it| it.above.as_deref());
        let mut same = levels.filter(|level| level.contents == *contents);
        let level = same.next().filter(|_| contents.entries > 0)?;
        let is_same = match &contents.sample {
            // Directories in directories tell little: it takes more of them.
            None if !contents.has_files => same.next().is_some(),
            None => true,
            Some(sample) => {
                let (here, there) = (url.join(sample).ok()?, level.url.join(sample).ok()?);
                let (here, there) = (self.metadata(&here)?, self.metadata(&there)?);
                here == there
            }
        };
        is_same.then(|| level.url.clone())
    }

    /// The size and time of a file, which tell it from another one.
    fn metadata(&self, url: &HttpUrl) -> Option<(Option<u64>, Option<String>, Option<String>)> {
        let head = destination::head(self.shared, self.reporter, url);
        let head = head.ok()?;
        let last_modified = head.last_modified.map(|it| format!("{it:?}"));
        Some((
            head.content_length,
            head.etag.map(|it| format!("{it:?}")),
            last_modified,
        ))
    }

    /// Looks at all entries before any is used: what is no listing has none.
    fn survey(&self, page: &mut Page, kind: Kind, survey: &mut Survey) -> Result<Traits, GetError> {
        let base = page.url.clone();
        self.read(page, kind, &mut |traits, link| {
            let Some((url, components)) = below(&base, traits, &link) else {
                survey.leads_up |= leads_up(&base, &link.reference);
                return true;
            };
            let is_directory = url.url().path().ends_with('/');
            let contents = &mut survey.contents;
            contents.entries += 1;
            let modified = link.modified.filter(|_| !is_directory);
            // The order of a listing is the server's affair.
            let hash = self.hash(&(&components, link.length, modified, is_directory));
            contents.hash = contents.hash.wrapping_add(hash);
            contents.has_files |= !is_directory;
            if !is_directory
                && link.length.zip(link.modified).is_none()
                && contents.sample.is_none()
            {
                contents.sample = Some(link.reference);
            }
            true
        })
    }

    fn read(
        &self,
        page: &mut Page,
        kind: Kind,
        take: &mut dyn FnMut(&Traits, Link) -> bool,
    ) -> Result<Traits, GetError> {
        let url = page.url.clone();
        links::read(kind, page.rewind()?, take)
            .map_err(|why| GetError::new(ErrorKind::Network, format!("{url}: {why}")))
    }

    /// A listing; `None` when the address turns out to be a file's.
    fn fetch(&self, url: &HttpUrl) -> Result<Option<(Page, Kind)>, GetError> {
        let is_directory = url.url().path().ends_with('/');
        if is_directory && !self.without_json.load(Ordering::Relaxed) {
            let query = match signed_link_of(url) {
                Some(link) => format!("{link}&{AS_JSON}"),
                None => AS_JSON.to_owned(),
            };
            match self.fetch_as(&url.with_query(Some(&query))) {
                // A server that knows nothing of the query gives what it has.
                Ok(Some((page, kind))) => {
                    if kind != Kind::Json {
                        self.without_json.store(true, Ordering::Relaxed);
                    }
                    return Ok(Some((page, kind)));
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

    fn fetch_as(&self, url: &HttpUrl) -> Result<Option<(Page, Kind)>, GetError> {
        let kind_of = |essence: &str, url: &HttpUrl| {
            match essence {
                "application/json" => Some(Kind::Json),
                "text/html" | "application/xhtml+xml" => Some(Kind::Html),
                "text/xml" | "application/xml" => Some(Kind::Xml),
                _ => None,
            }
            .filter(|_| url.url().path().ends_with('/'))
        };
        let mut page = page::fetch(self.shared, self.reporter, (url, ACCEPT), |head, url| {
            kind_of(&page::essence(head), url).is_some()
        })?;
        let kind = kind_of(&page::essence(&page.head), &page.url);
        page.url = page.url.with_query(signed_link_of(&page.url).as_deref());
        Ok(kind.map(|kind| (page, kind)))
    }

    fn hash<T: std::hash::Hash + ?Sized>(&self, value: &T) -> u64 {
        self.hashes.hash_one(value)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address has come before.
enum Taken {
    First,
    Again,
}

/// The treatment of a link.
enum Place {
    Nowhere,
    File(PathBuf),
    /// Where it goes, and its path below the root.
    Directory(PathBuf, PathBuf),
    TooDeep(GetError),
}

#[derive(Default)]
struct Survey {
    contents: Contents,
    /// There is a link to the directory above, or to another order of this one.
    leads_up: bool,
}

/// The address that a link of `directory`'s listing means, and its path's components below that
/// one's, if it is beneath it and not itself. Addresses with a query are other views of the same.
fn below(directory: &HttpUrl, traits: &Traits, link: &Link) -> Option<(HttpUrl, Vec<Vec<u8>>)> {
    let base = match &traits.base {
        Some(base) => &directory.join(base).ok()?,
        None => directory,
    };
    let mut url = base.join(&link.reference).ok()?;
    if url.url().origin() != directory.url().origin() {
        return None;
    }
    match (url.url().query(), directory.url().query()) {
        // The link that opened the directory opens the entries beneath it.
        (None, Some(link)) => url = url.with_query(Some(link)),
        (query, link) if query == link => {}
        _ => return None,
    }
    let mut components = page::components(&url);
    for above in page::components(directory) {
        // The directory's last component is the empty one behind its slash.
        if !above.is_empty() && components.next()? != above {
            return None;
        }
    }
    let components: Vec<_> = components
        .filter(|component| !component.is_empty())
        .collect();
    (!components.is_empty()).then_some((url, components))
}

/// The query of an address whose signature opens what lies beneath it as well.
fn signed_link_of(url: &HttpUrl) -> Option<String> {
    let link = Presented::parse(url.url().query()?.as_bytes())?.ok()?;
    link.depth.map(|_| link.to_string())
}

fn leads_up(directory: &HttpUrl, reference: &str) -> bool {
    let Ok(url) = directory.join(reference) else {
        return false;
    };
    let (here, there) = (directory.url().path(), url.url().path());
    (url.url().query().is_some() && here == there)
        || (here != there && there.ends_with('/') && here.starts_with(there))
}

/// The listing's `<base>` is on another server: none of its links count.
fn leads_elsewhere(directory: &HttpUrl, traits: &Traits) -> bool {
    traits.base.as_ref().is_some_and(|base| {
        let base = directory.join(base);
        base.map_or(true, |base| base.url().origin() != directory.url().origin())
    })
}

fn local_names(components: &[Vec<u8>]) -> Option<PathBuf> {
    let names = components.iter().map(|it| names::local_name(it));
    names
        .collect::<Option<Vec<OsString>>>()
        .map(PathBuf::from_iter)
}

const AS_JSON: &str = "format=json";
const ACCEPT: &str = "application/json, text/html;q=0.9, */*;q=0.1";
const MAX_DEPTH: usize = 64;
const MAX_DIRECTORIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> HttpUrl {
        match text.parse() {
            Ok(Source::Http(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn place(directory: &str, reference: &str) -> Option<PathBuf> {
        let link = Link {
            reference: reference.to_owned(),
            ..Link::default()
        };
        let (_, components) = below(&http(directory), &Traits::default(), &link)?;
        local_names(&components)
    }

    #[test]
    fn only_what_is_beneath_counts() {
        let expected = [
            ("x.iso", "x.iso"),
            ("/a/b/c/", "c"),
            ("/%61/b/c", "c"),
            ("//h/a/b/c", "c"),
        ];
        for (reference, path) in expected {
            assert_eq!(place("http://h/a/b/", reference), Some(path.into()));
        }
        assert_eq!(place("http://h/~u/", "/%7Eu/x"), Some("x".into()));
        for outside in [
            "../",
            "/",
            "?C=N;O=D",
            "http://other/a/b/x",
            "//h:81/a/b/x",
            "./",
            "../b2/x",
            "mailto:x@y",
            "%2e%2e/x",
        ] {
            assert_eq!(place("http://h/a/b/", outside), None, "{outside}");
        }
    }

    #[test]
    fn no_component_leads_out() {
        for (reference, path) in [
            ("a/b%20c", "a/b c"),
            ("..%2f..%2fetc/x", "..%2F..%2Fetc/x"),
            ("./-rf/.hidden", "-rf/.hidden"),
            ("%00/x", "%00/x"),
        ] {
            assert_eq!(
                place("http://h/", reference),
                Some(path.into()),
                "{reference}"
            );
        }
    }
}
