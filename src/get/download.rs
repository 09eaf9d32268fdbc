//! One file from its address to its name: versions come and go until one is whole.

mod block_ledger;
mod coordinator;
mod mirrors;
mod plan;
mod proof;
mod prover;
mod run;
mod scaler;
mod segment;
mod session;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::checksum::{Caught, Verifier};
use super::client::refusal;
use super::client::{Method, Request, Response};
use super::config::{Existing, Job, KeptChoice, RepairChoice, ResumeChoice, Target};
use super::destination::{self, Destination, Standing};
use super::error::{ErrorKind, GetError, Retry};
use super::event::{Event, Summary};
use super::part_file::keep::{self, Decision, Kept};
use super::part_file::validate::{Identity, Trust, Validator};
use super::part_file::{self, PartFile, Slot, State};
use super::repair::{self, Prepared};
use super::sequential::{self, name_protocol};
use super::shared::attempts::Attempts;
use super::shared::written::Owner;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use super::tree::links;
use crate::digest::{BlockList, Checksum};
use block_ledger::{BlockLedger, ListSource};
use mirrors::{Mirrors, Ranges};
use plan::Plan;
use proof::Proof;
use session::{Session, SessionEnd};

/// Fetches the file of `job`; `None` when it is there already, which the event says.
pub(super) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    job: &Job,
) -> Result<Option<Summary>, GetError> {
    let target = match destination::choose(shared, reporter, job)? {
        Destination::Stream => {
            return sequential::fetch(shared, reporter, job, (Path::new("-"), &mut io::stdout()))
                .map(Some);
        }
        Destination::Device(path) => {
            let opened = std::fs::OpenOptions::new().write(true).open(&path);
            let mut file = opened.map_err(|error| GetError::local("open", &path, &error))?;
            return sequential::fetch(shared, reporter, job, (&path, &mut file)).map(Some);
        }
        Destination::File(path) => path,
    };
    if shared.check_owner(&target, &job.source)? == Owner::Same {
        reporter.send(|file| Event::Skipped { file, name: target });
        return Ok(None);
    }
    let checksums = destination::checksums_for(shared, &target);
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
                let what = (&*target, shared.config.repair);
                match repair::prepare(shared, reporter, url, what)? {
                    Prepared::Nothing => {
                        reporter.send(|file| Event::Skipped { file, name: target });
                        return Ok(None);
                    }
                    Prepared::Part(digest) => {
                        transfer.proof.note_server(true, digest);
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

/// Whether the file that is there has the sums, where that decides: its size and time do not.
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
    let file = match File::open(target) {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) => file,
        _ => return Ok(None),
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

/// A file on its way over HTTP.
struct Transfer<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a HttpUrl,
    mirrors: Mirrors,
    target: &'a Path,
    source: &'a Source,
    /// Where the first part file goes.
    slot: Slot,
    /// The user gave a name even to the page about a directory.
    takes_page: bool,
    /// What its content is held against.
    proof: Proof<'a>,
    trust: Trust,
    attempts: Attempts,
    began: Instant,
    received: u64,
    /// What is being filled.
    current: Option<Holding>,
    /// The server's list of that version's blocks, and who has one.
    list: Option<Arc<BlockList>>,
    list_source: Option<ListSource>,
    /// An older version's bytes, until the current one is whole.
    old: Option<Holding>,
    /// Responses that looked like a passing fault, in a row.
    suspicions: u32,
}

/// A part file, and what is in it.
struct Holding {
    part: PartFile,
    state: State,
    has_wrong_checksum: bool,
}

/// What a session begins with.
enum Opening {
    /// A request for the whole file.
    Request,
    /// Its answer, from the mirror of this index, which is here already.
    Response(usize, Box<Response>),
    /// Requests for what is missing.
    Resume,
}

impl Holding {
    fn new((part, state): (PartFile, State)) -> Self {
        Self {
            part,
            state,
            has_wrong_checksum: false,
        }
    }

    fn kept(&self) -> Kept {
        Kept {
            bytes: self.state.done.total(),
            identity: self.state.identity.clone(),
            content_type: self.state.content_type.clone(),
            has_wrong_checksum: self.has_wrong_checksum,
        }
    }
}

impl<'a> Transfer<'a> {
    fn new(
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
            takes_page: matches!(job.target, Target::Path(_)),
            slot: Slot::Part,
            proof: Proof::new(checksums),
            trust,
            attempts: Attempts::new(shared.config.retry),
            began: Instant::now(),
            received: 0,
            current: None,
            list: None,
            list_source: None,
            old: None,
            suspicions: 0,
        }
    }

    fn run(mut self) -> Result<Summary, GetError> {
        self.open_existing()?;
        let mut opening = self.next_opening();
        let kept = self
            .current
            .as_ref()
            .is_some_and(|held| held.kept().bytes > 0);
        if kept && matches!(opening, Opening::Request) {
            self.reporter.note(part_file::NOT_RESUMED.to_owned());
        }
        let mut versions = 0;
        loop {
            let end = match opening {
                Opening::Resume => self.session(None),
                Opening::Response(mirror, response) => self.take_response((mirror, response)),
                Opening::Request => self
                    .first_response()
                    .and_then(|response| self.take_response(response)),
            };
            opening = match end {
                Ok(SessionEnd::Whole) => match self.prove() {
                    Ok(()) => return self.finish(),
                    Err(error) if error.kind == ErrorKind::Verification => {
                        self.wrong_checksum(error)?
                    }
                    Err(error) => return Err(self.give_up(error)),
                },
                Ok(SessionEnd::Broken) => self.next_opening(),
                Ok(SessionEnd::StartOver { why, response }) => {
                    versions += 1;
                    if versions >= MAX_VERSIONS {
                        let text = format!("{}: {why}, {versions} times", self.url);
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
                Err(error) => return Err(self.give_up(error)),
            };
        }
    }

    /// Opens what earlier runs left, and forgets whose it is where only the address could tell.
    fn open_existing(&mut self) -> Result<(), GetError> {
        let old = if self.shared.is_foreign_part(self.target, self.source) {
            self.slot = Slot::New;
            None
        } else {
            PartFile::open_existing(self.target, Slot::Part)?.map(Holding::new)
        };
        let new = PartFile::open_existing(self.target, Slot::New)?.map(Holding::new);
        (self.current, self.old) = match (old, new) {
            (old, Some(new)) if new.state.identity.is_some() && new.kept().bytes > 0 => {
                (Some(new), old)
            }
            (Some(old), Some(new)) => (Some(longer(old, new)?), None),
            (None, Some(new)) => (Some(new), None),
            (old, None) => (old, None),
        };
        if let Some(Holding { state, .. }) = &mut self.current
            && self.mirrors.find(&state.url).is_none()
            && self.trust == Trust::Signs
            && let Some(identity) = &mut state.identity
            && matches!(identity.validator, Some(Validator::LastModified(_)))
        {
            // Files of one size and one date are not rare.
            identity.validator = None;
        }
        Ok(())
    }

    /// How to go on with what is here.
    fn next_opening(&self) -> Opening {
        let Some(Holding { state, .. }) = &self.current else {
            return Opening::Request;
        };
        let identity = state.identity.as_ref();
        let can_ask_for_ranges = self.mirrors.ranges() == Ranges::Possible
            && identity.is_some_and(|identity| identity.is_enough(self.trust));
        let whole = state.is_whole() && (state.whole || state.done.total() > 0);
        if whole || (can_ask_for_ranges && state.done.total() > 0) {
            Opening::Resume
        } else {
            Opening::Request
        }
    }

    fn first_response(&mut self) -> Result<(usize, Box<Response>), GetError> {
        let cancellation = self.shared.cancellation();
        loop {
            let mirror = self
                .mirrors
                .pick()
                .cloned()
                .expect("the last mirror is never dropped");
            let request = Request {
                url: &mirror.url,
                method: Method::Get,
                accept: "*/*",
                range: None,
            };
            let error = match self.shared.client.send(&request, &cancellation) {
                Ok(response) if matches!(response.head.status, 200 | 203) => {
                    if !self.takes_page && destination::is_directory(&mirror.url, &response) {
                        return Err(GetError::directory(self.url, response.url));
                    }
                    return Ok((mirror.index, Box::new(response)));
                }
                Ok(Response { head, url, .. }) => {
                    refusal::of_response(&head, &url, SystemTime::now())
                }
                Err(error) => error,
            };
            self.mirrors.failed(mirror.index);
            if error.retry == Retry::Never
                && !error.is_stop()
                && self.mirrors.drop_mirror(mirror.index).is_ok()
            {
                self.reporter.note(format!("a mirror is dropped: {error}"));
                continue;
            }
            if error.retry != Retry::Never && self.mirrors.has_fresh() {
                self.reporter.note(format!("{error}; a mirror is next"));
                continue;
            }
            self.reporter
                .wait(&mut self.attempts, error, 0, &cancellation)?;
        }
    }

    /// Begins a session with a response that has the whole file, if what is kept allows it.
    fn take_response(
        &mut self,
        (mirror, response): (usize, Box<Response>),
    ) -> Result<SessionEnd, GetError> {
        let (kept, choice) = (self.kept(), self.shared.config.kept);
        let decision = match keep::decide(&kept, &response.head, choice, self.trust) {
            Decision::Begin if keep::is_page_over(&self.replaced(), &response.head, choice) => {
                Decision::Suspicious
            }
            decision => decision,
        };
        match decision {
            Decision::Begin => self.begin(mirror, &response)?,
            Decision::GoOn => {}
            Decision::Beside => {
                self.set_aside()?;
                self.begin(mirror, &response)?;
            }
            decision => {
                let why = match kept.bytes {
                    0 => "a page came instead of the file that is here".to_owned(),
                    _ => keep::compare(&kept, &response.head),
                };
                let text = format!("{}: {why}", response.url);
                let error = GetError::passing(ErrorKind::Incomplete, text);
                let again = self.suspicions < SUSPICIONS.min(self.shared.config.retry.retries);
                if decision == Decision::Suspicious && again {
                    self.suspicions += 1;
                    let cancellation = self.shared.cancellation();
                    self.reporter
                        .wait(&mut self.attempts, error, kept.bytes, &cancellation)?;
                    return Ok(SessionEnd::Broken);
                }
                return Err(error.and("what is here is kept; --restart fetches the new one"));
            }
        }
        self.suspicions = 0;
        let is_haul = response.head.is_haul();
        let digest = response.head.digests().into_iter().next();
        self.proof.note_server(is_haul, digest);
        self.list_source = is_haul.then(|| ListSource {
            url: response.url.clone(),
            validator: Validator::of(&response.head),
        });
        self.mirrors
            .learn(mirror, response.url.clone(), Validator::of(&response.head));
        self.session(Some((mirror, response)))
    }

    /// How the file begins that is here whole and is to be updated.
    fn replaced(&self) -> Vec<u8> {
        let mut begins = Vec::new();
        if self.shared.config.existing == Existing::Update
            && let Ok(file) = File::open(self.target)
        {
            // A file that cannot be read is replaced as the user asked.
            let _ = file.take(PAGE_BEGINS_BYTES).read_to_end(&mut begins);
        }
        begins
    }

    /// What must not become fewer: of the current version, or of the one before it.
    fn kept(&self) -> Kept {
        let held = [&self.current, &self.old];
        let mut kept = held.into_iter().flatten().map(Holding::kept);
        let first = kept.next().unwrap_or_default();
        match first.bytes {
            0 => kept.next().unwrap_or(first),
            _ => first,
        }
    }

    /// An empty part file beside the one that holds what is kept.
    fn set_aside(&mut self) -> Result<(), GetError> {
        if let Some(current) = self.current.take() {
            self.old = Some(match self.old.take() {
                Some(old) if self.shared.config.kept == KeptChoice::Keep => longer(old, current)?,
                Some(old) => old,
                None => current,
            });
        }
        if self.slot == Slot::New {
            return Err(part_file::refuse_foreign(self.target));
        }
        let part = PartFile::create(self.target, Slot::New)?;
        self.current = Some(Holding::new((part, State::default())));
        Ok(())
    }

    /// The part file begins anew, with the version of this response.
    fn begin(&mut self, mirror: usize, response: &Response) -> Result<(), GetError> {
        if self.current.is_none() {
            let part = PartFile::create(self.target, self.slot)?;
            self.current = Some(Holding::new((part, State::default())));
        }
        let held = self.current.as_mut().expect("made above");
        let identity = Identity::of(&response.head);
        // Not where a redirect led: that may be another host next time.
        let url = self.mirrors.url(mirror).to_string();
        held.state = State::new(url, identity, response.head.content_type.clone());
        self.list = None;
        let length = held.state.length();
        let begun = held
            .part
            .begin(&held.state, length, self.shared.config.preallocation);
        begun.inspect_err(|_| {
            // An empty file and a state that claims nothing are of no use to anybody.
            if let Some(held) = self.current.take() {
                held.part.discard();
            }
        })
    }

    fn session(&mut self, first: Option<(usize, Box<Response>)>) -> Result<SessionEnd, GetError> {
        let held = self.current.as_mut().expect("a session fills a part file");
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
            trust: self.trust,
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
        end.map_err(|error| match (error.is_stop(), can_go_on) {
            (true, true) => error.and(format!(
                "{kept} bytes are kept: the same command goes on from there"
            )),
            (true, false) => {
                error.and("the server cannot go on in the middle: the same command starts over")
            }
            _ => error,
        })
    }

    /// The whole file is here with a wrong sum. It is kept, and fetched anew beside it only where
    /// mirrors may be to blame, or the user asked to.
    fn wrong_checksum(&mut self, error: GetError) -> Result<Opening, GetError> {
        let is_whole = |held: &Holding| held.state.whole;
        if !self.current.as_ref().is_some_and(is_whole) {
            // A block came wrong again and again; whatever else there is stays.
            return Err(error);
        }
        if let Some(opening) = self.mend()? {
            return Ok(opening);
        }
        let from_before = self.received == 0;
        if let Some(held) = &mut self.current {
            held.has_wrong_checksum = true;
            // Were this to fail, the bytes are only fetched again.
            let _ = held
                .part
                .sync_data()
                .and_then(|()| held.part.save(&held.state));
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
            [] => "that is what the server says of its file; what came is kept, --restart fetches it anew",
            _ => {
                "what came is kept: the same command with the right sum finishes it without the \
                 network, --restart fetches it anew"
            }
        }))
    }

    /// Has each block of the whole file held against the server's list, so that those that differ
    /// are fetched again; `None` if that cannot help.
    fn mend(&mut self) -> Result<Option<Opening>, GetError> {
        let Some(held) = &mut self.current else {
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

    /// Holds a whole file without a sum against the server's digest.
    fn prove(&mut self) -> Result<(), GetError> {
        let Some(held) = &self.current else {
            return Ok(());
        };
        let identity = held.state.identity.as_ref();
        let validator = identity.and_then(|it| it.validator.as_ref());
        let file = (held.part.file(), held.part.path());
        let version = (validator, held.state.done.total());
        let took = self.began.elapsed();
        self.proof.hold(self.shared, self.url, file, version, took)
    }

    /// Of two attempts that nothing can go on with, the longer one stays.
    fn give_up(&mut self, error: GetError) -> GetError {
        let current = self.current.take();
        if let Some(held) = current
            && held.part.slot() == Slot::New
            && held
                .state
                .identity
                .as_ref()
                .is_none_or(|known| !known.is_enough(self.trust))
            && let Some(Err(failed)) = self.old.take().map(|old| longer(old, held))
        {
            return error.and(failed);
        }
        error
    }

    fn finish(mut self) -> Result<Summary, GetError> {
        let held = self.current.take().expect("a whole file has a part file");
        if !self.takes_page && self.is_listing(&held) {
            held.part.discard();
            return Err(GetError::directory(self.url, self.url.as_directory()));
        }
        let bytes = held.state.done.total();
        if let Some(old) = &self.old
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
        if let Some(old) = self.old {
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

impl Transfer<'_> {
    /// The file is a page about a directory, from a server that gives it without a slash.
    fn is_listing(&self, held: &Holding) -> bool {
        let content_type = held.state.content_type.as_deref().unwrap_or_default();
        let name = self.url.url().path().to_ascii_lowercase();
        let may_be = held.state.done.total() <= MAX_LISTING_BYTES
            && content_type.to_ascii_lowercase().starts_with("text/html")
            && ![".html", ".htm"].iter().any(|it| name.ends_with(it));
        let mut file = held.part.file();
        may_be && file.rewind().is_ok() && links::is_listing(file)
    }
}

/// The one with more bytes, in the first slot; the other one goes.
fn longer(old: Holding, new: Holding) -> Result<Holding, GetError> {
    if new.kept().bytes <= old.kept().bytes {
        new.part.discard();
        return Ok(old);
    }
    let part = new.part.replace(&old.part)?;
    Ok(Holding { part, ..new })
}

const SHOW_HASHING_EVERY: Duration = Duration::from_millis(100);
/// Responses that look like a passing fault are believed after so many retries.
const SUSPICIONS: u32 = 3;
/// Where a page says that it is one.
const PAGE_BEGINS_BYTES: u64 = 256;
/// No page about a directory is taken for one beyond this.
const MAX_LISTING_BYTES: u64 = 64 << 20;
/// A file that has become another one this often is not going to hold still.
const MAX_VERSIONS: u32 = 5;
