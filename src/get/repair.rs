//! `--repair`: an incomplete or older file becomes the server's, and only differing blocks are
//! fetched. Matching blocks are copied to a part file if there is room, and the download goes on
//! from there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::blocks;
use super::checksum;
use super::client::refusal;
use super::client::{Method, Request};
use super::config::RepairChoice;
use super::error::{ErrorKind, GetError};
use super::part_file::validate::Identity;
use super::part_file::{PartFile, Slot, State};
use super::shared::{Reporter, Shared};
use super::source::HttpUrl;
use crate::digest::{BlockList, Checksum};
use crate::sys::receive;

/// The outcome of the comparison.
#[derive(Debug)]
pub(super) enum RepairPlan {
    /// The file is the server's, or nothing was to be changed.
    Nothing,
    /// The part file lacks blocks; the finished one has these.
    Part(BlockList),
    /// The file itself does, of which this much is right.
    InPlace(Box<(PartFile, State)>, BlockList),
}

/// The file to be repaired, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repaired<'a> {
    pub(super) target: &'a Path,
    pub(super) choice: RepairChoice,
    /// The sums that it must have.
    pub(super) checksums: &'a [Checksum],
    /// The length that it must have.
    pub(super) length: Option<u64>,
    /// Other addresses of it.
    pub(super) mirrors: &'a [HttpUrl],
}

/// What an address says of its file.
struct Version<'a> {
    url: &'a HttpUrl,
    identity: Identity,
    content_type: Option<String>,
    list: BlockList,
}

/// Makes a part file of the matching blocks of the file.
///
/// # Errors
/// Network: the server has no block list. Verification: the server's file is another one than
/// expected. LocalFile: the file cannot be read or copied.
pub(super) fn prepare(
    shared: &Shared,
    reporter: &Reporter,
    url: &HttpUrl,
    repaired: Repaired<'_>,
) -> Result<RepairPlan, GetError> {
    let Repaired { target, choice, .. } = repaired;
    let Version {
        url,
        identity,
        content_type,
        list,
    } = repaired.version(shared, reporter, url)?;
    repaired.check(url, &list)?;
    let file = receive::open_to_read(target);
    let file = file.map_err(|error| GetError::local("open", target, &error))?;
    let good = blocks::good(shared, (&file, target), &list)?;
    let there = file.metadata().map_or(0, |found| found.len());
    let missing = list.len() - good.total();
    reporter.note(format!(
        "{missing} of {} bytes differ and are to be fetched",
        list.len()
    ));
    let is_same = missing == 0 && there == list.len();
    if is_same {
        let digest = blocks::digest(&list);
        let unproven = repaired.checksums.iter();
        let unproven = unproven.filter(|sum| Some(*sum) != digest.as_ref());
        let unproven: Vec<_> = unproven.cloned().collect();
        checksum::verify(shared, (&file, target), there, &unproven)?;
    }
    if is_same || choice == RepairChoice::DryRun {
        return Ok(RepairPlan::Nothing);
    }
    let claims_nothing = State::new(url.recorded(), Some(identity), content_type);
    let mut state = claims_nothing.clone();
    state.done = good;
    if choice == RepairChoice::InPlace {
        drop(file);
        let part = PartFile::in_place(target)?;
        part.set_length(list.len())?;
        return Ok(RepairPlan::InPlace(Box::new((part, state)), list));
    }
    let copy = Copy {
        shared,
        from: &file,
        target,
    };
    match PartFile::open_existing(target, Slot::Part)? {
        Some((part, found)) if found.done.total() > 0 => {
            if found.is_of_other_version(&state) {
                copy.renew(&part, (&claims_nothing, state), &list)?;
            }
        }
        // A copy that broke off.
        Some((part, _)) => copy.fill(part, (&claims_nothing, &state))?,
        None => {
            let part = PartFile::create(target, Slot::Part)?;
            copy.fill(part, (&claims_nothing, &state))?;
        }
    }
    Ok(RepairPlan::Part(list))
}

impl<'a> Repaired<'a> {
    /// The version of the first address that has a list of its blocks.
    fn version(
        &self,
        shared: &Shared,
        reporter: &Reporter,
        first: &'a HttpUrl,
    ) -> Result<Version<'a>, GetError> {
        let mut found = ask(shared, first);
        for mirror in self.mirrors {
            match found {
                Err(error) if !error.is_stop() => {
                    reporter.note(format!("{error}; a mirror is next"));
                    found = ask(shared, mirror);
                }
                _ => break,
            }
        }
        found
    }

    /// Refuses a list that cannot be of the expected file, before any byte of it is here.
    fn check(&self, url: &HttpUrl, list: &BlockList) -> Result<(), GetError> {
        let text = match self.length {
            Some(length) if length != list.len() => {
                format!("{url}: it has {} bytes, not {length}", list.len())
            }
            _ if !blocks::agrees(list, self.checksums) => {
                format!("{url}: its BLAKE3 digest is not the expected one")
            }
            _ => return Ok(()),
        };
        Err(GetError::new(ErrorKind::Verification, text))
    }
}

/// Which version of the file the server has, and its blocks.
fn ask<'a>(shared: &Shared, url: &'a HttpUrl) -> Result<Version<'a>, GetError> {
    let request = Request {
        url,
        method: Method::Head,
        accept: "*/*",
        range: None,
    };
    let response = shared.client.send(&request, &shared.cancellation())?;
    let head = response.head;
    if head.status != 200 {
        return Err(refusal::of_response(&head, url, SystemTime::now()));
    }
    let content_type = head.content_type.clone();
    let identity = Identity::of(&head).ok_or_else(|| {
        let text = format!("{url}: the server does not say how long the file is");
        GetError::new(ErrorKind::Network, text)
    })?;
    let patience = shared.config.max_time.unwrap_or(TIMEOUT);
    let list = blocks::list(shared, url, &identity, patience)?;
    let list = list.ok_or_else(|| {
        let text = format!("{url}: the server gives no list of blocks");
        GetError::new(ErrorKind::Network, text).and("without --repair the whole file is fetched")
    })?;
    Ok(Version {
        url,
        identity,
        content_type,
        list,
    })
}

/// The file that is copied, and where it is.
struct Copy<'a> {
    shared: &'a Shared,
    from: &'a File,
    target: &'a Path,
}

impl Copy<'_> {
    /// Makes an empty part file a copy, of which `state` claims what is right. Blocks are shared
    /// where the file system can (copy_file_range(2)), and holes stay holes.
    fn fill(
        &self,
        part: PartFile,
        (claims_nothing, state): (&State, &State),
    ) -> Result<(), GetError> {
        // Without a state a part file would count as another program's after an interruption.
        part.save(claims_nothing)?;
        if let Err(error) = self.all(part.file(), state.length().unwrap_or_default()) {
            // What claims nothing only takes room.
            part.discard();
            return Err(error);
        }
        part.sync_data()?;
        part.save(state)
    }

    /// Makes a part file of another version one of this version: what is right in it stays, and
    /// what is right in the file only is copied.
    fn renew(
        &self,
        part: &PartFile,
        (claims_nothing, mut state): (&State, State),
        list: &BlockList,
    ) -> Result<(), GetError> {
        let good = blocks::good(self.shared, (part.file(), part.path()), list)?;
        part.save(claims_nothing)?;
        part.set_length(list.len())?;
        let mut missing = state.done.clone();
        for &(start, end) in good.as_slice() {
            missing.remove(start, end);
            state.done.insert(start, end);
        }
        for &(start, end) in missing.as_slice() {
            self.range(part.file(), start..end)?;
        }
        part.sync_data()?;
        part.save(&state)
    }

    fn all(&self, to: &File, len: u64) -> Result<(), GetError> {
        let failed = |error| self.explain(&error);
        to.set_len(len).map_err(failed)?;
        let mut at = 0;
        while let Some(data) = receive::next_data(self.from, at).map_err(failed)?
            && data.start < len
        {
            at = data.end.min(len);
            self.range(to, data.start..at)?;
        }
        Ok(())
    }

    fn range(&self, mut to: &File, range: Range<u64>) -> Result<(), GetError> {
        let (mut from, mut at) = (self.from, range.start);
        while at < range.end {
            self.shared.check()?;
            let mut step = || {
                from.seek(SeekFrom::Start(at))?;
                to.seek(SeekFrom::Start(at))?;
                io::copy(&mut from.take((range.end - at).min(COPY_BYTES)), &mut to)
            };
            match step().map_err(|error| self.explain(&error))? {
                // The file became shorter meanwhile: what is missing shows in its blocks.
                0 => return Ok(()),
                copied => at += copied,
            }
        }
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> GetError {
        let error = GetError::local("copy", self.target, error);
        error.and("the repaired file needs room beside the old one: --in-place does without")
    }
}

/// A copy that is stopped goes on for so many bytes.
const COPY_BYTES: u64 = 256 << 20;
/// The longest time for a server to hash a file on its first request.
const TIMEOUT: Duration = Duration::from_secs(3600);
