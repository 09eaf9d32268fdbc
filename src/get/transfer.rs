//! One file from its address to its name: versions come and go until one is whole.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use crate::protocol::response::{Framing, Head};

use super::answer::{self, Identity, Validator};
use super::client::{Answer, Ask, Method};
use super::error::{Again, Blame, GetError};
use super::event::{Event, Summary};
use super::extents::Extents;
use super::leads::Leads;
use super::part::{self, Part, State};
use super::plan::Plan;
use super::retry::Attempts;
use super::session::{Session, SessionEnd};
use super::source::{HttpUrl, Source};
use super::verify::Sum;
use super::{Existing, Job, Naming, Reporter, Shared, Target, name_protocol, names, stream};

/// What became of a file.
#[derive(Debug)]
pub(super) enum Fetched {
    Whole(Summary),
    Skipped(PathBuf),
}

/// Fetches the file of `job`.
pub(super) fn fetch(shared: &Shared, reporter: &Reporter, job: &Job) -> Result<Fetched, GetError> {
    let target = match choose_target(shared, job)? {
        Destination::Stream => {
            return stream::fetch(shared, reporter, job, &mut io::stdout()).map(Fetched::Whole);
        }
        Destination::Device(path) => {
            let opened = std::fs::OpenOptions::new().write(true).open(&path);
            let mut file = opened.map_err(|error| GetError::local("open", &path, &error))?;
            return stream::fetch(shared, reporter, job, &mut file).map(Fetched::Whole);
        }
        Destination::File(path) => path,
    };
    if is_there(shared, job, &target)? == Standing::Same {
        return Ok(Fetched::Skipped(target));
    }
    let sums = sums_for(shared, &target)?;
    if let (Target::Below(_), Some(directory)) = (&job.target, target.parent()) {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| GetError::local("make", directory, &error))?;
    }
    let fetched = match &job.source {
        Source::Http(url) => {
            let urls = [url].into_iter().chain(&job.mirrors).cloned();
            Transfer::new(shared, reporter, url, Leads::new(urls), &target, &sums).run()
        }
        Source::Name(url) => name_protocol::fetch(shared, reporter, url, &target, &sums),
    };
    fetched.map(Fetched::Whole)
}

/// Where the bytes go.
enum Destination {
    Stream,
    /// A device or FIFO: written to, never renamed over.
    Device(PathBuf),
    File(PathBuf),
}

fn choose_target(shared: &Shared, job: &Job) -> Result<Destination, GetError> {
    let relative = match &job.target {
        Target::Stream => return Ok(Destination::Stream),
        Target::Path(path) => {
            let special = path.metadata().is_ok_and(|found| {
                let kind = found.file_type();
                kind.is_char_device() || kind.is_fifo()
            });
            if special {
                return Ok(Destination::Device(path.clone()));
            }
            return Ok(Destination::File(path.clone()));
        }
        Target::Below(relative) => relative.clone(),
        Target::Named => PathBuf::from(server_name(shared, &job.source)?),
    };
    // "./" before every name helps nobody.
    let here = shared.config.directory == Path::new(".");
    let path = if here {
        relative
    } else {
        shared.config.directory.join(relative)
    };
    Ok(Destination::File(path))
}

fn server_name(shared: &Shared, source: &Source) -> Result<String, GetError> {
    let (path, url) = match source {
        Source::Name(url) => (
            String::from_utf8_lossy(&url.name).into_owned(),
            url.to_string(),
        ),
        Source::Http(url) => {
            if shared.config.naming == Naming::Remote
                && let Some(name) = ask_name(shared, url)?
            {
                return Ok(name);
            }
            (url.url().path().to_owned(), url.to_string())
        }
    };
    let name = match source {
        Source::Name(_) => names::safe_file_name(&path),
        Source::Http(_) => names::name_from_path(&path),
    };
    name.ok_or_else(|| {
        let text = format!("{url} names no file: give -o FILE, or --recursive for a directory");
        GetError::new(Blame::Usage, text)
    })
}

/// The name in `Content-Disposition`. A HEAD request of its own, so that what an earlier run left
/// under that name can be resumed.
fn ask_name(shared: &Shared, url: &HttpUrl) -> Result<Option<String>, GetError> {
    let head = head(shared, url)?;
    let disposition = head
        .as_ref()
        .and_then(|head| head.content_disposition.as_deref());
    Ok(disposition.and_then(names::name_from_disposition))
}

/// What a HEAD request says; `None` when the server does not do HEAD.
fn head(shared: &Shared, url: &HttpUrl) -> Result<Option<Head>, GetError> {
    let mut attempts = Attempts::new(shared.config.retry);
    let watch = shared.watch();
    let ask = Ask {
        url,
        method: Method::Head,
        accept: "*/*",
        range: None,
    };
    loop {
        let error = match shared.client.ask(&ask, &watch) {
            Ok(Answer { head, .. }) if matches!(head.status, 405 | 501) => return Ok(None),
            Ok(Answer { head, body, url }) if head.status == 200 => {
                if let Ok(Some(wire)) = body.finish() {
                    shared.client.keep(&url, wire);
                }
                return Ok(Some(head));
            }
            Ok(Answer { head, url, .. }) => answer::refusal(&head, &url, SystemTime::now()),
            Err(error) => error,
        };
        watch.sleep(attempts.failed(error, 0)?)?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Needed,
    Same,
}

fn is_there(shared: &Shared, job: &Job, target: &Path) -> Result<Standing, GetError> {
    let found = match target.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Needed),
        Err(error) => return Err(GetError::local("look at", target, &error)),
    };
    match (shared.config.existing, &job.source) {
        (Existing::Overwrite, _) if !found.is_dir() => Ok(Standing::Needed),
        (Existing::Skip, Source::Http(url)) if found.is_file() => {
            let head = head(shared, url)?.unwrap_or_default();
            let same_size = head.content_length == Some(found.len());
            let theirs = modified(&head);
            let same_time = theirs.is_some_and(|theirs| {
                // HTTP's dates are whole seconds.
                let seconds = |time: SystemTime| {
                    time.duration_since(SystemTime::UNIX_EPOCH)
                        .map_or(0, |since| since.as_secs())
                };
                found
                    .modified()
                    .is_ok_and(|ours| seconds(ours) == seconds(theirs))
            });
            if same_size && same_time {
                return Ok(Standing::Same);
            }
            Err(part::refuse_existing(target).and("its size or time is not the server's"))
        }
        _ => Err(part::refuse_existing(target)),
    }
}

fn modified(head: &Head) -> Option<SystemTime> {
    httpdate::parse_http_date(head.last_modified.as_deref()?).ok()
}

pub(super) fn sums_for(shared: &Shared, target: &Path) -> Result<Vec<Sum>, GetError> {
    let mut sums = shared.config.sums.clone();
    if let Some(file) = &shared.config.sum_file {
        let below = target
            .strip_prefix(&shared.config.directory)
            .unwrap_or(target);
        sums.push(file.find(below).ok_or_else(|| {
            let text = format!("the file of sums has none for {}", below.display());
            GetError::new(Blame::Verification, text)
        })?);
    }
    Ok(sums)
}

/// A file on its way over HTTP.
struct Transfer<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a HttpUrl,
    leads: Leads,
    target: &'a Path,
    sums: &'a [Sum],
    attempts: Attempts,
    began: Instant,
    received: u64,
}

/// What a session begins with.
enum Opening {
    /// A request for the whole file.
    Ask,
    /// Its answer, which is here already.
    Answer(Box<Answer>),
    /// What an earlier run left.
    Resume(Identity, Extents),
}

impl<'a> Transfer<'a> {
    fn new(
        shared: &'a Shared,
        reporter: &'a Reporter,
        url: &'a HttpUrl,
        leads: Leads,
        target: &'a Path,
        sums: &'a [Sum],
    ) -> Self {
        let attempts = Attempts::new(shared.config.retry);
        let began = Instant::now();
        Self {
            shared,
            reporter,
            url,
            leads,
            target,
            sums,
            attempts,
            began,
            received: 0,
        }
    }

    fn run(mut self) -> Result<Summary, GetError> {
        let (mut part, mut opening) = self.left_over()?;
        let mut versions = 0;
        loop {
            let ended = match opening {
                Opening::Resume(identity, done) => {
                    let lead = self.leads.pick().map_or(0, |lead| lead.index);
                    let validator = Some(identity.validator.clone());
                    self.leads.learn(lead, self.url.clone(), validator);
                    let modified = identity.last_modified.clone();
                    let part = part.as_ref().expect("what is resumed is there");
                    let length = Some(identity.length);
                    let end = self.session(part, Some(identity), length, done, None);
                    end.map(|end| (end, length, modified))
                }
                opening => {
                    let answer = match opening {
                        Opening::Answer(answer) => answer,
                        _ => Box::new(self.first_answer()?),
                    };
                    self.first_session(&mut part, answer)
                }
            };
            let ended = match ended {
                Err(error) if error.blame == Blame::Verification => {
                    // Nobody knows which bytes are wrong, so none are worth keeping.
                    if let Some(part) = part.take() {
                        part.discard();
                    }
                    if !self.leads.only_first() {
                        return Err(error);
                    }
                    let why = format!("{error}; no mirrors any more");
                    (SessionEnd::StartOver { why, answer: None }, None, None)
                }
                ended => ended?,
            };
            match ended {
                (SessionEnd::Whole, length, modified) => {
                    let part = part.take().expect("a whole file has a part file");
                    return self.finish(part, length, modified.as_deref());
                }
                (SessionEnd::StartOver { why, answer }, ..) => {
                    versions += 1;
                    if versions >= MAX_VERSIONS {
                        let text = format!("{}: {why}, {versions} times", self.url);
                        return Err(GetError::new(Blame::Incomplete, text));
                    }
                    self.reporter.note(format!("{why}: starting over"));
                    self.leads.forget();
                    opening = answer.map_or(Opening::Ask, Opening::Answer);
                }
            }
        }
    }

    fn left_over(&self) -> Result<(Option<Part>, Opening), GetError> {
        let Some((part, state)) = Part::left_over(self.target)? else {
            return Ok((None, Opening::Ask));
        };
        let opening = match state {
            Some(State {
                url,
                identity: Some(identity),
                done,
                ..
            }) if self.leads.know(&url) => Opening::Resume(identity, done),
            _ => {
                self.reporter
                    .note("what an earlier run left cannot be resumed: starting over".to_owned());
                Opening::Ask
            }
        };
        Ok((Some(part), opening))
    }

    fn first_answer(&mut self) -> Result<Answer, GetError> {
        let watch = self.shared.watch();
        loop {
            let lead = self
                .leads
                .pick()
                .cloned()
                .expect("the last lead is never dropped");
            let ask = Ask {
                url: &lead.url,
                method: Method::Get,
                accept: "*/*",
                range: None,
            };
            let error = match self.shared.client.ask(&ask, &watch) {
                Ok(answer) if answer.head.status == 200 => {
                    let validator = Validator::of(&answer.head);
                    self.leads.learn(lead.index, answer.url.clone(), validator);
                    return Ok(answer);
                }
                Ok(Answer { head, url, .. }) => answer::refusal(&head, &url, SystemTime::now()),
                Err(error) => error,
            };
            self.leads.failed(lead.index);
            if error.again == Again::Never
                && error.blame != Blame::Interrupted
                && self.leads.drop_lead(lead.index).is_ok()
            {
                self.reporter.note(format!("a mirror is dropped: {error}"));
                continue;
            }
            let text = error.to_string();
            let wait = self.attempts.failed(error, 0)?;
            if !self.leads.has_fresh() {
                self.reporter.retry(text, wait);
                watch.sleep(wait)?;
            }
        }
    }

    fn first_session(
        &mut self,
        part: &mut Option<Part>,
        answer: Box<Answer>,
    ) -> Result<(SessionEnd, Option<u64>, Option<String>), GetError> {
        let part = match part {
            Some(part) => part,
            None => part.insert(Part::create(self.target)?),
        };
        let identity = Identity::of(&answer.head);
        let length = match answer.head.framing() {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let lead = self.leads.pick().map_or(0, |lead| lead.index);
        self.leads
            .learn(lead, answer.url.clone(), Validator::of(&answer.head));
        let state = State::new(self.url.to_string(), identity.clone(), Extents::default());
        part.begin(&state, length)?;
        let modified = answer.head.last_modified.clone();
        let end = self.session(part, identity, length, Extents::default(), Some(answer))?;
        Ok((end, length, modified))
    }

    fn session(
        &mut self,
        part: &Part,
        identity: Option<Identity>,
        length: Option<u64>,
        done: Extents,
        first: Option<Box<Answer>>,
    ) -> Result<SessionEnd, GetError> {
        let resumed = done.total();
        self.reporter.send(|file| Event::Started {
            file,
            name: self.target.to_owned(),
            url: self.url.to_string(),
            length,
            resumed,
        });
        let session = Session {
            shared: self.shared,
            reporter: self.reporter,
            part,
            url: self.url.to_string(),
            identity,
            sums: self.sums,
            plan: Mutex::new(Plan::new(length, done)),
        };
        let end = session.run(&mut self.leads, first, &mut self.attempts);
        self.received += session.plan().received();
        let kept = session.plan().done().total();
        end.map_err(|error| match (error.blame, &session.identity) {
            (Blame::Interrupted, Some(_)) => error.and(format!(
                "{kept} bytes are kept: the same command goes on from there"
            )),
            (Blame::Interrupted, None) => {
                error.and("the server cannot go on in the middle: the same command starts over")
            }
            _ => error,
        })
    }

    fn finish(
        self,
        part: Part,
        length: Option<u64>,
        modified: Option<&str>,
    ) -> Result<Summary, GetError> {
        let modified = modified.and_then(|text| httpdate::parse_http_date(text).ok());
        let bytes = length.unwrap_or(self.received);
        let name = part.finish(modified, self.shared.config.existing)?;
        Ok(Summary {
            name,
            bytes,
            received: self.received,
            elapsed: self.began.elapsed(),
            retries: self.attempts.retries(),
            verified: !self.sums.is_empty(),
        })
    }
}

/// A file that has become another one this often is not going to hold still.
const MAX_VERSIONS: u32 = 5;
