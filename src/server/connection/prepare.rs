//! What was asked, and what is to be sent: what the two protocols have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::{Protocol, Refusal, Request, Response, Target};
use crate::name_protocol;
use crate::server::connection::receive::RequestBuffer;
use crate::server::connection::streamed_body::StreamedBody;
use crate::server::connection::wall_clock;
use crate::server::files::open_file_cache::OpenFileCache;
use crate::server::files::{Found, LookUp, OpenFile};
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason};
use crate::sys::file::Patience;

/// What a peer asked for.
#[derive(Debug)]
pub(super) enum PendingRequest {
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
pub(super) struct PreparedResponse {
    pub(super) response: Response,
    /// What the response's file segments draw from.
    pub(super) file: Option<Arc<OpenFile>>,
    /// Content that follows the response's body, to be produced in the disk lane.
    pub(super) rest: Option<StreamedBody>,
    /// How it comes out if all is sent.
    pub(super) outcome: CloseReason,
    /// Why, for the log.
    pub(super) detail: &'static str,
    /// The right to a large transfer.
    pub(super) bulk: Option<Permit>,
}

impl PendingRequest {
    pub(super) fn http(request: Box<Request>) -> Self {
        Self::Http(request)
    }

    pub(super) fn name(raw: Box<[u8]>) -> Self {
        Self::Name {
            target: name_protocol::parse(&raw),
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

/// Where look-ups find what is known, and leave what they have found.
pub(super) enum Cache<'a> {
    /// A worker's names, and the time of its turn.
    OpenFileCache(&'a mut OpenFileCache, Instant),
    /// The disk lane has no names. What it finds goes to those of the worker that gets the
    /// connection: a path, and the file under just this path, which need not be the one that was
    /// asked for.
    Later(&'a mut Option<(Vec<u8>, Arc<OpenFile>)>),
}

/// Looks a target up, in the worker's names first. `None` means that it takes a disk.
pub(super) fn look_up(
    target: &Target,
    service: &Shared,
    patience: Patience,
    cache: &mut Cache<'_>,
) -> Option<LookUp> {
    if let Cache::OpenFileCache(names, now) = cache
        && !target.trailing_slash
        && let Some(file) = names.find(&target.path, *now)
    {
        return Some(LookUp::Found(Found::File(file)));
    }
    let mut found = service.root.look_up(target, patience);
    if let (LookUp::Refused(Refusal::Overloaded), Cache::OpenFileCache(names, _)) =
        (&found, &mut *cache)
        && !names.is_empty()
    {
        // Files that nobody is being sent take the descriptors.
        names.forget_all();
        found = service.root.look_up(target, patience);
    }
    match (&found, cache) {
        (LookUp::NotCached, _) => return None,
        (LookUp::Found(Found::File(file)), Cache::OpenFileCache(names, now)) => {
            names.remember(&target.path, file, *now);
        }
        (LookUp::Found(Found::File(file)), Cache::Later(later)) => {
            **later = Some((target.path.clone(), Arc::clone(file)));
        }
        _ => {}
    }
    Some(found)
}

/// Writes the access record of bytes that never made a request.
pub(super) fn record_no_request(
    intake: &RequestBuffer,
    (outcome, why): (CloseReason, &'static str),
    peer: SocketAddr,
    service: &Shared,
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
