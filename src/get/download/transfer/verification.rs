//! The verification of a whole file, and the repair of one that fails it.

use std::sync::Arc;

use crate::get::checksum;
use crate::get::config::{DigestChoice, KeptChoice};
use crate::get::download::holdings::Holding;
use crate::get::download::mirrors::{Mirrors, Ranges};
use crate::get::download::transfer::opening::Opening;
use crate::get::download::transfer::state::Transfer;
use crate::get::error::{ErrorKind, GetError};
use crate::get::part_file::State;
use crate::get::part_file::validate::Identity;
use crate::get::source::HttpUrl;

impl Transfer<'_> {
    /// Handles a whole file with a wrong sum. The file is kept; another copy is fetched only where
    /// mirrors may be at fault, or with `--restart`.
    pub(super) fn wrong_checksum(&mut self, error: GetError) -> Result<Opening, GetError> {
        let is_whole = |held: &Holding| held.state.whole;
        if !self.holdings.current.as_ref().is_some_and(is_whole) {
            // One block was bad repeatedly; all other bytes stay.
            return Err(error);
        }
        if let Some(opening) = self.mend()? {
            return Ok(opening);
        }
        let from_before = self.received == 0;
        self.keep_digest();
        if let Some(held) = &mut self.holdings.current {
            held.has_wrong_checksum = true;
            // A failure costs a repeated download at most.
            let _ = held
                .part
                .sync_data()
                .and_then(|()| held.part.save(&held.state));
        }
        let is_required = self.shared.config.digests == DigestChoice::Required;
        if is_required && self.proof.checksums().is_empty() && !self.expected.has_length() {
            // There is none.
            return Err(error.and("what came is kept"));
        }
        if self.is_outdated()? && self.versions + 1 < MAX_VERSIONS {
            self.versions += 1;
            let why = format!("{error}; the file has changed on the server meanwhile");
            self.reporter.note(why);
            self.mirrors.forget();
            return Ok(Opening::Request);
        }
        if let Some(opening) = self.next_alone(&error) {
            return Ok(opening);
        }
        if from_before && self.shared.config.kept == KeptChoice::Restart {
            self.reporter.note(format!("{error}; fetching it anew"));
            return Ok(Opening::Request);
        }
        Err(self.explain_mismatch(error))
    }

    /// The request of the whole file from the next address alone, after a wrong sum; `None` if
    /// there is none. The server's own digest is that of the first address.
    fn next_alone(&mut self, mismatch: &GetError) -> Option<Opening> {
        let most = match self.proof.given() {
            [] => 1,
            _ => MAX_ALONE,
        };
        let mirror = self.mirrors.next_alone(most)?;
        let text = format!("{mismatch}; no mirrors any more, but {mirror} alone");
        self.reporter.note(text);
        self.mismatch = Some(mismatch.clone());
        self.attempts.start_over();
        Some(Opening::Request)
    }

    /// Handles the end of the attempts. An address that was to bring the file alone leaves that to
    /// the next one.
    pub(super) fn failed(&mut self, error: GetError) -> Result<Opening, GetError> {
        let is_remote = !error.is_stop() && error.kind != ErrorKind::LocalFile;
        let Some(mismatch) = self.mismatch.take().filter(|_| is_remote) else {
            return Err(self.give_up(error));
        };
        self.reporter.note(error.to_string());
        if let Some(held) = &mut self.holdings.current {
            held.has_wrong_checksum = true;
        }
        match self.next_alone(&mismatch) {
            Some(opening) => Ok(opening),
            None => Err(self.explain_mismatch(mismatch)),
        }
    }

    fn explain_mismatch(&self, error: GetError) -> GetError {
        error.and(match self.proof.given() {
            [] if self.expected.has_length() => "what came is kept, --restart fetches it anew",
            [] => "that is what the server says of its file; what came is kept, --restart fetches it anew",
            _ => {
                "what came is kept: the same command with the right sum finishes it without the \
                 network, --restart fetches it anew"
            }
        })
    }

    /// Whether the server has another version by now than the whole file that is here: bytes that
    /// wait in its kernel change with the file.
    fn is_outdated(&self) -> Result<bool, GetError> {
        let Some(Holding { state, .. }) = &self.holdings.current else {
            return Ok(false);
        };
        let identity = state.identity.as_ref();
        let url = source_of(&self.mirrors, state);
        match (url, identity.and_then(|it| it.validator.as_ref())) {
            (Some(url), Some(validator)) => self.proof.is_outdated(self.shared, url, validator),
            _ => Ok(false),
        }
    }

    /// Has each block of the whole file held against the server's list, so that those that differ
    /// are fetched again; `None` if that cannot help.
    fn mend(&mut self) -> Result<Option<Opening>, GetError> {
        let Some(held) = &mut self.holdings.current else {
            return Ok(None);
        };
        let identity = held.state.identity.as_ref();
        let can_resume = |identity: &&Identity| {
            self.mirrors.ranges() == Ranges::Possible && identity.is_enough(self.trust)
        };
        let Some(identity) = identity.filter(can_resume).filter(|_| self.list.is_none()) else {
            return Ok(None);
        };
        let url = source_of(&self.mirrors, &held.state).unwrap_or(self.url);
        let list = self.proof.list(self.shared, url, identity)?;
        self.list = list.map(Arc::new);
        Ok(self.list.as_ref().map(|_| Opening::Resume))
    }

    /// Holds a whole file against the length that it must have and, without a sum, against the
    /// server's digest.
    pub(super) fn prove(&mut self) -> Result<(), GetError> {
        let Some(held) = &self.holdings.current else {
            return Ok(());
        };
        let bytes = held.state.done.total();
        self.expected.check_length(self.url, bytes)?;
        let identity = held.state.identity.as_ref();
        let validator = identity.and_then(|it| it.validator.as_ref());
        let file = (held.part.file(), held.part.path());
        let version = (validator, held.state.done.total());
        let took = self.began.elapsed();
        let url = source_of(&self.mirrors, &held.state).unwrap_or(self.url);
        self.proof.hold(self.shared, url, file, version, took)?;
        // A mirror's word proves nothing, but it can tell that two addresses have two files.
        let digest = self.mirror_digest.take();
        match digest.filter(|_| self.proof.checksums().is_empty()) {
            Some(digest) => checksum::verify(self.shared, file, bytes, &[digest]),
            None => Ok(()),
        }
    }
}

/// The address that the version came from; `None` if an earlier run had it from another one.
fn source_of<'a>(mirrors: &'a Mirrors, state: &State) -> Option<&'a HttpUrl> {
    mirrors.find(&state.url).map(|mirror| mirrors.url(mirror))
}

/// Addresses that are asked for a file alone, one after the other.
const MAX_ALONE: usize = 3;

/// Versions of a file after which the download fails: it changes too often.
pub(super) const MAX_VERSIONS: u32 = 5;
