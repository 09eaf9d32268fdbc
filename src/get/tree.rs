//! `--recursive`: a directory, as a listing in JSON, XML or HTML shows it, becomes files to fetch.
//!
//! No listed link leads out: links count only beneath their directory, and each component of a path
//! is mapped to a local name by itself. Every directory is listed once, and no two names of the
//! server map to one local name.

mod beneath;
pub(crate) mod links;
mod listings;
mod seen;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{Job, Known, Target};
use super::destination;
use super::document::Document;
use super::error::{ErrorKind, GetError};
use super::names;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use beneath::{below, leads_elsewhere, leads_up, local_names};
use links::{Kind, Link, Traits};
use listings::Listings;
use seen::{Seen, Taken};

/// A file or directory that a walk finds.
pub(super) enum Found {
    File(Job),
    /// Something that cannot be had.
    Failed(GetError),
}

/// Takes what was found; `false` ends the walk.
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
    listings: Listings<'a>,
    seen: Seen,
}

/// A directory to be listed.
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
    /// A file to be compared by its metadata, since the listing gives none.
    sample: Option<String>,
    has_files: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(shared: &'a Shared, reporter: &'a Reporter) -> Self {
        Self {
            shared,
            reporter,
            listings: Listings::new(shared, reporter),
            seen: Seen::default(),
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

    /// The first directory of a walk, unless it is filtered out or was found before.
    fn first(&self, root: Root) -> Result<Option<Directory>, GetError> {
        let Root {
            url,
            path,
            root_components,
        } = root;
        let Some(path) = path else {
            let last = url.components().filter(|it| !it.is_empty()).last();
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
        if self.seen.was_listed(&url) {
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

    /// Whether a directory at this depth is to be listed.
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

    /// Passes a directory's files to `sink` and its directories to `open`; returns whether to
    /// continue.
    fn list(
        &self,
        directory: &Directory,
        open: &mut Vec<Directory>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, GetError> {
        let Some((mut document, kind)) = self.listings.fetch(&directory.url)? else {
            // Not a listing: the address names a file.
            let file = self.file(directory, &directory.url, directory.path.clone());
            return Ok(file.is_none_or(sink));
        };
        self.seen.note_listed(&document.url);
        let mut survey = Survey::default();
        let traits = self.survey(&mut document, kind, &mut survey)?;
        if let Some(same) = self.same_above(directory, &document.url, &survey.contents) {
            self.reporter
                .note(format!("{}: a link to {same}, left out", directory.url));
            return Ok(true);
        }
        let is_page = kind == Kind::Html && !traits.is_titled && !survey.leads_up;
        if survey.contents.entries == 0 {
            let is_made_by_scripts = traits.has_scripts && !(traits.is_titled && survey.leads_up);
            if is_page || is_made_by_scripts || leads_elsewhere(&document.url, &traits) {
                let text = format!("{}: a page without links to files below it", document.url);
                return Err(GetError::new(ErrorKind::NotFound, text));
            }
            self.reporter
                .note(format!("{}: nothing in it", document.url));
        }
        let page_file = is_page.then(|| directory.path.join("index.html"));
        if let Some(path) = page_file.clone() {
            self.reporter.note(format!(
                "{}: a page, not a listing: it and what it links to is fetched",
                document.url
            ));
            if let Some(file) = self.file(directory, &document.url, path)
                && !sink(file)
            {
                return Ok(false);
            }
        }
        let level = Arc::new(Level {
            url: document.url.clone(),
            contents: survey.contents,
            above: directory.above.clone(),
        });
        let base = document.url.clone();
        let mut wants_more = true;
        let first = open.len();
        listings::read(self.shared, &mut document, kind, &mut |traits, link| {
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

    /// The local path of a link's file or directory, if the filter admits it.
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
    ///
    /// # Errors
    /// LocalFile: its name is taken. Network, once: there are too many.
    fn enters(&self, url: &HttpUrl, path: &Path, link: &Link) -> Result<bool, GetError> {
        // Directories wait in memory until their turn.
        if self.seen.directories() > MAX_DIRECTORIES {
            return Ok(false);
        }
        if let Some(identity) = &link.identity
            && !self.seen.is_first(url, identity)
        {
            self.reporter.note(format!(
                "{url}: the same directory as another one, left out"
            ));
            return Ok(false);
        }
        if matches!(self.seen.take(path, url)?, Taken::Again) {
            return Ok(false);
        }
        match self.seen.count_directory() {
            0..=MAX_DIRECTORIES => Ok(true),
            _ => {
                let text = format!("{url}: more than {MAX_DIRECTORIES} directories");
                Err(GetError::new(ErrorKind::Network, text))
            }
        }
    }

    /// The file at `url`, which no listing describes, unless it was found before.
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
        match self.seen.take(&path, url) {
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
            // Directories without files are weak evidence: more of them are needed.
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

    /// The size and time of a file, which identify its version.
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

    /// Parses all entries before any is used: a page that is no listing has none.
    fn survey(
        &self,
        document: &mut Document,
        kind: Kind,
        survey: &mut Survey,
    ) -> Result<Traits, GetError> {
        let base = document.url.clone();
        listings::read(self.shared, document, kind, &mut |traits, link| {
            let Some((url, components)) = below(&base, traits, &link) else {
                survey.leads_up |= leads_up(&base, &link.reference);
                return true;
            };
            let is_directory = url.url().path().ends_with('/');
            let contents = &mut survey.contents;
            contents.entries += 1;
            let modified = link.modified.filter(|_| !is_directory);
            // The order of a listing is the server's affair.
            let hash = self
                .seen
                .hash(&(&components, link.length, modified, is_directory));
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

const MAX_DEPTH: usize = 64;
const MAX_DIRECTORIES: usize = 100_000;
