//! Parse → resolve → respond: from what was asked to what is to be sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::http::{self, Rest};
use crate::connection::intake::Intake;
use crate::connection::wall_clock;
use crate::exchange::{Persistence, Plan, Protocol, Refusal, Request, Response, Segment, Target};
use crate::permits::Permit;
use crate::protocol::name;
use crate::resolve::names::Names;
use crate::resolve::{Found, LookUp, OpenFile};
use crate::service::Service;
use crate::sys::file::Patience;
use crate::telemetry::{AccessRecord, CloseReason};

/// What a peer asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// By HTTP.
    Http(Box<Request>),
    /// By its bare name; the bytes are kept for the log.
    Name {
        target: Result<Target, Refusal>,
        raw: Box<[u8]>,
    },
    /// In HTTP that breaks a rule or a limit, or too late.
    Malformed { refusal: Refusal, line: Box<[u8]> },
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// What the response's file segments draw from.
    pub(super) file: Option<Arc<OpenFile>>,
    /// Content that follows the response's body, to be produced in the disk lane.
    pub(super) rest: Option<Rest>,
    /// How it comes out if all is sent.
    pub(super) outcome: CloseReason,
    /// Why, for the log.
    pub(super) detail: &'static str,
    /// The right to a large transfer.
    pub(super) bulk: Option<Permit>,
}

impl Asked {
    pub(super) fn http(request: Box<Request>) -> Self {
        Self::Http(request)
    }

    pub(super) fn name(raw: Box<[u8]>) -> Self {
        Self::Name {
            target: name::parse(&raw),
            raw,
        }
    }

    pub(super) fn malformed(refusal: Refusal, line: Box<[u8]>) -> Self {
        Self::Malformed { refusal, line }
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Http(_) | Self::Malformed { .. } => Some(Protocol::Http),
            Self::Name { .. } => Some(Protocol::Name),
        }
    }

    /// The path looked up, from the root.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Http(request) => &request.target.path,
            Self::Name {
                target: Ok(target), ..
            } => &target.path,
            Self::Name { .. } | Self::Malformed { .. } => b"",
        }
    }

    /// The request as it came, for the log.
    pub(super) fn into_line(self) -> Box<[u8]> {
        match self {
            Self::Http(request) => request.line,
            Self::Name { raw, .. } => raw,
            Self::Malformed { line, .. } => line,
        }
    }
}

/// Makes the answer, or says `None` if that takes the disk lane's patience.
pub(super) fn prepare(
    asked: &mut Asked,
    service: &Service,
    patience: Patience,
    names: Option<(&mut Names, Instant)>,
) -> Option<Answer> {
    match asked {
        Asked::Malformed { refusal, .. } => Some(http::refuse(None, refusal, service)),
        Asked::Http(request) => http::prepare(request, service, patience, names),
        Asked::Name {
            target: Ok(target), ..
        } => {
            let found = look_up(target, service, patience, names)?;
            Some(match found {
                LookUp::Found(Found::File(file)) => by_name(&file, service),
                LookUp::Found(Found::Directory(_)) => nothing("it is a directory"),
                LookUp::Refused(refusal) => nothing(refusal.reason()),
                LookUp::NotCached => return None,
            })
        }
        Asked::Name {
            target: Err(refusal),
            ..
        } => Some(nothing(refusal.reason())),
    }
}

/// Looks a target up, in the worker's names first. `None` means that it takes a disk.
pub(super) fn look_up(
    target: &Target,
    service: &Service,
    patience: Patience,
    names: Option<(&mut Names, Instant)>,
) -> Option<LookUp> {
    let Some((names, now)) = names else {
        return Some(service.root.look_up(target, patience));
    };
    if !target.trailing_slash
        && let Some(file) = names.find(&target.path, now)
    {
        return Some(LookUp::Found(Found::File(file)));
    }
    match service.root.look_up(target, patience) {
        LookUp::NotCached => None,
        LookUp::Found(Found::File(file)) => {
            names.remember(&target.path, &file, now);
            Some(LookUp::Found(Found::File(file)))
        }
        other => Some(other),
    }
}

/// The answer in the name protocol: the bytes, and nothing around them.
fn by_name(file: &Arc<OpenFile>, service: &Service) -> Answer {
    let len = file.meta.len;
    let bulk = if len >= BULK_BYTES {
        service.bulk.take()
    } else {
        None
    };
    if len >= BULK_BYTES && bulk.is_none() {
        return Answer {
            outcome: CloseReason::Overloaded,
            ..nothing("too many large transfers")
        };
    }
    let mut body = Plan::default();
    if len > 0 {
        body.segments.push_back(Segment::File { offset: 0, len });
    }
    let response = Response {
        status: 0,
        head: Vec::new(),
        body,
        content_length: len,
        persistence: Persistence::Close,
    };
    let file = Some(Arc::clone(file));
    Answer {
        response,
        file,
        rest: None,
        outcome: CloseReason::Complete,
        detail: "",
        bulk,
    }
}

/// The answer in the name protocol to a name that cannot be served: a close.
fn nothing(why: &'static str) -> Answer {
    let response = Response {
        status: 0,
        head: Vec::new(),
        body: Plan::default(),
        content_length: 0,
        persistence: Persistence::Close,
    };
    let outcome = CloseReason::Refused;
    Answer {
        response,
        file: None,
        rest: None,
        outcome,
        detail: why,
        bulk: None,
    }
}

/// Writes the access record of bytes that never made a request.
pub(super) fn record_no_request(
    intake: &Intake,
    (outcome, why): (CloseReason, &'static str),
    peer: SocketAddr,
    service: &Service,
) {
    if !service.journal.is_on() {
        return;
    }
    service.journal.record(AccessRecord {
        at: wall_clock(),
        peer,
        protocol: None,
        request: intake.first_line().into_vec(),
        status: 0,
        sent: 0,
        intended: Some(0),
        duration: Duration::ZERO,
        outcome,
        detail: why,
    });
}

/// A transfer this large counts as bulk.
pub(super) const BULK_BYTES: u64 = 1 << 20;
