//! From the TLS handshake to the first request.

use std::time::Instant;

use crate::http::Refusal;
use crate::server::connection::common_state::CommonState;
use crate::server::connection::handshake::{HandshakeStep, Handshaking};
use crate::server::connection::prepare;
use crate::server::connection::receive::Receiving;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{
    Admission, DiskAction, DiskJob, REJECTED_WAIT, Step, TurnContext,
};
use crate::server::connection::transitions::lingering;
use crate::server::connection::transitions::preparing;
use crate::server::telemetry::{CloseReason, Counters, HandshakeFailure};

pub(super) fn advance(
    mut handshaking: Handshaking,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    let Some(tls) = common.tls.as_mut().and_then(|tls| tls.user_space()) else {
        return Flow::Continue(State::Receiving(Receiving::new(turn.now)));
    };
    let scratch = &mut turn.tools.scratch;
    let socket = (&common.stream, &mut *tls);
    match handshaking.advance(socket, &mut common.received, scratch, turn.now) {
        HandshakeStep::Opens if turn.service.has_slow_keys() => {
            let job = DiskJob {
                file_system: NO_FILE_SYSTEM,
                action: DiskAction::Handshake,
            };
            Flow::Stop(State::Handshaking(handshaking), Step::Disk(job))
        }
        HandshakeStep::Opens => {
            handshaking.open(tls, &mut common.received);
            common.share.client().charge(HANDSHAKE_CHARGE);
            turn.served += HANDSHAKE_CHARGE;
            Flow::Continue(State::Handshaking(handshaking))
        }
        HandshakeStep::Wait(interest) => {
            let permits = &turn.service.long_requests;
            if !common.received.may_wait(tls.held_bytes(), permits) {
                let step = Step::Close(CloseReason::Overloaded);
                return Flow::Stop(State::Handshaking(handshaking), step);
            }
            common.deadline = handshaking.deadline(&turn.service.config.deadlines);
            if common.admission == Admission::Rejected {
                common.deadline = common.deadline.min(turn.now + REJECTED_WAIT);
            }
            Flow::Stop(State::Handshaking(handshaking), Step::Park(interest))
        }
        HandshakeStep::Done => {
            let counters = &turn.service.counters;
            Counters::add_one(match tls.session().is_tls13() {
                true => &counters.handshakes_tls13,
                false => &counters.handshakes_tls12,
            });
            if tls.session().is_resumed() {
                Counters::add_one(&counters.handshakes_resumed);
            }
            if tls.session().is_closed_by_peer() {
                common.received.note_end();
            }
            if let Some(tls) = &mut common.tls {
                tls.note_subject();
            }
            turn.now = Instant::now();
            Flow::Continue(State::Receiving(Receiving::new(turn.now)))
        }
        HandshakeStep::PlainHttp => {
            let counters = &turn.service.counters;
            counters.count_failed_handshake(HandshakeFailure::PlainText);
            let text = common.tls.take().map(|tls| tls.into_partial());
            common.received.replace(text.unwrap_or_default());
            let refusal =
                Refusal::BadRequest("this port speaks TLS: the address begins with https://");
            Flow::Continue(preparing::refuse(refusal, common))
        }
        HandshakeStep::Failed(failure) => {
            turn.service.counters.count_failed_handshake(failure);
            let why = (CloseReason::Malformed, failure.text());
            prepare::record_no_request(&common.received, why, common.peer, turn.service);
            // Later bytes could not be decrypted.
            common.tls = None;
            let state = State::Handshaking(handshaking);
            lingering::begin(state, CloseReason::Malformed, common, turn.now)
        }
        HandshakeStep::Ended => {
            if handshaking.silent_since().is_none() {
                let counters = &turn.service.counters;
                counters.count_failed_handshake(HandshakeFailure::Aborted);
            }
            let step = Step::Close(CloseReason::Aborted);
            Flow::Stop(State::Handshaking(handshaking), step)
        }
    }
}

pub(super) fn expire(
    handshaking: Handshaking,
    common: &CommonState,
    turn: &TurnContext<'_>,
) -> Flow {
    let reason = match handshaking.silent_since() {
        Some(_) => CloseReason::FirstByteTimeout,
        None => {
            let failure = HandshakeFailure::Timeout;
            turn.service.counters.count_failed_handshake(failure);
            let why = (CloseReason::HeadTimeout, failure.text());
            prepare::record_no_request(&common.received, why, common.peer, turn.service);
            CloseReason::HeadTimeout
        }
    };
    Flow::Stop(State::Handshaking(handshaking), Step::Close(reason))
}

/// Processes a flight: a signature may take longer than a turn.
pub(super) fn run_disk_job(mut handshaking: Handshaking, common: &mut CommonState) -> State {
    if let Some(tls) = common.tls.as_mut().and_then(|tls| tls.user_space()) {
        handshaking.open(tls, &mut common.received);
    }
    State::Handshaking(handshaking)
}

/// A handshake's cost, in bytes of service: it takes as long as sealing so many.
const HANDSHAKE_CHARGE: u64 = 128 << 10;

/// The key of a separate disk queue: no file system has this device number.
const NO_FILE_SYSTEM: u64 = u64::MAX;
