//! From bytes to a request, and to its next state.

use std::net::SocketAddr;

use crate::http::{BodyLength, Expectation, Persistence, Refusal, Request};
use crate::server::connection::classify;
use crate::server::connection::common_state::CommonState;
use crate::server::connection::deferred_record::{DeferredRecord, LOOK_EVERY};
use crate::server::connection::discard::Discarding;
use crate::server::connection::prepare::{self, Pending};
use crate::server::connection::receive::{Received, Receiving};
use crate::server::connection::request_buffer::ByteSource;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{Admission, REJECTED_WAIT, Step, TurnContext};
use crate::server::connection::transitions::lingering;
use crate::server::connection::transitions::preparing;
use crate::server::telemetry::{CloseReason, Peer};
use crate::sys::poller::Interest;
use crate::sys::socket;

pub(super) fn advance(
    mut receiving: Receiving,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    let is_kept = common.requests > 0;
    let mut source = ByteSource::new(&common.stream, &mut common.tls);
    let received = receiving.recognize(&mut common.received, &mut source, turn, is_kept);
    let close = |reason| Flow::Stop(State::Receiving(receiving), Step::Close(reason));
    match received {
        Received::Incomplete(wait_until) => {
            let session = common.tls.as_ref().map_or(0, |tls| tls.held_bytes());
            let permits = &turn.service.long_requests;
            if !common.received.may_wait(session, permits) {
                return Flow::Continue(preparing::refuse(Refusal::Overloaded, common));
            }
            common.deadline = match common.admission {
                Admission::Admitted => wait_until,
                Admission::Rejected => wait_until.min(receiving.since() + REJECTED_WAIT),
            };
            if let Some(record) = &mut common.unconfirmed {
                record.deadline = wait_until;
                common.deadline = wait_until.min(turn.now + LOOK_EVERY);
            }
            Flow::Stop(State::Receiving(receiving), Step::Park(Interest::Read))
        }
        Received::Request(request) => Flow::Continue(after_head(request, common, turn)),
        Received::Name(raw) => {
            common.count_request(turn.service);
            if common.admission == Admission::Rejected {
                return close(CloseReason::Overloaded);
            }
            if let Peer::Unix { .. } = common.peer {
                // Unix sockets have no reset: a truncated file would look whole.
                let why = (
                    CloseReason::Refused,
                    "names are not served over Unix sockets",
                );
                prepare::record_request(&raw, why, common.peer, turn.service);
                return close(CloseReason::Refused);
            }
            Flow::Continue(State::Preparing(Box::new(Pending::name(raw))))
        }
        Received::Malformed(refusal) => Flow::Continue(preparing::refuse(refusal, common)),
        Received::Unrecognized(why) => {
            let why = (CloseReason::Malformed, why);
            prepare::record_no_request(&common.received, why, common.peer, turn.service);
            if common.tls.is_none() && classify::is_tls(common.received.bytes()) {
                // A TLS client understands the alert; one that a full socket drops is no loss.
                let _ = socket::send(&common.stream, TLS_ALERT, false);
                let state = State::Receiving(receiving);
                return lingering::begin(state, CloseReason::Malformed, common, turn.now);
            }
            close(CloseReason::Malformed)
        }
        // The peer has closed its side only, and reads on. `close_notify` may have to wait for room.
        Received::End(reason)
            if common.received.has_ended()
                && (common.unconfirmed.is_some() || common.tls.is_some())
                || common.has_unsent_records() =>
        {
            lingering::begin(State::Receiving(receiving), reason, common, turn.now)
        }
        Received::End(_) if common.is_unacknowledged() => close(CloseReason::Aborted),
        Received::End(reason) => close(reason),
    }
}

/// The state after a request's head: its body is discarded, if it has one.
fn after_head(
    mut request: Box<Request>,
    common: &mut CommonState,
    turn: &TurnContext<'_>,
) -> State {
    common.count_request(turn.service);
    let config = &turn.service.config;
    if config.proxies.has_forwarding(common.sender) {
        let named = request
            .forwarded_for
            .take()
            .map(|ip| SocketAddr::new(*ip, 0).into());
        common.speak_for(named.unwrap_or(common.sender), turn.service);
    }
    let limits = &config.http_limits;
    if common.requests >= limits.requests_per_connection || turn.service.is_draining() {
        request.persistence = Persistence::Close;
    }
    if common.admission == Admission::Rejected {
        request.persistence = Persistence::Close;
        request.refusal = Some(Refusal::Overloaded);
    }
    let is_too_long = match request.body {
        BodyLength::Known(len) => len > limits.discarded_body_bytes,
        BodyLength::Empty | BodyLength::Chunked => false,
    };
    if is_too_long {
        request.refusal = request.refusal.or(Some(Refusal::BodyTooLarge));
    }
    // The refusal takes the place of `100 Continue`; the parser has set `Persistence::Close`.
    let is_refused = request.refusal.is_some() && request.expectation == Expectation::Continue;
    if request.body == BodyLength::Empty || is_too_long || is_refused {
        return State::Preparing(Box::new(Pending::http(request, b"")));
    }
    let most = limits.discarded_body_bytes;
    let mut source = ByteSource::new(&common.stream, &mut common.tls);
    let discarding = Discarding::new(request, most, &mut source, &common.received, turn.now);
    State::Discarding(discarding)
}

pub(super) fn expire(
    mut receiving: Receiving,
    common: &mut CommonState,
    turn: &TurnContext<'_>,
) -> Flow {
    let is_early = |record: &DeferredRecord| turn.now < record.deadline;
    if common.unconfirmed.as_deref().is_some_and(is_early) {
        let has_arrived = common.record_if_arrived(turn.service);
        let is_over = turn.service.is_draining() && receiving.is_idle(&common.received);
        let state = State::Receiving(receiving);
        return match has_arrived && is_over {
            true => Flow::Stop(state, Step::Close(CloseReason::Shutdown)),
            false => Flow::Continue(state),
        };
    }
    if receiving.silence_ends_name(turn.now, turn.service.config.deadlines.head) {
        receiving.note_silence();
        return Flow::Continue(State::Receiving(receiving));
    }
    let may_be_name = receiving.may_be_name();
    if !may_be_name && !common.received.bytes().is_empty() {
        return Flow::Continue(preparing::refuse(Refusal::RequestTimeout, common));
    }
    let reason = match common.requests {
        _ if may_be_name => {
            // Any answer would be taken for the bytes of a file.
            let why = (CloseReason::HeadTimeout, "the name was not whole in time");
            prepare::record_no_request(&common.received, why, common.peer, turn.service);
            CloseReason::HeadTimeout
        }
        _ if turn.service.is_draining() => CloseReason::Shutdown,
        0 => CloseReason::FirstByteTimeout,
        _ => CloseReason::Idle,
    };
    Flow::Stop(State::Receiving(receiving), Step::Close(reason))
}

/// A fatal alert, `protocol_version` (RFC 8446 section 6).
const TLS_ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
