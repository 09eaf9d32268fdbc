//! Resolve → respond for the name protocol: the bytes and a close, or the close alone.

use std::sync::Arc;

use crate::http::{ListingFormat, Persistence, Plan, Refusal, Response, Segment, Target};
use crate::server::access::Grant;
use crate::server::connection::prepare::{BULK_BYTES, Cache, PreparedResponse, look_up};
use crate::server::files::{Found, LookUp, OpenFile};
use crate::server::shared::Shared;
use crate::server::telemetry::CloseReason;
use crate::sys::file::Blocking;

/// Answers a name; `None` if only a disk worker can.
pub(super) fn prepare(
    target: &Result<Target, Refusal>,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    let target = match target {
        Ok(target) => target,
        Err(refusal) => return Some(nothing(refusal.reason())),
    };
    if let Some(access) = &service.access
        && !access.is_open(target, ListingFormat::Html)
    {
        return Some(nothing(
            "it takes a password or a link, which a bare name has not",
        ));
    }
    match look_up(target, &Grant::Open, service, blocking, cache)? {
        LookUp::Found(Found::File(file)) => Some(bytes_of(file, service)),
        LookUp::Found(Found::Directory(_) | Found::Names(_)) => Some(nothing("it is a directory")),
        LookUp::Refused(refusal) => Some(nothing(refusal.reason())),
        LookUp::NotCached => None,
    }
}

fn bytes_of(file: Arc<OpenFile>, service: &Shared) -> PreparedResponse {
    let len = file.meta.len;
    let is_bulk = len >= BULK_BYTES;
    let bulk = if is_bulk {
        service.bulk.try_acquire()
    } else {
        None
    };
    if is_bulk && bulk.is_none() {
        return overloaded("too many large transfers");
    }
    let mut answer = nothing("");
    if len > 0 {
        answer
            .response
            .body
            .segments
            .push_back(Segment::File { offset: 0, len });
    }
    answer.response.content_length = len;
    PreparedResponse {
        file: Some(file),
        outcome: CloseReason::Complete,
        bulk,
        ..answer
    }
}

/// The answer where too many wait for the same file system.
pub(super) fn turn_away() -> PreparedResponse {
    overloaded("too many wait for the file system")
}

fn overloaded(why: &'static str) -> PreparedResponse {
    let outcome = CloseReason::Overloaded;
    PreparedResponse {
        outcome,
        ..nothing(why)
    }
}

/// The answer to a name that cannot be served.
fn nothing(why: &'static str) -> PreparedResponse {
    let response = Response {
        status: 0,
        head: Vec::new(),
        body: Plan::default(),
        content_length: 0,
        persistence: Persistence::Close,
    };
    let outcome = CloseReason::Refused;
    PreparedResponse {
        response,
        file: None,
        rest: None,
        outcome,
        detail: why,
        bulk: None,
    }
}
