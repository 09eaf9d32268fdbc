//! The proof of a file's content: the user's checksums, or the server's digest and blocks.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::block_ledger::agrees;
use crate::digest::{BlockList, Checksum};
use crate::get::blocks;
use crate::get::checksum::{Caught, Verifier};
use crate::get::client::cancellation::Cancellation;
use crate::get::client::{Method, Request};
use crate::get::config::DigestChoice;
use crate::get::error::{ErrorKind, GetError};
use crate::get::part_file::validate::{Identity, Validator};
use crate::get::shared::Shared;
use crate::get::shared::polling::Polling;
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
        if !self.is_haul {
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
        match ask_head(shared, url, &shared.cancellation()) {
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
        let is_required = shared.config.digests == DigestChoice::Required;
        if self.has_good_blocks || !self.checksums().is_empty() || !(is_required || self.is_haul) {
            return Ok(());
        }
        let timeout = match is_required {
            true => REQUIRED_TIMEOUT,
            false => (took / 10).clamp(MIN_TIMEOUT, MAX_TIMEOUT),
        };
        self.offered = match ask_digest(shared, url, validator, timeout) {
            Err(error) if error.is_stop() || is_required => return Err(error),
            digest => digest.ok().flatten().into_iter().collect(),
        };
        if self.offered.is_empty() && is_required {
            let text = format!("{url}: the server gives no digest of the file");
            let error = GetError::new(ErrorKind::Verification, text);
            return Err(error.and("--require-digest asks for one"));
        }
        let mut verifier = Verifier::new(&self.offered);
        while verifier.follow(file, length)? == Caught::Behind {
            shared.check()?;
        }
        verifier.finish()
    }
}

/// What the server says of the file.
fn ask_head(shared: &Shared, url: &HttpUrl, cancellation: &Cancellation) -> Result<Head, GetError> {
    let request = Request {
        url,
        method: Method::Head,
        accept: "*/*",
        range: None,
    };
    let response = shared.client.send(&request, cancellation)?;
    Ok(shared.client.release(response))
}

/// The digest of the version with this validator, as soon as the server has it.
fn ask_digest(
    shared: &Shared,
    url: &HttpUrl,
    validator: Option<&Validator>,
    timeout: Duration,
) -> Result<Option<Checksum>, GetError> {
    let (mut polling, cancellation) = (Polling::new(timeout), shared.cancellation());
    loop {
        let head = ask_head(shared, url, &cancellation)?;
        if head.status != 200 || Validator::of(&head).as_ref() != validator {
            return Ok(None);
        }
        if let Some(digest) = head.digests().into_iter().next() {
            return Ok(Some(digest));
        }
        if head.retry_after.is_none() || !polling.wait(&cancellation)? {
            return Ok(None);
        }
    }
}

/// For a server to compute a list that would save fetching everything.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);
/// For a server to compute a digest that is required.
const REQUIRED_TIMEOUT: Duration = Duration::from_secs(3600);
/// For a server that is still computing: a tenth of the download's time, within these.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
