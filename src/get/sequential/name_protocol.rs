//! The name protocol's client: the bare name, then bytes until the close.
//!
//! The protocol can neither resume nor distinguish an empty file from a missing one, which `haul
//! get` reports. The name is sent without an end mark, as the tutorial's servers expect; the
//! half-close ends it for others.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::digest::Checksum;
use crate::get::checksum::{self, Verifier};
use crate::get::client::cancellation::Cancellation;
use crate::get::client::connection::Connection;
use crate::get::config::{DigestChoice, RepairChoice};
use crate::get::error::{ErrorKind, GetError};
use crate::get::event::{Event, Summary};
use crate::get::part_file::keep;
use crate::get::part_file::{self, PartFile, Slot, State};
use crate::get::server_digest;
use crate::get::shared::attempts::Attempts;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::{NameUrl, Source};
use crate::sys::buffer::Buffer;

/// Fetches the file of `url` to `target`.
pub(crate) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    url: &NameUrl,
    (source, target): (&Source, &Path),
    checksums: &[Checksum],
) -> Result<Summary, GetError> {
    let began = Instant::now();
    let cancellation = shared.cancellation();
    check(shared, url, checksums)?;
    reporter.note(PLAIN_WORD.to_owned());
    // An earlier run's bytes go once this file is whole, and not shorter.
    let (first, second) = part_file::slots(shared.is_foreign_part(target, source));
    let existing = PartFile::open_existing(target, first)?;
    let (mut part, old) = match existing {
        Some((part, state)) if state.is_whole() && has(shared, &part, checksums)? => {
            return Ok(Summary {
                name: settle(shared, part, source)?,
                bytes: state.done.total(),
                received: 0,
                elapsed: began.elapsed(),
                retries: 0,
                verified: true,
            });
        }
        Some((part, state)) if state.done.total() > 0 => (None, Some((part, state))),
        existing => (existing.map(|(part, _)| part), None),
    };
    let slot = match old {
        Some(_) => second,
        None => first,
    };
    if old.is_some() {
        reporter.note(part_file::NOT_RESUMED.to_owned());
    }
    let mut attempts = Attempts::new(shared.config.retry);
    let mut received = 0;
    loop {
        let mut try_once = Try {
            shared,
            reporter,
            url,
            target,
            slot,
            part: &mut part,
            checksums,
        };
        match try_once.run(&cancellation, &mut received) {
            Ok((bytes, verifier)) => {
                let part = part.expect("the first byte makes the part file");
                if let Some((_, state)) = &old
                    && !keep::may_replace(state.done.total(), bytes, shared.config.kept)
                {
                    part.discard();
                    let text = format!(
                        "{url}: the file has {bytes} bytes, and {} of an earlier run are here: \
                         they are kept; --restart takes the new one",
                        state.done.total()
                    );
                    return Err(GetError::new(ErrorKind::Incomplete, text));
                }
                if let Err(error) = verifier.finish() {
                    let mut state = State::new(url.to_string(), None, None);
                    state.done.insert(0, bytes);
                    state.whole = true;
                    let _ = part.sync_data().and_then(|()| part.save(&state));
                    return Err(error.and("what came is kept"));
                }
                let name = settle(shared, part, source)?;
                if let Some((old, _)) = old {
                    old.discard();
                }
                let (elapsed, retries) = (began.elapsed(), attempts.retries());
                let verified = !checksums.is_empty();
                return Ok(Summary {
                    name,
                    bytes,
                    received,
                    elapsed,
                    retries,
                    verified,
                });
            }
            Err(error) => {
                // Bytes before a reset are void: this protocol cannot resume.
                if let Err(error) = reporter.wait(&mut attempts, error, 0, &cancellation) {
                    // Until the first byte, the part file is an earlier run's.
                    if let Some(part) = part.filter(|_| received > 0) {
                        part.discard();
                    }
                    return Err(match error.kind {
                        ErrorKind::Interrupted => error.and("the same command starts over"),
                        _ => error,
                    });
                }
            }
        }
    }
}

/// Refuses what takes a server's digest or block list, which this protocol does not have.
///
/// # Errors
/// Usage: a repair. Verification: a digest is required, and the user gave no sum.
pub(crate) fn check(
    shared: &Shared,
    url: &NameUrl,
    checksums: &[Checksum],
) -> Result<(), GetError> {
    if shared.config.repair != RepairChoice::Off {
        let text = format!("{url}: --repair needs an address of http:// or https://");
        return Err(GetError::new(ErrorKind::Usage, text));
    }
    match shared.config.digests == DigestChoice::Required && checksums.is_empty() {
        true => Err(server_digest::missing(url)),
        false => Ok(()),
    }
}

/// Whether the whole file that an earlier run left has the sums that were given.
fn has(shared: &Shared, part: &PartFile, checksums: &[Checksum]) -> Result<bool, GetError> {
    let length = part.file().metadata().map_or(0, |found| found.len());
    if checksums.is_empty() {
        return Ok(false);
    }
    match checksum::verify(shared, (part.file(), part.path()), length, checksums) {
        Ok(()) => Ok(true),
        Err(error) if error.kind == ErrorKind::Verification => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the whole file its name.
fn settle(shared: &Shared, part: PartFile, source: &Source) -> Result<PathBuf, GetError> {
    shared.check_owner(part.target(), source)?;
    if let Ok(found) = part.file().metadata() {
        shared.written.add(&found, source);
    }
    part.finish(None, shared.config.existing)
}

/// Sends the name and passes every piece to `take`; returns the number of bytes.
///
/// # Errors
/// NotFound when no byte arrived; Network when the connection was reset.
pub(crate) fn receive(
    shared: &Shared,
    url: &NameUrl,
    cancellation: &Cancellation,
    mut take: impl FnMut(&[u8]) -> Result<(), GetError>,
) -> Result<u64, GetError> {
    let mut connection = Connection::connect(
        &shared.client.dialer,
        &url.host,
        url.port,
        shared.config.connect_timeout,
        cancellation,
    )?;
    connection.send(&url.name)?;
    // The server may have answered and closed already: the read reports that.
    connection.end_requests();
    let mut buffer = Buffer::new(256 << 10);
    let mut received = 0;
    loop {
        let allowed = shared.rate_limit.allow(buffer.len(), cancellation)?;
        let count = connection.read(&mut buffer[..allowed], cancellation)?;
        shared.rate_limit.spend(count);
        match count {
            0 if received == 0 => {
                let text = format!(
                    "{url}: nothing came: the file is missing or empty, and this \
                    protocol cannot tell which"
                );
                return Err(GetError::new(ErrorKind::NotFound, text));
            }
            0 => return Ok(received),
            count => take(&buffer[..count])?,
        }
        received += count as u64;
    }
}

struct Try<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a NameUrl,
    target: &'a Path,
    slot: Slot,
    part: &'a mut Option<PartFile>,
    checksums: &'a [Checksum],
}

impl Try<'_> {
    fn run(
        &mut self,
        cancellation: &Cancellation,
        received: &mut u64,
    ) -> Result<(u64, Verifier), GetError> {
        let (target, url, reporter, part) = (self.target, self.url, self.reporter, &mut *self.part);
        let mut verifier = Verifier::new(self.checksums);
        let mut at = 0;
        let mut shown = Instant::now();
        let bytes = receive(self.shared, url, cancellation, |bytes| {
            let part = match part {
                Some(part) => part,
                None => part.insert(PartFile::create(target, self.slot)?),
            };
            if at == 0 {
                let state = State::new(url.to_string(), None, None);
                part.begin(&state, None, self.shared.config.preallocation)?;
                reporter.send(|file| Event::Started {
                    file,
                    name: target.to_owned(),
                    url: url.to_string(),
                    length: None,
                    resumed: 0,
                });
            }
            let written = part.file().write_all_at(bytes, at);
            written.map_err(|error| GetError::local("write", part.path(), &error))?;
            verifier.update(bytes);
            at += bytes.len() as u64;
            *received += bytes.len() as u64;
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                reporter.send(|file| Event::Progress {
                    file,
                    done: at,
                    length: None,
                    connections: 1,
                    extents: vec![(0, at)],
                });
            }
            Ok(())
        })?;
        Ok((bytes, verifier))
    }
}

const PLAIN_WORD: &str = "the name protocol can neither resume nor tell an empty file from a \
    missing one; http:// on the same port can";
const SHOW_EVERY: std::time::Duration = std::time::Duration::from_millis(200);
