//! One file from its address to its name: versions come and go until one is whole.

mod coordinator;
mod plan;
mod run;
mod scaler;
mod segment;
mod session;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

use crate::http::client_response::Framing;

use super::answer::{self, Identity, Validator};
use super::client::{Answer, Ask, Method};
use super::config::{Job, Target};
use super::destination::{self, Destination, Standing};
use super::error::{Again, Blame, GetError};
use super::event::{Event, Summary};
use super::extents::Extents;
use super::mirrors::Mirrors;
use super::part_file::{PartFile, State};
use super::retry::Attempts;
use super::sequential::{self, name_protocol};
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use super::verify::Sum;
use plan::Plan;
use session::{Session, SessionEnd};

/// What became of a file.
#[derive(Debug)]
pub(super) enum Fetched {
    Whole(Summary),
    Skipped(PathBuf),
}

/// Fetches the file of `job`.
pub(super) fn fetch(shared: &Shared, reporter: &Reporter, job: &Job) -> Result<Fetched, GetError> {
    let target = match destination::choose(shared, reporter, job)? {
        Destination::Stream => {
            return sequential::fetch(shared, reporter, job, (Path::new("-"), &mut io::stdout()))
                .map(Fetched::Whole);
        }
        Destination::Device(path) => {
            let opened = std::fs::OpenOptions::new().write(true).open(&path);
            let mut file = opened.map_err(|error| GetError::local("open", &path, &error))?;
            return sequential::fetch(shared, reporter, job, (&path, &mut file))
                .map(Fetched::Whole);
        }
        Destination::File(path) => path,
    };
    if destination::look(shared, reporter, job, &target)? == Standing::Same {
        return Ok(Fetched::Skipped(target));
    }
    let sums = destination::sums_for(shared, &target)?;
    if let (Target::Below(_), Some(directory)) = (&job.target, target.parent()) {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| GetError::local("make", directory, &error))?;
    }
    let fetched = match &job.source {
        Source::Http(url) => {
            let urls = [url].into_iter().chain(&job.mirrors).cloned();
            Transfer::new(shared, reporter, url, Mirrors::new(urls), &target, &sums).run()
        }
        Source::Name(url) => name_protocol::fetch(shared, reporter, url, &target, &sums),
    };
    fetched.map(Fetched::Whole)
}

/// A file on its way over HTTP.
struct Transfer<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a HttpUrl,
    mirrors: Mirrors,
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
    /// Its answer, from the mirror of this index, which is here already.
    Answer(usize, Box<Answer>),
    /// What an earlier run left, of the file that the mirror of this index has.
    Resume(usize, Identity, Extents),
}

impl<'a> Transfer<'a> {
    fn new(
        shared: &'a Shared,
        reporter: &'a Reporter,
        url: &'a HttpUrl,
        mirrors: Mirrors,
        target: &'a Path,
        sums: &'a [Sum],
    ) -> Self {
        let attempts = Attempts::new(shared.config.retry);
        let began = Instant::now();
        Self {
            shared,
            reporter,
            url,
            mirrors,
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
                Opening::Resume(mirror, identity, done) => {
                    let validator = Some(identity.validator.clone());
                    let url = self.mirrors.url(mirror).clone();
                    self.mirrors.learn(mirror, url.clone(), validator);
                    let modified = identity.last_modified.clone();
                    let length = Some(identity.length);
                    let part = part.as_ref().expect("what is resumed is there");
                    let version = Version {
                        url: &url,
                        identity: Some(identity),
                        length,
                    };
                    let end = self.session(part, version, done, None);
                    end.map(|end| (end, length, modified))
                }
                opening => {
                    let answer = match opening {
                        Opening::Answer(mirror, answer) => (mirror, answer),
                        _ => self.first_answer()?,
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
                    if !self.mirrors.only_first() {
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
                    self.mirrors.forget();
                    opening = match answer {
                        Some((mirror, answer)) => Opening::Answer(mirror, answer),
                        None => Opening::Ask,
                    };
                }
            }
        }
    }

    fn left_over(&self) -> Result<(Option<PartFile>, Opening), GetError> {
        let Some((part, state)) = PartFile::left_over(self.target)? else {
            return Ok((None, Opening::Ask));
        };
        let known = state.and_then(
            |State {
                 url,
                 identity,
                 done,
                 ..
             }| { Some(Opening::Resume(self.mirrors.find(&url)?, identity?, done)) },
        );
        let opening = match known {
            Some(resume) => resume,
            None => {
                self.reporter.note(super::part_file::NOT_RESUMED.to_owned());
                Opening::Ask
            }
        };
        Ok((Some(part), opening))
    }

    fn first_answer(&mut self) -> Result<(usize, Box<Answer>), GetError> {
        let watch = self.shared.watch();
        loop {
            let mirror = self
                .mirrors
                .pick()
                .cloned()
                .expect("the last mirror is never dropped");
            let ask = Ask {
                url: &mirror.url,
                method: Method::Get,
                accept: "*/*",
                range: None,
            };
            let error = match self.shared.client.ask(&ask, &watch) {
                Ok(answer) if answer.head.status == 200 => {
                    return Ok((mirror.index, Box::new(answer)));
                }
                Ok(Answer { head, url, .. }) => answer::refusal(&head, &url, SystemTime::now()),
                Err(error) => error,
            };
            self.mirrors.failed(mirror.index);
            if error.again == Again::Never
                && error.blame != Blame::Interrupted
                && self.mirrors.drop_mirror(mirror.index).is_ok()
            {
                self.reporter.note(format!("a mirror is dropped: {error}"));
                continue;
            }
            if error.again != Again::Never && self.mirrors.has_fresh() {
                self.reporter.note(format!("{error}; a mirror is next"));
                continue;
            }
            self.reporter.wait(&mut self.attempts, error, 0, &watch)?;
        }
    }

    fn first_session(
        &mut self,
        part: &mut Option<PartFile>,
        (mirror, answer): (usize, Box<Answer>),
    ) -> Result<(SessionEnd, Option<u64>, Option<String>), GetError> {
        let part = match part {
            Some(part) => part,
            None => part.insert(PartFile::create(self.target)?),
        };
        let identity = Identity::of(&answer.head);
        let length = match answer.head.framing() {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        // Not where a redirect led: that may be another host next time.
        let url = self.mirrors.url(mirror).clone();
        self.mirrors
            .learn(mirror, answer.url.clone(), Validator::of(&answer.head));
        let state = State::new(url.to_string(), identity.clone(), Extents::default());
        part.begin(&state, length)?;
        let modified = answer.head.last_modified.clone();
        let version = Version {
            url: &url,
            identity,
            length,
        };
        let end = self.session(part, version, Extents::default(), Some((mirror, answer)))?;
        Ok((end, length, modified))
    }

    fn session(
        &mut self,
        part: &PartFile,
        version: Version<'_>,
        done: Extents,
        first: Option<(usize, Box<Answer>)>,
    ) -> Result<SessionEnd, GetError> {
        let Version {
            url,
            identity,
            length,
        } = version;
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
            url: url.to_string(),
            identity,
            sums: self.sums,
            plan: Mutex::new(Plan::new(length, done)),
            writing_nanos: AtomicU64::new(0),
        };
        let end = run::run(&session, &mut self.mirrors, first, &mut self.attempts);
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
        part: PartFile,
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

/// One version of the file.
struct Version<'a> {
    /// The address whose version it is.
    url: &'a HttpUrl,
    identity: Option<Identity>,
    length: Option<u64>,
}

/// A file that has become another one this often is not going to hold still.
const MAX_VERSIONS: u32 = 5;
