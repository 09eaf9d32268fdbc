//! The download of a file over HTTP: sessions of its versions, until one is whole.

mod first_response;
mod opening;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::digest::{BlockList, Checksum};
use crate::get::blocks;
use crate::get::client::Response;
use crate::get::config::{Existing, Job, KeptChoice, ResumeChoice};
use crate::get::download::block_ledger::{BlockLedger, ListSource};
use crate::get::download::expected::Expected;
use crate::get::download::holdings::{Holding, Holdings};
use crate::get::download::links;
use crate::get::download::mirrors::{Mirrors, Ranges};
use crate::get::download::plan::Plan;
use crate::get::download::proof::Proof;
use crate::get::download::run;
use crate::get::download::session::{Session, SessionEnd};
use crate::get::error::{ErrorKind, GetError};
use crate::get::event::{Event, Summary};
use crate::get::part_file;
use crate::get::part_file::keep::{self, Decision};
use crate::get::part_file::validate::{Identity, Trust, Validator};
use crate::get::part_file::{PartFile, Slot, State};
use crate::get::shared::attempts::Attempts;
use crate::get::shared::{Reporter, Shared};
use crate::get::source::{HttpUrl, Source};
use crate::sys::receive;
use first_response::first_response;
use opening::Opening;

/// A file on its way over HTTP.
pub(super) struct Transfer<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a HttpUrl,
    mirrors: Mirrors,
    target: &'a Path,
    source: &'a Source,
    expected: Expected,
    /// The sums or digests that the content has to have.
    proof: Proof<'a>,
    trust: Trust,
    attempts: Attempts,
    began: Instant,
    received: u64,
    holdings: Holdings,
    /// The list of the current version's blocks, and the sources that have one.
    list: Option<Arc<BlockList>>,
    list_source: Option<ListSource>,
    /// The server named mirrors, and a digest.
    has_proven_mirrors: bool,
    /// Responses that looked like a passing fault, in a row, and the bytes kept at the last one.
    suspicions: (u32, u64),
    /// Times that the file turned out to be another one meanwhile.
    versions: u32,
    /// The wrong sum for which one address is asked alone.
    mismatch: Option<GetError>,
}

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

    /// Takes the other addresses of the file from a response's links (RFC 6249).
    fn take_links(&mut self, response: &Response) -> Result<(), GetError> {
        let found = links::find(self.shared, self.reporter, response)?;
        if self.proof.checksums().is_empty() {
            self.proof.note_digest(found.digest);
        }
        let is_proven = !self.proof.checksums().is_empty();
        for url in found.urls {
            self.mirrors.add(url);
            // The digest proves them in the end, independent of entity tags.
            self.has_proven_mirrors |= is_proven;
        }
        Ok(())
    }

    /// Begins a session with a response that has the whole file, if the kept bytes allow it.
    fn take_response(
        &mut self,
        (mirror, response): (usize, Box<Response>),
    ) -> Result<SessionEnd, GetError> {
        let (kept, choice) = (self.holdings.kept(), self.shared.config.kept);
        let decision = match keep::decide(&kept, &response.head, choice, self.trust) {
            Decision::Begin if keep::is_page_over(&self.replaced(), &response.head, choice) => {
                Decision::Suspicious
            }
            decision => decision,
        };
        let is_in_place = |held: &Holding| held.part.slot() == Slot::InPlace;
        match decision {
            Decision::Begin => self.begin(mirror, &response)?,
            Decision::GoOn => {}
            _ if self.holdings.current.as_ref().is_some_and(is_in_place) => {
                let text = format!("{}: the file changed while it was repaired", response.url);
                let error = GetError::new(ErrorKind::Incomplete, text);
                return Err(error.and("the same command makes it what the server has now"));
            }
            Decision::Beside => {
                self.holdings.set_aside(self.target, choice)?;
                self.begin(mirror, &response)?;
            }
            decision => {
                let why = match kept.bytes {
                    0 => "a page came instead of the file that is here".to_owned(),
                    _ => keep::compare(&kept, &response.head),
                };
                let text = format!("{}: {why}", response.url);
                let error = GetError::passing(ErrorKind::Incomplete, text);
                let (mut times, bytes) = self.suspicions;
                if kept.bytes > bytes {
                    times = 0;
                }
                let again = times < SUSPICIONS.min(self.shared.config.retry.retries);
                if decision == Decision::Suspicious && again {
                    self.suspicions = (times + 1, kept.bytes);
                    let cancellation = self.shared.cancellation();
                    let waited =
                        self.reporter
                            .wait(&mut self.attempts, error, kept.bytes, &cancellation);
                    waited.map_err(|error| error.and(KEPT))?;
                    return Ok(SessionEnd::Broken);
                }
                return Err(error.and(KEPT));
            }
        }
        self.suspicions = (0, 0);
        let is_haul = response.head.is_haul();
        let digest = response.head.digests().into_iter().next();
        self.proof.note_server(is_haul, digest);
        self.take_links(&response)?;
        self.keep_digest();
        self.list_source = is_haul.then(|| ListSource {
            url: response.url.clone(),
            validator: Validator::of(&response.head),
        });
        self.mirrors
            .learn(mirror, response.url.clone(), Validator::of(&response.head));
        self.session(Some((mirror, response)))
    }

    /// Has later runs hold the file against what the server says of it, too.
    fn keep_digest(&mut self) {
        if let (Some(held), Some(digest)) = (&mut self.holdings.current, self.proof.offered()) {
            held.state.note_digest(digest);
        }
    }

    /// How the file begins that is here whole and is to be updated.
    fn replaced(&self) -> Vec<u8> {
        let mut begins = Vec::new();
        if self.shared.config.existing == Existing::Update
            && let Ok(file) = receive::open_to_read(self.target)
        {
            // The user chose to replace the file, so one that cannot be read counts as empty.
            let _ = file.take(PAGE_BEGINS_BYTES).read_to_end(&mut begins);
        }
        begins
    }

    /// Starts the part file over, with the version of this response.
    fn begin(&mut self, mirror: usize, response: &Response) -> Result<(), GetError> {
        let identity = Identity::of(&response.head);
        // Not where a redirect led: that may be another host next time.
        let url = self.mirrors.url(mirror).recorded();
        let state = State::new(url, identity, response.head.content_type.clone());
        self.list = None;
        let preallocation = self.shared.config.preallocation;
        self.holdings.begin(self.target, state, preallocation)
    }

    fn session(&mut self, first: Option<(usize, Box<Response>)>) -> Result<SessionEnd, GetError> {
        let held = self
            .holdings
            .current
            .as_mut()
            .expect("a session fills a part file");
        let state = &held.state;
        let enough = |identity: &Identity| identity.is_enough(self.trust);
        let identity = state.identity.clone().filter(enough);
        if first.is_none()
            && let Some(identity) = &identity
        {
            let mirror = self.mirrors.find(&state.url).unwrap_or(0);
            let url = self.mirrors.url(mirror).clone();
            self.mirrors.learn(mirror, url, identity.validator.clone());
        }
        self.reporter.send(|file| Event::Started {
            file,
            name: self.target.to_owned(),
            url: self.url.to_string(),
            length: state.length(),
            resumed: state.done.total(),
        });
        let session = Session {
            shared: self.shared,
            reporter: self.reporter,
            part: &held.part,
            state: state.clone(),
            identity,
            trust: match self.has_proven_mirrors {
                true => Trust::Checksum,
                false => self.trust,
            },
            checksums: self.proof.checksums(),
            blocks: BlockLedger::new(self.list.clone(), self.list_source.clone()),
            plan: Mutex::new(Plan::new(state.length(), state.done.clone())),
            writing_nanos: AtomicU64::new(0),
        };
        let end = run::run(&session, &mut self.mirrors, first, &mut self.attempts);
        let (done, received, whole) = {
            let plan = session.plan();
            (plan.done().clone(), plan.received(), plan.is_whole())
        };
        self.received += received;
        if session.blocks.is_settled() || !whole {
            self.list = session.blocks.list();
        }
        let (is_haul, proven) = (session.blocks.was_sought(), session.blocks.proven());
        let kept = done.total();
        let can_go_on = session.identity.is_some();
        held.state.done = done;
        held.state.whole = whole;
        self.proof.note_blocks(is_haul, proven.filter(|_| whole));
        let is_remote = !matches!(
            end.as_ref().map_err(|error| error.kind),
            Err(ErrorKind::LocalFile | ErrorKind::Verification)
        );
        end.map_err(|error| match (error.is_stop(), can_go_on) {
            (stops, true) if stops || (is_remote && kept > 0) => error.and(format!(
                "{kept} bytes are kept: the same command goes on from there"
            )),
            (true, false) => {
                error.and("the server cannot go on in the middle: the same command starts over")
            }
            _ => error,
        })
    }

    /// Handles a whole file with a wrong sum. The file is kept; another copy is fetched only where
    /// mirrors may be at fault, or with `--restart`.
    fn wrong_checksum(&mut self, error: GetError) -> Result<Opening, GetError> {
        let is_whole = |held: &Holding| held.state.whole;
        if !self.holdings.current.as_ref().is_some_and(is_whole) {
            // One block was bad again and again; all other bytes stay.
            return Err(error);
        }
        if let Some(opening) = self.mend()? {
            return Ok(opening);
        }
        let from_before = self.received == 0;
        self.keep_digest();
        if let Some(held) = &mut self.holdings.current {
            held.has_wrong_checksum = true;
            // Were this to fail, the bytes are only fetched again.
            let _ = held
                .part
                .sync_data()
                .and_then(|()| held.part.save(&held.state));
        }
        if self.proof.checksums().is_empty() && !self.expected.has_length() {
            // A digest is required, and there is none.
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
    fn failed(&mut self, error: GetError) -> Result<Opening, GetError> {
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
    fn prove(&mut self) -> Result<(), GetError> {
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
        self.proof.hold(self.shared, url, file, version, took)
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

/// The address that the version came from; `None` if an earlier run had it from another one.
fn source_of<'a>(mirrors: &'a Mirrors, state: &State) -> Option<&'a HttpUrl> {
    mirrors.find(&state.url).map(|mirror| mirrors.url(mirror))
}

const KEPT: &str = "what is here is kept; --restart fetches the new one";
/// Retries after which a suspicious response counts as final.
const SUSPICIONS: u32 = 3;
/// The beginning of a page, by which it is recognized.
const PAGE_BEGINS_BYTES: u64 = 256;
/// Times that a file is fetched from one address after the other.
const MAX_ALONE: usize = 3;
/// A file that has become another one this often is not going to hold still.
const MAX_VERSIONS: u32 = 5;
