//! From the end of our side of the stream to the close.

use std::time::{Duration, Instant};

use crate::server::connection::common_state::CommonState;
use crate::server::connection::deferred_record::LOOK_EVERY;
use crate::server::connection::lingering_close::{LingerStep, Lingering};
use crate::server::connection::request_buffer::ByteSource;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{Step, TurnContext};
use crate::server::telemetry::CloseReason;
use crate::sys::poller::Interest;

/// Closes our sending side. Bytes from the peer are discarded, and sent bytes have time to arrive.
/// `state` is the closing state if there is nothing to wait for.
pub(super) fn begin(
    state: State,
    reason: CloseReason,
    common: &mut CommonState,
    now: Instant,
) -> Flow {
    let Ok(is_closed) = common.end_stream() else {
        return Flow::Stop(state, Step::Close(reason));
    };
    if is_closed && has_all(common) {
        return Flow::Stop(state, Step::Close(reason));
    }
    common.received.clear();
    Flow::Continue(State::Lingering(Lingering::new(reason, is_closed, now)))
}

pub(super) fn advance(
    mut lingering: Lingering,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    if !lingering.is_closed() {
        match common.end_stream() {
            Ok(true) if has_all(common) => {
                let step = Step::Close(lingering.reason());
                return Flow::Stop(State::Lingering(lingering), step);
            }
            Ok(true) => lingering.note_closed(),
            Ok(false) => {
                common.deadline = lingering.deadline(&turn.service.config);
                if common.is_sealed_by_kernel() {
                    let pause = (lingering.age(turn.now) / 4).clamp(LOOK_AGAIN, MAX_PAUSE);
                    common.deadline = common.deadline.min(turn.now + pause);
                }
                return Flow::Stop(State::Lingering(lingering), Step::Park(Interest::Write));
            }
            Err(_) => {
                let step = Step::Close(CloseReason::Aborted);
                return Flow::Stop(State::Lingering(lingering), step);
            }
        }
    }
    let is_owed = common.is_unacknowledged();
    let scratch = &mut turn.tools.scratch;
    let mut source = ByteSource::new(&common.stream, &mut common.tls);
    let step = match lingering.advance(&mut source, &mut common.received, is_owed, scratch) {
        LingerStep::Again => return Flow::Continue(State::Lingering(lingering)),
        LingerStep::Wait => {
            common.deadline = lingering.deadline(&turn.service.config);
            if common.unconfirmed.is_some() {
                common.deadline = common.deadline.min(turn.now + LOOK_EVERY);
            }
            Step::Park(Interest::Read)
        }
        LingerStep::Ended if is_owed => Step::Close(CloseReason::Aborted),
        LingerStep::Ended => Step::Close(lingering.reason()),
    };
    Flow::Stop(State::Lingering(lingering), step)
}

/// Over a slow line the last megabytes take their time: a peer that takes some is not cut.
pub(super) fn expire(
    mut lingering: Lingering,
    common: &mut CommonState,
    turn: &TurnContext<'_>,
) -> Flow {
    let is_owed =
        common.unconfirmed.is_some() || !lingering.is_closed() && common.is_sealed_by_kernel();
    let missing = if is_owed { common.outstanding() } else { 0 };
    let ended = lingering.expire(missing, &common.received, &turn.service.config, turn.now);
    if let Err(reason) = ended {
        return Flow::Stop(State::Lingering(lingering), Step::Close(reason));
    }
    common.record_if_arrived(turn.service);
    Flow::Continue(State::Lingering(lingering))
}

/// Whether the peer has closed its side, and all that is known of what it was sent.
fn has_all(common: &CommonState) -> bool {
    common.received.has_ended() && common.unconfirmed.is_none()
}

/// The kernel sends by itself what it has sealed, and no event tells when it has.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A peer that takes its time is looked at less often.
const MAX_PAUSE: Duration = Duration::from_millis(200);
