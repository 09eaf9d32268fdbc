//! The order receive → parse → resolve → respond → transmit → record: the successor of each state.
//!
//! A transition consumes its state. Each state has a file with the results of its turn and its
//! deadline, and with its disk job.

mod discarding;
mod handshaking;
mod introducing;
mod lingering;
mod preparing;
mod receiving;
mod sending;

use crate::server::connection::common_state::CommonState;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{DiskAction, Step, TurnContext};
use crate::server::shared::Shared;
use crate::server::transmit::sink::IoBuffers;

/// Takes a state as far as it can go without waiting.
pub(super) fn advance(state: State, common: &mut CommonState, turn: &mut TurnContext<'_>) -> Flow {
    match state {
        State::Introducing(introduction) => introducing::advance(introduction, common, turn),
        State::Handshaking(handshaking) => handshaking::advance(handshaking, common, turn),
        State::Receiving(receiving) => receiving::advance(receiving, common, turn),
        State::Discarding(discarding) => discarding::advance(discarding, common, turn),
        State::Preparing(pending) => preparing::advance(pending, common, turn),
        State::Sending(sending) => sending::advance(sending, common, turn),
        State::Lingering(lingering) => lingering::advance(lingering, common, turn),
    }
}

/// Follows from a deadline that has passed.
pub(super) fn expire(state: State, common: &mut CommonState, turn: &mut TurnContext<'_>) -> Flow {
    match state {
        State::Introducing(introduction) => introducing::expire(introduction, common, turn),
        State::Handshaking(handshaking) => handshaking::expire(handshaking, common, turn),
        State::Receiving(receiving) => receiving::expire(receiving, common, turn),
        State::Discarding(discarding) => discarding::expire(discarding, common),
        State::Preparing(_) => Flow::Stop(state, Step::Yield),
        State::Sending(sending) => sending::expire(sending, common, turn),
        State::Lingering(lingering) => lingering::expire(lingering, common, turn),
    }
}

/// Does in a disk worker what a hot worker must not.
pub(super) fn run_disk_job(
    state: State,
    action: DiskAction,
    common: &mut CommonState,
    service: &Shared,
    tools: &mut IoBuffers,
) -> State {
    match state {
        State::Handshaking(handshaking) => handshaking::run_disk_job(handshaking, common),
        State::Preparing(pending) => preparing::run_disk_job(pending, action, common, service),
        State::Sending(sending) => sending::run_disk_job(sending, action, common, service, tools),
        // No other state has a disk job.
        other => other,
    }
}
