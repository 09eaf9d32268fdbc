//! The destination of a file, whether it has to be fetched, and its checksums.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::http::client_response::Head;

use super::checksum;
use super::client::refusal;
use super::client::{Method, Request, Response};
use super::config::{Existing, Job, Known, Naming, Target};
use super::error::{ErrorKind, GetError, Retry};
use super::names;
use super::part_file;
use super::shared::attempts::Attempts;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use crate::digest::{Algorithm, Checksum};
use crate::sys::process::effective_user;

/// Where the bytes go.
pub(super) enum Destination {
    Stream,
    /// A device or FIFO: written to, never renamed over.
    Device(PathBuf),
    File(PathBuf),
}

/// Decides where the file of `job` goes.
pub(super) fn choose(
    shared: &Shared,
    reporter: &Reporter,
    job: &Job,
) -> Result<Destination, GetError> {
    let relative = match &job.target {
        Target::Stream => return Ok(Destination::Stream),
        Target::Path(path) | Target::Below(path) => path.clone(),
        Target::Named => PathBuf::from(server_name(shared, reporter, &job.source)?),
    };
    // Names without "./" are easier to read.
    let here = shared.config.directory == Path::new(".");
    let path = if here {
        relative
    } else {
        shared.config.directory.join(relative)
    };
    let special = path.metadata().is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_char_device() || kind.is_block_device() || kind.is_fifo()
    });
    match &job.target {
        // A name from a server is never taken for a device.
        Target::Path(_) if special => Ok(Destination::Device(path)),
        Target::Path(_) => Ok(match behind_links(path.clone()) {
            Some(path) if is_descriptor(&path) => Destination::Device(path),
            Some(behind) if shared.config.existing.replaces() => Destination::File(behind),
            _ => Destination::File(path),
        }),
        _ => Ok(Destination::File(path)),
    }
}

/// The final target of a symbolic link of the user or of the system.
fn behind_links(mut path: PathBuf) -> Option<PathBuf> {
    for _ in 0..MAX_LINKS {
        let is_descriptor = is_descriptor(&path);
        match path.symlink_metadata() {
            Ok(found) if found.is_symlink() && !is_descriptor => {
                if ![0, effective_user()].contains(&found.uid()) {
                    return None;
                }
                path = path.parent()?.join(path.read_link().ok()?);
            }
            _ => return Some(path),
        }
    }
    None
}

/// A name of an open file, as `/proc/self/fd/3`.
fn is_descriptor(path: &Path) -> bool {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    parent.is_some_and(|parent| parent.starts_with("/proc"))
}

fn server_name(shared: &Shared, reporter: &Reporter, source: &Source) -> Result<String, GetError> {
    let (path, url) = match source {
        Source::Name(url) => (
            String::from_utf8_lossy(&url.name).into_owned(),
            url.to_string(),
        ),
        Source::Http(url) => {
            if shared.config.naming == Naming::Remote
                && let Some(name) = remote_name(shared, reporter, url)?
            {
                return Ok(name);
            }
            (url.url().path().to_owned(), url.to_string())
        }
    };
    let name = match source {
        Source::Name(_) => names::safe_file_name(&path),
        Source::Http(_) => names::name_from_path(&path),
    };
    name.ok_or_else(|| {
        let text = format!("{url} names no file: give -o FILE, or --recursive for a directory");
        GetError::new(ErrorKind::Usage, text)
    })
}

/// The name in `Content-Disposition`. A separate HEAD request gets it, so that the part file of an
/// earlier run under that name is found.
fn remote_name(
    shared: &Shared,
    reporter: &Reporter,
    url: &HttpUrl,
) -> Result<Option<String>, GetError> {
    let head = head(shared, reporter, url)?;
    let disposition = head.content_disposition.as_deref();
    Ok(disposition.and_then(names::name_from_disposition))
}

/// The head of the answer to HEAD, or to GET where the server refuses HEAD.
pub(super) fn head(shared: &Shared, reporter: &Reporter, url: &HttpUrl) -> Result<Head, GetError> {
    let mut attempts = Attempts::new(shared.config.retry);
    let cancellation = shared.cancellation();
    let mut method = Method::Head;
    loop {
        let request = Request {
            url,
            method,
            accept: "*/*",
            range: None,
        };
        let error = match shared.client.send(&request, &cancellation) {
            Ok(response) => {
                let url = response.url.clone();
                let head = shared.client.release(response);
                if matches!(head.status, 200 | 203) {
                    return Ok(head);
                }
                let error = refusal::of_response(&head, &url, SystemTime::now());
                // An address may be signed for GET alone, or the server may not implement HEAD.
                if method == Method::Head && error.retry == Retry::Never {
                    method = Method::Get;
                    continue;
                }
                error
            }
            Err(error) => error,
        };
        reporter.wait(&mut attempts, error, 0, &cancellation)?;
        // Some servers close the connection at HEAD.
        method = Method::Get;
    }
}

/// Whether the address of a file led to a directory's: with a slash more, or to a page.
pub(super) fn is_directory(asked: &HttpUrl, response: &Response) -> bool {
    let (asked, found) = (asked.url().path(), response.url.url().path());
    let is_page = response.head.content_type.as_deref().is_some_and(|it| {
        let it = it.to_ascii_lowercase();
        it.starts_with("text/html") || it.starts_with("application/xhtml")
    });
    !asked.ends_with('/')
        && found.ends_with('/')
        && (is_page || found.trim_end_matches('/') == asked)
}

/// The state of a file that may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Needed,
    Same,
}

/// Looks for a file at `target`.
///
/// # Errors
/// LocalFile: it exists, and may not be replaced.
pub(super) fn look(
    shared: &Shared,
    reporter: &Reporter,
    job: &Job,
    target: &Path,
) -> Result<Standing, GetError> {
    let found = match target.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_names(target).map(|()| Standing::Needed);
        }
        Err(error) => return Err(GetError::local("look at", target, &error)),
    };
    // A file that was moved to another place, with a link to it left here, is still that file.
    let file = target.metadata().ok().filter(Metadata::is_file);
    let replaceable = match (shared.config.existing, &job.source) {
        (Existing::Skip | Existing::Update, Source::Http(url)) if file.is_some() => {
            let theirs = match job.known {
                Some(known) => Some(known),
                None => known(&head(shared, reporter, url)?),
            };
            if let (Some(ours), Some(theirs)) = (&file, theirs)
                && is_same(ours, theirs)
            {
                return Ok(Standing::Same);
            }
            if shared.config.existing == Existing::Skip {
                let why = match theirs {
                    Some(_) => "its size or time is not the server's",
                    None => "the server does not say both its size and its time",
                };
                return Err(part_file::refuse_existing(target).and(why));
            }
            true
        }
        (existing, _) => existing.replaces(),
    };
    if !replaceable || found.is_dir() {
        return Err(part_file::refuse_existing(target));
    }
    part_file::refuse_unfinished(target).map(|()| Standing::Needed)
}

/// Refuses a name that is too long for the file system, while the directory is not made: the end of
/// the download would find it.
fn check_names(target: &Path) -> Result<(), GetError> {
    let made = target.ancestors().skip(1).find(|above| above.is_dir());
    let made = made.unwrap_or_else(|| Path::new(""));
    let names = target.strip_prefix(made).unwrap_or(target);
    for name in names {
        match made.join(name).symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
                return Err(GetError::local("make", target, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_same(ours: &Metadata, theirs: Known) -> bool {
    // HTTP's dates are whole seconds.
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    };
    let modified = ours.modified();
    theirs.length == ours.len()
        && modified.is_ok_and(|ours| seconds(ours) == seconds(theirs.modified))
}

fn known(head: &Head) -> Option<Known> {
    Some(Known {
        length: head.content_length?,
        modified: httpdate::parse_http_date(head.last_modified.as_deref()?).ok()?,
    })
}

/// The sums that the file of `job`, at `target`, must have.
pub(super) fn checksums_for(
    shared: &Shared,
    job: &Job,
    target: &Path,
) -> Result<Vec<Checksum>, GetError> {
    let mut checksums = shared.config.checksums.clone();
    checksums.extend_from_slice(&job.checksums);
    if let Some(file) = &shared.config.checksum_file {
        let below = target
            .strip_prefix(&shared.config.directory)
            .unwrap_or(target);
        let listed = file.find(below);
        if listed.is_empty() {
            let text = format!("the file of sums has none for {}", below.display());
            return Err(GetError::new(ErrorKind::Verification, text));
        }
        // One of them that stops attackers is enough.
        let strength = |sum: &Checksum| Algorithm::ALL.iter().position(|it| *it == sum.algorithm());
        let best = listed.iter().map(strength).min();
        checksums.extend(listed.into_iter().filter(|sum| Some(strength(sum)) == best));
    }
    checksums.dedup();
    checksum::contradiction(&checksums).map_or(Ok(checksums), |algorithm| {
        let text = format!(
            "{}: two {} sums are given",
            target.display(),
            algorithm.name()
        );
        Err(GetError::new(ErrorKind::Verification, text))
    })
}

/// As many as Linux follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
