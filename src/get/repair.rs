//! `--repair`: an incomplete or older file becomes the server's, and only differing blocks are
//! fetched. Matching blocks are copied to a part file if there is room, and the download goes on
//! from there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::blocks;
use super::client::refusal;
use super::client::{Method, Request};
use super::config::RepairChoice;
use super::error::{ErrorKind, GetError};
use super::part_file::validate::Identity;
use super::part_file::{PartFile, Slot, State};
use super::shared::{Reporter, Shared};
use super::source::HttpUrl;
use crate::digest::BlockList;
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

/// Makes a part file of the matching blocks of `target`.
///
/// # Errors
/// Network: the server has no block list. LocalFile: the file cannot be read or copied.
pub(super) fn prepare(
    shared: &Shared,
    reporter: &Reporter,
    url: &HttpUrl,
    (target, choice): (&Path, RepairChoice),
) -> Result<RepairPlan, GetError> {
    let (identity, content_type) = ask(shared, url)?;
    let patience = shared.config.max_time.unwrap_or(TIMEOUT);
    let list = blocks::list(shared, url, &identity, patience)?;
    let list = list.ok_or_else(|| {
        let text = format!("{url}: the server gives no list of blocks");
        GetError::new(ErrorKind::Network, text).and("without --repair the whole file is fetched")
    })?;
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
    let begun = match PartFile::open_existing(target, Slot::Part)? {
        None => Some(PartFile::create(target, Slot::Part)?),
        // A copy that broke off.
        Some((part, state)) => Some(part).filter(|_| state.done.total() == 0),
    };
    if let Some(part) = begun {
        // Without a state a part file would count as another program's after an interruption.
        part.save(&claims_nothing)?;
        let copied = copy(&file, part.file(), list.len());
        copied.map_err(|error| {
            let error = GetError::local("copy", target, &error);
            error.and("the repaired file needs room beside the old one: --in-place does without")
        })?;
        part.sync_data()?;
        part.save(&state)?;
    }
    Ok(RepairPlan::Part(list))
}

/// Which version of the file the server has.
fn ask(shared: &Shared, url: &HttpUrl) -> Result<(Identity, Option<String>), GetError> {
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
    Identity::of(&head)
        .map(|identity| (identity, content_type))
        .ok_or_else(|| {
            let text = format!("{url}: the server does not say how long the file is");
            GetError::new(ErrorKind::Network, text)
        })
}

/// A copy that shares its blocks where the file system can (copy_file_range(2)), with the same holes.
fn copy(mut from: &File, mut to: &File, len: u64) -> io::Result<()> {
    to.set_len(len)?;
    let mut at = 0;
    while let Some(data) = receive::next_data(from, at)?.filter(|data| data.start < len) {
        from.seek(SeekFrom::Start(data.start))?;
        to.seek(SeekFrom::Start(data.start))?;
        let count = data.end.min(len) - data.start;
        if io::copy(&mut from.take(count), &mut to)? < count {
            break;
        }
        at = data.end;
    }
    Ok(())
}

/// The longest time for a server to hash a file on its first request.
const TIMEOUT: Duration = Duration::from_secs(3600);
