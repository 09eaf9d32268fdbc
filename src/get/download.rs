//! The download of a file: its target, what of it is there, and the protocol.

mod block_ledger;
mod coordinator;
mod expected;
mod holdings;
mod links;
mod mirrors;
mod plan;
mod proof;
mod prover;
mod run;
mod scaler;
mod segment;
mod segment_pool;
mod session;
mod transfer;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::checksum::{Caught, Verifier};
use super::config::{Existing, Job, RepairChoice, Target};
use super::destination::{self, Destination, Standing};
use super::error::{ErrorKind, GetError};
use super::event::{Event, Summary};
use super::part_file;
use super::repair::{self, RepairPlan, Repaired};
use super::sequential::device::Device;
use super::sequential::{self, name_protocol};
use super::shared::written::Owner;
use super::shared::{Reporter, Shared};
use super::source::Source;
use crate::digest::Checksum;
use crate::sys::receive;
use mirrors::Mirrors;
use transfer::Transfer;

/// Fetches the file of `job`; `None` when it exists already, with an event.
pub(super) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    job: &Job,
) -> Result<Option<Summary>, GetError> {
    let target = match destination::choose(shared, reporter, job)? {
        Destination::Stream => {
            let mut pipe = Device::standard_output(shared.cancellation());
            let mut stdout = io::stdout();
            let out: &mut dyn Write = match &mut pipe {
                Some(pipe) => pipe,
                None => &mut stdout,
            };
            return sequential::fetch(shared, reporter, job, (Path::new("-"), out)).map(Some);
        }
        Destination::Device(path) => {
            if shared.config.repair != RepairChoice::Off {
                let text = format!("{} is no regular file: --repair needs one", path.display());
                return Err(GetError::new(ErrorKind::LocalFile, text));
            }
            let mut device = Device::open(&path, shared.cancellation())?;
            return sequential::fetch(shared, reporter, job, (&path, &mut device)).map(Some);
        }
        Destination::File(path) => path,
    };
    let _place = shared.places.take(&target, &shared.cancellation())?;
    if shared.check_owner(&target, &job.source)? == Owner::Same {
        reporter.send(|file| Event::Skipped { file, name: target });
        return Ok(None);
    }
    let checksums = destination::checksums_for(shared, job, &target);
    let expected = checksums.as_deref().unwrap_or_default();
    let known = has_checksums(shared, reporter, &target, expected)?;
    let standing = match known {
        Some(standing) => standing,
        None => destination::look(shared, reporter, job, &target)?,
    };
    if standing == Standing::Same {
        if let Ok(found) = target.symlink_metadata() {
            shared.written.add(&found, &job.source);
        }
        reporter.send(|file| Event::Skipped { file, name: target });
        return Ok(None);
    }
    let checksums = checksums?;
    let directory = match job.target {
        Target::Below(_) => target.parent(),
        _ => Some(shared.config.directory.as_path()),
    };
    if let Some(directory) = directory {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| GetError::local("make", directory, &error))?;
    }
    let fetched = match &job.source {
        Source::Http(url) => {
            let urls = [url].into_iter().chain(&job.mirrors).cloned();
            let place = (job, &*target);
            let mirrors = Mirrors::new(urls);
            let mut transfer = Transfer::new(shared, reporter, url, mirrors, place, &checksums);
            if shared.config.repair != RepairChoice::Off {
                let repaired = Repaired {
                    target: &target,
                    choice: shared.config.repair,
                    checksums: &checksums,
                    length: job.length,
                    mirrors: &job.mirrors,
                };
                match repair::prepare(shared, reporter, url, repaired)? {
                    RepairPlan::Nothing => {
                        reporter.send(|file| Event::Skipped { file, name: target });
                        return Ok(None);
                    }
                    RepairPlan::Part(list) => transfer.take_list(list),
                    RepairPlan::InPlace(held, list) => {
                        transfer.take_list(list);
                        transfer.repair_in_place(*held);
                    }
                }
            }
            transfer.run()
        }
        Source::Name(url) => {
            let place = (&job.source, &*target);
            name_protocol::fetch(shared, reporter, url, place, &checksums)
        }
    };
    fetched.map(Some)
}

/// Whether the existing file has the sums, where these and not size and time decide.
///
/// # Errors
/// LocalFile: it has not, and may not be replaced.
fn has_checksums(
    shared: &Shared,
    reporter: &Reporter,
    target: &Path,
    checksums: &[Checksum],
) -> Result<Option<Standing>, GetError> {
    let existing = shared.config.existing;
    if checksums.is_empty() || !matches!(existing, Existing::Skip | Existing::Update) {
        return Ok(None);
    }
    let Ok(file) = receive::open_to_read(target) else {
        return Ok(None);
    };
    let length = file.metadata().map_or(0, |found| found.len());
    let mut verifier = Verifier::new(checksums);
    let mut shown: Option<Instant> = None;
    while verifier.follow((&file, target), length)? == Caught::Behind {
        shared.check()?;
        if shown.is_none_or(|shown| shown.elapsed() >= SHOW_HASHING_EVERY) {
            shown = Some(Instant::now());
            reporter.send(|file| Event::Verifying {
                file,
                name: target.to_owned(),
                done: verifier.hashed(),
                length,
            });
        }
    }
    match verifier.finish() {
        Ok(()) => Ok(Some(Standing::Same)),
        Err(_) if existing == Existing::Update => Ok(Some(Standing::Needed)),
        Err(error) => Err(part_file::refuse_existing(target).and(error)),
    }
}

const SHOW_HASHING_EVERY: Duration = Duration::from_millis(100);
