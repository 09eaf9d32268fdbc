//! From a request's body to the look-up of its target.

use crate::http::Refusal;
use crate::server::connection::common_state::CommonState;
use crate::server::connection::discard::{DiscardStep, Discarding};
use crate::server::connection::request_buffer::ByteSource;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{Step, TurnContext};
use crate::server::telemetry::CloseReason;
use crate::sys::poller::Interest;

pub(super) fn advance(
    mut discarding: Discarding,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    let scratch = &mut turn.tools.scratch;
    let mut source = ByteSource::new(&common.stream, &mut common.tls);
    match discarding.advance(&mut source, &mut common.received, scratch) {
        DiscardStep::Done => Flow::Continue(State::Preparing(Box::new(discarding.into_pending()))),
        DiscardStep::Refused(refusal) => {
            let pending = discarding.into_refused(refusal);
            Flow::Continue(State::Preparing(Box::new(pending)))
        }
        DiscardStep::Again => Flow::Continue(State::Discarding(discarding)),
        DiscardStep::Incomplete => {
            common.deadline = discarding.since() + turn.service.config.deadlines.head;
            Flow::Stop(State::Discarding(discarding), Step::Park(Interest::Read))
        }
        DiscardStep::Ended => {
            let step = Step::Close(CloseReason::Aborted);
            Flow::Stop(State::Discarding(discarding), step)
        }
    }
}

pub(super) fn expire(discarding: Discarding, common: &mut CommonState) -> Flow {
    let pending = discarding.into_refused(Refusal::RequestTimeout);
    common.received.clear();
    Flow::Continue(State::Preparing(Box::new(pending)))
}
