//! The verification of a whole file, and the repair of one that fails it.

use std::sync::Arc;

use crate::get::config::KeptChoice;
use crate::get::download::holdings::Holding;
use crate::get::download::mirrors::Ranges;
use crate::get::download::transfer::opening::Opening;
use crate::get::download::transfer::state::Transfer;
use crate::get::error::GetError;
use crate::get::part_file::validate::Identity;

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
        if self.is_outdated()? && self.versions + 1 < MAX_VERSIONS {
            self.versions += 1;
            let why = format!("{error}; the file has changed on the server meanwhile");
            self.reporter.note(why);
            self.mirrors.forget();
            return Ok(Opening::Request);
        }
        if self.mirrors.only_first() {
            self.reporter.note(format!("{error}; no mirrors any more"));
            return Ok(Opening::Request);
        }
        if from_before && self.shared.config.kept == KeptChoice::Restart {
            self.reporter.note(format!("{error}; fetching it anew"));
            return Ok(Opening::Request);
        }
        Err(error.and(match self.proof.given() {
            [] if self.expected.has_length() => "what came is kept, --restart fetches it anew",
            [] => "that is what the server says of its file; what came is kept, --restart fetches it anew",
            _ => {
                "what came is kept: the same command with the right sum finishes it without the \
                 network, --restart fetches it anew"
            }
        }))
    }

    /// Whether the server has another version by now than the whole file that is here: bytes that
    /// wait in its kernel change with the file.
    fn is_outdated(&self) -> Result<bool, GetError> {
        let Some(Holding { state, .. }) = &self.holdings.current else {
            return Ok(false);
        };
        let identity = state.identity.as_ref();
        let mirror = self.mirrors.find(&state.url);
        match (mirror, identity.and_then(|it| it.validator.as_ref())) {
            (Some(mirror), Some(validator)) => {
                let url = self.mirrors.url(mirror);
                self.proof.is_outdated(self.shared, url, validator)
            }
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
        let list = self.proof.list(self.shared, self.url, identity)?;
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
        self.proof.hold(self.shared, self.url, file, version, took)
    }
}

/// Versions of a file after which the download fails: it changes too often.
pub(super) const MAX_VERSIONS: u32 = 5;
