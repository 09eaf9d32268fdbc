//! The proof of a file's content: the user's checksums, or the server's digest and blocks.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::digest::{BlockList, Checksum};
use crate::get::blocks::{self, agrees};
use crate::get::checksum;
use crate::get::config::DigestChoice;
use crate::get::error::GetError;
use crate::get::part_file::validate::{Identity, Validator};
use crate::get::server_digest;
use crate::get::shared::Shared;
use crate::get::source::HttpUrl;
use crate::http::client_response::Head;

/// The checksums of one file.
pub(super) struct Proof<'a> {
    given: &'a [Checksum],
    /// The digest that the server gives, where the user gave none.
    offered: Vec<Checksum>,
    /// The server computes digests and block lists on request.
    is_haul: bool,
    /// Every block matches the server's list.
    has_good_blocks: bool,
}

impl<'a> Proof<'a> {
    pub(super) fn new(given: &'a [Checksum]) -> Self {
        Self {
            given,
            offered: Vec::new(),
            is_haul: false,
            has_good_blocks: false,
        }
    }

    /// Notes which server answers, and the digest in its answer.
    pub(super) fn note_server(&mut self, is_haul: bool, digest: Option<Checksum>) {
        self.is_haul = is_haul;
        self.offered = digest.into_iter().collect();
    }

    /// Notes the findings of a session: whether a server with block lists answered, and the digest
    /// of a file with good blocks only.
    pub(super) fn note_blocks(&mut self, is_haul: bool, proven: Option<Checksum>) {
        self.is_haul |= is_haul;
        self.has_good_blocks = proven.is_some();
        if proven.is_some() {
            self.offered = proven.into_iter().collect();
        }
    }

    /// Notes a digest that the server told of elsewhere than in its answer, or in an earlier run.
    pub(super) fn note_digest(&mut self, digest: Option<Checksum>) {
        self.offered.extend(digest);
    }

    /// What the server says of its file.
    pub(super) fn offered(&self) -> Option<&Checksum> {
        self.offered.first()
    }

    /// The user's checksums.
    pub(super) fn given(&self) -> &'a [Checksum] {
        self.given
    }

    /// The user's checksums, or what the server offers in their place.
    pub(super) fn checksums(&self) -> &[Checksum] {
        match self.given {
            [] => &self.offered,
            given => given,
        }
    }

    /// The server's block list, once a whole file has turned out to be wrong; `None` if it has none.
    pub(super) fn list(
        &self,
        shared: &Shared,
        url: &HttpUrl,
        identity: &Identity,
    ) -> Result<Option<BlockList>, GetError> {
        let known = [&self.offered, self.given].concat();
        if !self.is_haul || checksum::contradiction(&known).is_some() {
            return Ok(None);
        }
        let list = match blocks::list(shared, url, identity, LIST_TIMEOUT) {
            Err(error) if error.is_stop() => return Err(error),
            listed => listed.ok().flatten(),
        };
        let agrees = |list: &BlockList| agrees(list, self.given) && agrees(list, &self.offered);
        Ok(list.filter(agrees))
    }

    /// Whether the digest is the server's own, and the server has another version by now than the
    /// one with this validator.
    ///
    /// # Errors
    /// The run is stopped.
    pub(super) fn is_outdated(
        &self,
        shared: &Shared,
        url: &HttpUrl,
        validator: &Validator,
    ) -> Result<bool, GetError> {
        if !self.given.is_empty() {
            return Ok(false);
        }
        match server_digest::head(shared, url, &shared.cancellation()) {
            Err(error) if error.is_stop() => Err(error),
            Err(_) => Ok(false),
            Ok(head) => {
                let now = Validator::of(&head).filter(|_| head.status == 200);
                Ok(now.is_some_and(|now| now != *validator))
            }
        }
    }

    /// Holds a whole file without a checksum against the digest that the server has by now: where
    /// it was still computing, or only missing parts were asked for. `version` is the file's
    /// validator and length, `took` what its download took.
    ///
    /// # Errors
    /// Verification: the digest differs, or there is none and one is required.
    pub(super) fn hold(
        &mut self,
        shared: &Shared,
        url: &HttpUrl,
        file: (&File, &Path),
        (validator, length): (Option<&Validator>, u64),
        took: Duration,
    ) -> Result<(), GetError> {
        let choice = shared.config.digests;
        let is_required = choice == DigestChoice::Required;
        if self.has_good_blocks || !self.checksums().is_empty() || !(is_required || self.is_haul) {
            return Ok(());
        }
        let is_version = |head: &Head| Validator::of(head).as_ref() == validator;
        let timeout = server_digest::timeout(choice, took);
        self.offered = match server_digest::wait_for(shared, url, is_version, timeout) {
            Err(error) if error.is_stop() || is_required => return Err(error),
            digest => digest.ok().flatten().into_iter().collect(),
        };
        if self.offered.is_empty() && is_required {
            return Err(server_digest::missing(url));
        }
        checksum::verify(shared, file, length, &self.offered)
    }
}

/// For a server to compute a list that would save fetching everything.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);
