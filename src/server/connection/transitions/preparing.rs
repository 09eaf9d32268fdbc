//! From a whole request to its response: access, look-up, and the disk worker where those may wait.

use crate::http::Refusal;
use crate::server::connection::common_state::CommonState;
use crate::server::connection::http;
use crate::server::connection::name_protocol;
use crate::server::connection::prepare::{Cache, Pending, PreparedResponse, RequestKind};
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{DiskAction, DiskJob, Step, TurnContext};
use crate::server::connection::transitions::sending;
use crate::server::shared::Shared;
use crate::sys::file::Blocking;

pub(super) fn advance(
    mut pending: Box<Pending>,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    let service = turn.service;
    if let Some(access) = &service.access
        && !pending.is_decided(access, common.peer, turn.now)
    {
        let step = Step::Disk(DiskJob::check_password(pending.access.past_guesses()));
        return Flow::Stop(State::Preparing(pending), step);
    }
    let mut cache = Cache::OpenFileCache(turn.names, turn.now);
    if let Some(response) = prepare(&pending, service, Blocking::Forbidden, &mut cache) {
        return Flow::Continue(sending::begin(*pending, response, common, service));
    }
    let file_system = service.root.device_towards(pending.path());
    if !service.may_wait_for(file_system) {
        let response = turn_away(&pending, service);
        return Flow::Continue(sending::begin(*pending, response, common, service));
    }
    common.disk_wait = Some(service.disk_waits.begin(file_system));
    let action = DiskAction::LookUp;
    let job = DiskJob {
        file_system,
        action,
    };
    Flow::Stop(State::Preparing(pending), Step::Disk(job))
}

/// Checks a password, which takes time on purpose, or looks the target up, which may wait.
pub(super) fn run_disk_job(
    mut pending: Box<Pending>,
    action: DiskAction,
    common: &mut CommonState,
    service: &Shared,
) -> State {
    if let DiskAction::CheckPassword(_) = action {
        if let Some(access) = &service.access {
            pending.check_password(access, common.peer);
        }
        return State::Preparing(pending);
    }
    let mut cache = Cache::Later(&mut common.resolved);
    match prepare(&pending, service, Blocking::Allowed, &mut cache) {
        Some(response) => sending::begin(*pending, response, common, service),
        None => State::Preparing(pending),
    }
}

/// The state that answers malformed or late bytes; the connection ends with the answer.
pub(super) fn refuse(refusal: Refusal, common: &mut CommonState) -> State {
    let line = common.received.first_line();
    common.received.clear();
    let pending = Pending::malformed(refusal, line);
    State::Preparing(Box::new(pending))
}

/// Makes the response; `None` if that may wait for a disk.
fn prepare(
    pending: &Pending,
    service: &Shared,
    blocking: Blocking,
    cache: &mut Cache<'_>,
) -> Option<PreparedResponse> {
    match &pending.request {
        RequestKind::Malformed { refusal, .. } => Some(http::refuse(None, refusal, service)),
        RequestKind::Http(request) => {
            http::prepare(request, &pending.access, service, blocking, cache)
        }
        RequestKind::Name { target, .. } => {
            name_protocol::prepare(target, service, blocking, cache)
        }
    }
}

/// The answer where too many wait for the same file system.
fn turn_away(pending: &Pending, service: &Shared) -> PreparedResponse {
    match &pending.request {
        RequestKind::Http(request) => http::refuse(Some(request), &Refusal::Overloaded, service),
        RequestKind::Name { .. } => name_protocol::turn_away(),
        RequestKind::Malformed { refusal, .. } => http::refuse(None, refusal, service),
    }
}
