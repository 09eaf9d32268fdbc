//! The download of a file over HTTP: sessions of its versions, until one is whole.

mod acceptance;
mod first_response;
mod opening;
mod session;
mod state;
mod verification;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::digest::{BlockList, Checksum};
use crate::get::blocks;
use crate::get::config::{Job, ResumeChoice};
use crate::get::download::expected::Expected;
use crate::get::download::holdings::{Holding, Holdings};
use crate::get::download::mirrors::Mirrors;
use crate::get::download::proof::Proof;
use crate::get::download::session::SessionEnd;
use crate::get::error::{ErrorKind, GetError};
use crate::get::event::Summary;
use crate::get::part_file;
use crate::get::part_file::keep;
use crate::get::part_file::validate::{Trust, Validator};
use crate::get::part_file::{PartFile, State};
use crate::get::shared::attempts::Attempts;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::HttpUrl;
use first_response::first_response;
use opening::Opening;
pub(super) use state::Transfer;
use verification::MAX_VERSIONS;

impl<'a> Transfer<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        reporter: &'a Reporter,
        url: &'a HttpUrl,
        mirrors: Mirrors,
        (job, target): (&'a Job, &'a Path),
        checksums: &'a [Checksum],
    ) -> Self {
        let trust = match (checksums, shared.config.resume) {
            ([_, ..], _) => Trust::Checksum,
            ([], ResumeChoice::Loose) => Trust::Loose,
            ([], ResumeChoice::Strict) => Trust::Signs,
        };
        Self {
            shared,
            reporter,
            url,
            mirrors,
            target,
            source: &job.source,
            expected: Expected::of(job),
            proof: Proof::new(checksums),
            trust,
            attempts: Attempts::new(shared.config.retry),
            began: Instant::now(),
            received: 0,
            holdings: Holdings::none(),
            list: None,
            list_source: None,
            mirror_digest: None,
            has_proven_mirrors: false,
            suspicions: (0, 0),
            versions: 0,
            mismatch: None,
        }
    }

    /// The list of the blocks that the file must have is here.
    pub(super) fn take_list(&mut self, list: BlockList) {
        self.proof.note_server(true, blocks::digest(&list));
        self.list = Some(Arc::new(list));
    }

    /// Repairs the file itself.
    pub(super) fn repair_in_place(&mut self, held: (PartFile, State)) {
        self.holdings.current = Some(Holding::new(held));
    }

    pub(super) fn run(mut self) -> Result<Summary, GetError> {
        if self.holdings.current.is_none() {
            let is_foreign = self.shared.is_foreign_part(self.target, self.source);
            self.holdings = Holdings::open(self.target, is_foreign)?;
        }
        self.forget_doubtful_date();
        let held = self.holdings.current.as_ref();
        self.proof
            .note_digest(held.and_then(|held| held.state.digest()));
        let mut opening = self.next_opening();
        let kept = self
            .holdings
            .current
            .as_ref()
            .is_some_and(|held| held.kept().bytes > 0);
        if kept && matches!(opening, Opening::Request) {
            self.reporter.note(part_file::NOT_RESUMED.to_owned());
        }
        loop {
            let end = match opening {
                Opening::Resume => self.session(None),
                Opening::Response(mirror, response) => self.take_response((mirror, response)),
                Opening::Request => first_response(
                    (self.shared, self.reporter),
                    self.url,
                    &self.expected,
                    &mut self.mirrors,
                    &mut self.attempts,
                )
                .and_then(|response| self.take_response(response)),
            };
            opening = match end {
                Ok(SessionEnd::Whole) => match self.prove() {
                    Ok(()) => return self.finish(),
                    Err(error) if error.kind == ErrorKind::Verification => {
                        self.wrong_checksum(error)?
                    }
                    Err(error) => self.failed(error)?,
                },
                Ok(SessionEnd::Broken) => self.next_opening(),
                Ok(SessionEnd::StartOver { why, response }) => {
                    self.versions += 1;
                    if self.versions >= MAX_VERSIONS {
                        let text = format!("{}: {why}, {} times", self.url, self.versions);
                        return Err(self.give_up(GetError::new(ErrorKind::Incomplete, text)));
                    }
                    self.reporter.note(why);
                    self.mirrors.forget();
                    match response {
                        Some((mirror, response)) => Opening::Response(mirror, response),
                        None => Opening::Request,
                    }
                }
                Err(error) if error.kind == ErrorKind::Verification => {
                    self.wrong_checksum(error)?
                }
                Err(error) => self.failed(error)?,
            };
        }
    }

    /// Forgets the date of a part file from another address: files of one size and one date are
    /// not rare.
    fn forget_doubtful_date(&mut self) {
        if let Some(Holding { state, .. }) = &mut self.holdings.current
            && self.mirrors.find(&state.url).is_none()
            && self.trust == Trust::Signs
            && let Some(identity) = &mut state.identity
            && matches!(identity.validator, Some(Validator::LastModified(_)))
        {
            identity.validator = None;
        }
    }

    fn next_opening(&self) -> Opening {
        let held = self.holdings.current.as_ref();
        let held = held.filter(|held| !held.has_wrong_checksum);
        Opening::next(
            held.map(|held| &held.state),
            self.mirrors.ranges(),
            self.trust,
        )
    }

    /// Keeps the longer of two attempts that cannot be resumed.
    fn give_up(&mut self, error: GetError) -> GetError {
        match self.holdings.give_up(self.trust) {
            Ok(()) => error,
            Err(failed) => error.and(failed),
        }
    }

    fn finish(mut self) -> Result<Summary, GetError> {
        let held = self
            .holdings
            .current
            .take()
            .expect("a whole file has a part file");
        let content_type = held.state.content_type.as_deref().unwrap_or_default();
        let file = held.part.file();
        if self.expected.is_listing(self.url, content_type, file) {
            held.part.discard();
            return Err(GetError::directory(self.url, self.url.as_directory()));
        }
        let bytes = held.state.done.total();
        let is_void = |old: &Holding| old.has_wrong_checksum && !self.proof.given().is_empty();
        if let Some(old) = &self.holdings.old
            && !is_void(old)
            && !keep::may_replace(old.kept().bytes, bytes, self.shared.config.kept)
        {
            held.part.discard();
            let text = format!(
                "{}: the file has {bytes} bytes now, and {} of it are here: they are kept; \
                 --restart takes the new one",
                self.url,
                old.kept().bytes
            );
            return Err(GetError::new(ErrorKind::Incomplete, text));
        }
        let modified = held.state.identity.as_ref();
        let modified = modified.and_then(|identity| identity.last_modified.as_deref());
        let modified = modified.and_then(|text| httpdate::parse_http_date(text).ok());
        self.shared.check_owner(self.target, self.source)?;
        if let Ok(found) = held.part.file().metadata() {
            self.shared.written.add(&found, self.source);
        }
        let name = held.part.finish(modified, self.shared.config.existing)?;
        if let Some(old) = self.holdings.old {
            old.part.discard();
        }
        Ok(Summary {
            name,
            bytes,
            received: self.received,
            elapsed: self.began.elapsed(),
            retries: self.attempts.retries(),
            verified: !self.proof.checksums().is_empty(),
        })
    }
}
