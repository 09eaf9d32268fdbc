//! A file into a stream: standard output, a device, a FIFO. Written bytes cannot be taken back, so
//! a broken download resumes exactly or not at all.

pub(super) mod device;
pub(super) mod name_protocol;
mod proof;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::http::client_response::Framing;
use crate::sys::buffer::Buffer;

use super::checksum::Verifier;
use super::client::body::Body;
use super::client::cancellation::Cancellation;
use super::client::refusal;
use super::client::{Method, RangeRequest, Request, Response};
use super::config::{DigestChoice, Job};
use super::destination::checksums_for;
use super::error::{ErrorKind, GetError};
use super::event::{Event, Summary};
use super::part_file::validate::{Identity, Trust, Validator, Verdict};
use super::server_digest;
use super::shared::attempts::Attempts;
use super::shared::rate::RateFloor;
use super::shared::{Reporter, Shared};
use super::source::{HttpUrl, Source};
use proof::Proof;

/// Fetches the file of `job` into `out`, which is called `name`.
///
/// # Errors
/// Incomplete, too, if the reader of `out` ends before the file does.
pub(super) fn fetch(
    shared: &Shared,
    reporter: &Reporter,
    job: &Job,
    (name, out): (&Path, &mut dyn Write),
) -> Result<Summary, GetError> {
    let began = Instant::now();
    let checksums = checksums_for(shared, job, name)?;
    let proof = match checksums[..] {
        [] => Proof::None,
        _ => Proof::Sums(Verifier::new(&checksums)),
    };
    let mut sink = Sink {
        name,
        out,
        proof,
        written: 0,
    };
    let mut attempts = Attempts::new(shared.config.retry);
    match &job.source {
        Source::Http(url) => Flow {
            shared,
            reporter,
            url,
            cancellation: shared.cancellation(),
            has_sums: !checksums.is_empty(),
        }
        .run(&mut sink, &mut attempts)?,
        Source::Name(url) => {
            name_protocol::check(shared, url, &checksums)?;
            let take = |bytes: &[u8]| sink.write(bytes);
            name_protocol::receive(shared, url, &shared.cancellation(), take)?;
        }
    }
    let bytes = sink.written;
    let flushed = sink.out.flush();
    flushed.map_err(|error| sink.blame(error))?;
    let verified = sink.proof.finish(shared, began.elapsed())?;
    let (elapsed, retries) = (began.elapsed(), attempts.retries());
    Ok(Summary {
        name: name.to_owned(),
        bytes,
        received: bytes,
        elapsed,
        retries,
        verified,
    })
}

/// How a response ended, if not in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The block was written whole.
    Whole,
    /// The source ended early.
    Clipped,
}

struct Sink<'a> {
    name: &'a Path,
    out: &'a mut dyn Write,
    proof: Proof,
    written: u64,
}

impl Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        let written = self.out.write_all(bytes);
        written.map_err(|error| self.blame(error))?;
        self.proof.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn blame(&self, error: io::Error) -> GetError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            let text = format!("{}: its reader ended first", self.name.display());
            return GetError::new(ErrorKind::Incomplete, text);
        }
        let own = error.downcast::<GetError>();
        own.unwrap_or_else(|it| GetError::local("write", self.name, &it))
    }
}

struct Flow<'a> {
    shared: &'a Shared,
    reporter: &'a Reporter,
    url: &'a HttpUrl,
    cancellation: Cancellation,
    /// The user gave sums.
    has_sums: bool,
}

impl Flow<'_> {
    fn run(&self, sink: &mut Sink<'_>, attempts: &mut Attempts) -> Result<(), GetError> {
        let mut identity = None;
        self.wait_for_digest()?;
        loop {
            let began_at = sink.written;
            let error = match self.attempt(sink, &mut identity) {
                Ok(End::Whole) => return Ok(()),
                Ok(End::Clipped) if sink.written - began_at >= MIN_CLIPPED_BYTES => continue,
                Ok(End::Clipped) => GetError::passing(ErrorKind::Incomplete, CLIPPED),
                Err(error) => error,
            };
            if sink.written > 0 && identity.is_none() {
                return Err(error.and("what was written cannot be taken back to start over"));
            }
            self.reporter
                .wait(attempts, error, sink.written, &self.cancellation)?;
        }
    }

    /// Waits until the server has a digest, if one is required: what is written cannot be taken
    /// back. The first response decides whether it has one at all.
    fn wait_for_digest(&self) -> Result<(), GetError> {
        let choice = self.shared.config.digests;
        if choice == DigestChoice::Required && !self.has_sums {
            let timeout = server_digest::timeout(choice, Duration::ZERO);
            let digest = server_digest::wait_for(self.shared, self.url, |_| true, timeout);
            digest.or_else(|error| match error.is_stop() {
                true => Err(error),
                false => Ok(None),
            })?;
        }
        Ok(())
    }

    fn attempt(
        &self,
        sink: &mut Sink<'_>,
        identity: &mut Option<Identity>,
    ) -> Result<End, GetError> {
        let range = identity
            .as_ref()
            .filter(|_| sink.written > 0)
            .map(|identity| RangeRequest {
                start: sink.written,
                end: identity.length,
                if_range: identity.validator.as_ref().map(Validator::as_if_range),
            });
        let request = Request {
            url: self.url,
            method: Method::Get,
            accept: "*/*",
            range,
        };
        let Response { head, body, url } = self.shared.client.send(&request, &self.cancellation)?;
        match (head.status, range, identity.as_ref()) {
            (200 | 203, None, _) => {
                if !self.has_sums {
                    sink.proof = Proof::offered(self.shared, &url, &head)?;
                }
                *identity = Identity::of(&head).filter(|it| it.is_enough(Trust::Signs));
                let length = match head.framing() {
                    Framing::Length(length) => Some(length),
                    Framing::Chunked | Framing::UntilClose => None,
                };
                self.reporter.send(|file| Event::Started {
                    file,
                    name: sink.name.to_owned(),
                    url: self.url.to_string(),
                    length,
                    resumed: 0,
                });
                self.receive(sink, (body, length), length)
            }
            (200 | 203 | 206 | 416, Some(range), Some(identity)) => {
                match identity.judge(
                    &head,
                    (range.start, range.end),
                    identity.validator.as_ref(),
                    Trust::Signs,
                ) {
                    Verdict::Part { end } => {
                        match self.receive(sink, (body, Some(end)), Some(identity.length))? {
                            End::Whole if sink.written < identity.length => Ok(End::Clipped),
                            end => Ok(end),
                        }
                    }
                    _ => {
                        let text =
                            format!("{url}: the server cannot go on in the middle of this file");
                        Err(GetError::new(ErrorKind::Incomplete, text))
                    }
                }
            }
            _ => Err(refusal::of_response(&head, &url, SystemTime::now())),
        }
    }

    /// Receives the body that ends at `end` of the file, where that is known.
    fn receive(
        &self,
        sink: &mut Sink<'_>,
        (mut body, end): (Body, Option<u64>),
        length: Option<u64>,
    ) -> Result<End, GetError> {
        let mut buffer = Buffer::new(256 << 10);
        let mut shown = Instant::now();
        let mut floor = RateFloor::new(self.shared.config.min_rate);
        let began_at = sink.written;
        loop {
            // Chunks may hold more, or less, than their Content-Range.
            let left = end.map_or(u64::MAX, |end| end - sink.written);
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            if wanted == 0 {
                break;
            }
            let allowed = self.shared.rate_limit.allow(wanted, &self.cancellation)?;
            let count = body.read(&mut buffer[..allowed], &self.cancellation)?;
            self.shared.rate_limit.spend(count);
            if count == 0 && end.is_some() {
                return Ok(End::Clipped);
            }
            if count == 0 {
                break;
            }
            sink.write(&buffer[..count])?;
            floor.observe(sink.written - began_at)?;
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                let done = sink.written;
                self.reporter.send(|file| Event::Progress {
                    file,
                    done,
                    length,
                    connections: 1,
                    extents: vec![(0, done)],
                });
            }
        }
        self.reporter.end_of(body);
        Ok(End::Whole)
    }
}

/// Less than this at a time is not worth its request.
const MIN_CLIPPED_BYTES: u64 = 64 * 1024;
const CLIPPED: &str = "the server sends less than was asked for";
const SHOW_EVERY: Duration = Duration::from_millis(200);
