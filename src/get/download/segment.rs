//! A connection's work: request a range, check the response, write its bytes to the file.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::block_ledger::{ListSource, ListState};
use super::plan::{Claim, SegmentId};
use super::session::Session;
use crate::get::client::body::{Body, Mover};
use crate::get::client::cancellation::Cancellation;
use crate::get::client::refusal;
use crate::get::client::{Method, PreparedConnection, RangeRequest, Request, Response};
use crate::get::config::ReceiveChoice;
use crate::get::download::mirrors::Mirror;
use crate::get::error::{ErrorKind, GetError};
use crate::get::part_file::extents::Extent;
use crate::get::part_file::validate::{Identity, Trust, Validator, Verdict};
use crate::get::source::HttpUrl;
use crate::http::client_response::Head;

/// A segment with everything its thread needs.
#[derive(Debug)]
pub(crate) struct Segment<'s> {
    pub(crate) session: &'s Session<'s>,
    pub(crate) id: SegmentId,
    pub(crate) mirror: Mirror,
    pub(crate) cancellation: Cancellation,
    pub(crate) work: Work,
}

/// The source of a segment's bytes.
#[derive(Debug)]
pub(crate) enum Work {
    /// A response with the whole file, whose body has not been touched.
    Take(Box<Response>),
    /// The plan has a range for the connection.
    Request,
}

/// How a segment ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) id: SegmentId,
    pub(crate) mirror: usize,
    pub(crate) came: Came,
    pub(crate) outcome: Outcome,
}

/// The outcome of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    /// Bytes.
    pub(crate) received: u64,
    /// The server sent less than requested, and ended the response itself.
    pub(crate) clipped: bool,
}

/// See [`Report`].
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its bytes are in the file; the address answered from here, under this validator.
    Through(Box<HttpUrl>, Option<Validator>),
    /// The session stopped the segment.
    Stopped,
    /// The line, the server or the file failed.
    Failed(GetError),
    /// The server sent the whole file instead, and it is the same.
    Whole(Box<Response>),
    /// The file is another one now; perhaps with its first response.
    Changed(Option<Box<Response>>),
    /// The server's ranges, or its lengths, are unreliable.
    Wrong(String),
    /// The mirror's file is not the same.
    Unfit(String),
    /// Nothing shows so far that it is; a list of blocks, which is sought, may.
    Unproven(String),
}

impl From<GetError> for Outcome {
    fn from(error: GetError) -> Self {
        match error.is_stop() {
            true => Self::Stopped,
            false => Self::Failed(error),
        }
    }
}

impl Segment<'_> {
    /// Does the work, and reports its end.
    pub(crate) fn run(self) -> Report {
        let (id, mirror) = (self.id, self.mirror.index);
        let mut came = Came::default();
        let outcome = match self.work_through(&mut came) {
            Ok((url, validator)) => Outcome::Through(Box::new(url), validator),
            Err(outcome) => outcome,
        };
        Report {
            id,
            mirror,
            came,
            outcome,
        }
    }

    /// Returns the address that answered, and under which validator.
    fn work_through(self, came: &mut Came) -> Result<(HttpUrl, Option<Validator>), Outcome> {
        let Self {
            session,
            id,
            mirror,
            cancellation,
            work,
        } = self;
        let (response, start, validator) = match work {
            Work::Take(response) => (response, 0, mirror.validator),
            Work::Request => {
                let Some(identity) = &session.identity else {
                    let why = "a file without a validator has no ranges";
                    return Err(Outcome::Wrong(why.to_owned()));
                };
                let prepared = session
                    .shared
                    .client
                    .prepare(&mirror.current, &cancellation)?;
                let Some(extent) = session.plan().assign(id) else {
                    session.shared.client.put_back(&mirror.current, prepared);
                    return Err(Outcome::Stopped);
                };
                let response = request(session, prepared, &mirror, extent, &cancellation)?;
                let part = judge(session, identity, &mirror, response, extent)?;
                session.plan().clip(id, part.end);
                came.clipped = part.end < extent.1;
                (part.response, extent.0, part.validator)
            }
        };
        let Response { mut body, url, .. } = *response;
        let from = (id, mirror.index);
        receive(session, from, &mut body, start, came, &cancellation)?;
        if session.plan().room(id) == 0
            && let Some(connection) = session.reporter.end_of(body)
        {
            session.shared.client.keep(&url, connection);
        }
        Ok((url, validator))
    }
}

fn request(
    session: &Session<'_>,
    prepared: PreparedConnection,
    mirror: &Mirror,
    extent: Extent,
    cancellation: &Cancellation,
) -> Result<Response, GetError> {
    let if_range = mirror.validator.as_ref().map(Validator::as_if_range);
    let range = RangeRequest {
        start: extent.0,
        end: extent.1,
        if_range,
    };
    let request = Request {
        url: &mirror.current,
        method: Method::Get,
        accept: "*/*",
        range: Some(range),
    };
    session
        .shared
        .client
        .send_on(prepared, &request, cancellation)
}

/// A response with the requested bytes, from the first one.
struct Part {
    response: Box<Response>,
    end: u64,
    validator: Option<Validator>,
}

fn judge(
    session: &Session<'_>,
    identity: &Identity,
    mirror: &Mirror,
    response: Response,
    extent: Extent,
) -> Result<Part, Outcome> {
    let head = &response.head;
    if !matches!(head.status, 200 | 203 | 206 | 416) {
        return Err(refusal::of_response(head, &response.url, SystemTime::now()).into());
    }
    let trust = session.trust();
    let (end, validator) = if mirror.is_known {
        let validator = mirror.validator.clone();
        let end = match identity.judge(head, extent, validator.as_ref(), trust) {
            Verdict::Part { end } => end,
            Verdict::Whole => return Err(Outcome::Whole(Box::new(response))),
            Verdict::ChangedWhole => return Err(Outcome::Changed(Some(Box::new(response)))),
            Verdict::Changed => return Err(Outcome::Changed(None)),
            Verdict::Wrong(why) => return Err(Outcome::Wrong(why)),
        };
        (end, validator)
    } else {
        judge_stranger(session, identity, head, extent)?
    };
    if mirror.index != session.source
        && let Some(digest) = head.digests().into_iter().next()
    {
        session.mirror_digest.get_or_init(|| digest);
    }
    if head.is_haul() && session.believes_list_of(mirror.index, head) {
        session.blocks.note_source(ListSource {
            url: mirror.current.clone(),
            validator: validator.clone(),
        });
    }
    let response = Box::new(response);
    Ok(Part {
        response,
        end,
        validator,
    })
}

/// As [`Identity::judge_mirror`]; a known block list proves any mirror.
fn judge_stranger(
    session: &Session<'_>,
    identity: &Identity,
    head: &Head,
    extent: Extent,
) -> Result<(u64, Option<Validator>), Outcome> {
    let judge = |trust| identity.judge_mirror(head, extent, trust);
    judge(session.trust()).or_else(|why| match session.blocks.wait_for_answer() {
        ListState::Known(_) => judge(Trust::Checksum).map_err(Outcome::Unfit),
        // A file of another length differs whatever its blocks.
        ListState::Asked(_) | ListState::Pending if judge(Trust::Checksum).is_ok() => {
            Err(Outcome::Unproven(why))
        }
        _ => Err(Outcome::Unfit(why)),
    })
}

/// Receives until the segment is complete; its end may move closer meanwhile.
fn receive(
    session: &Session<'_>,
    (id, mirror): (SegmentId, usize),
    body: &mut Body,
    start: u64,
    came: &mut Came,
    cancellation: &Cancellation,
) -> Result<(), Outcome> {
    let mut mover = match session.shared.config.receive {
        ReceiveChoice::Auto | ReceiveChoice::Splice => Mover::splice(),
        ReceiveChoice::Copy => Mover::copy(),
    };
    let file = (session.part.file(), session.part.path());
    let mut at = start;
    // Twice the last count: a slow connection must not claim much of its rest.
    let mut ticket = MIN_TICKET_BYTES;
    loop {
        cancellation.check()?;
        let claim = session.plan().claim(id, ticket);
        let count = match claim {
            Claim::Nothing => return Ok(()),
            Claim::Skip(wanted) => {
                let wanted = session.shared.rate_limit.allow(wanted, cancellation)?;
                body.skip(wanted, cancellation)?
            }
            Claim::Write(wanted) => {
                let wanted = session.shared.rate_limit.allow(wanted, cancellation)?;
                body.receive(file, at, wanted, &mut mover, cancellation)?
            }
        };
        session.shared.rate_limit.spend(count);
        let writing = mover.take_writing().as_nanos() as u64;
        session.writing_nanos.fetch_add(writing, Ordering::Relaxed);
        if count == 0 {
            return body_ended(session, id, body, came);
        }
        ticket = (count * 2).clamp(MIN_TICKET_BYTES, TICKET_BYTES);
        at += count as u64;
        came.received += count as u64;
        if matches!(claim, Claim::Skip(_)) {
            session.plan().pass_over(id, count as u64);
            continue;
        }
        session.blocks.note_writer(mirror, (at - count as u64, at));
        session.plan().record(id, count as u64);
    }
}

/// The body is whole; so is the file, unless its length was known and is not reached.
fn body_ended(
    session: &Session<'_>,
    id: SegmentId,
    body: &Body,
    came: &mut Came,
) -> Result<(), Outcome> {
    let mut plan = session.plan();
    if plan.length().is_none() {
        plan.end_here(id);
        return Ok(());
    }
    let text = format!("the answer ended {} bytes too early", plan.room(id));
    // Chunks have an end of their own: nothing broke off, a proxy sends so much at a time.
    match body.is_whole() {
        true if came.received > 0 => {
            plan.clip_here(id);
            came.clipped = true;
            Ok(())
        }
        true => Err(Outcome::Wrong(text)),
        false => Err(GetError::passing(ErrorKind::Incomplete, text).into()),
    }
}

const MIN_TICKET_BYTES: usize = 128 * 1024;
/// The most that a connection takes before it looks at its limits again.
const TICKET_BYTES: usize = 1024 * 1024;
