//! From the introduction by a trusted proxy to the handshake or the first request.

use crate::server::connection::common_state::CommonState;
use crate::server::connection::handshake::Handshaking;
use crate::server::connection::introduction::{Introduced, Introduction};
use crate::server::connection::prepare;
use crate::server::connection::receive::Receiving;
use crate::server::connection::request_buffer;
use crate::server::connection::state::{Flow, State};
use crate::server::connection::step::{Step, TurnContext};
use crate::server::telemetry::CloseReason;
use crate::sys::poller::Interest;

pub(super) fn advance(
    mut introduction: Introduction,
    common: &mut CommonState,
    turn: &mut TurnContext<'_>,
) -> Flow {
    match introduction.advance(&common.stream, &mut turn.tools.scratch) {
        Introduced::Incomplete => {
            let deadlines = &turn.service.config.deadlines;
            common.deadline = introduction.since() + deadlines.first_byte.min(deadlines.head);
            Flow::Stop(State::Introducing(introduction), Step::Park(Interest::Read))
        }
        Introduced::As(client) => {
            if let Some(address) = client {
                common.sender = address.into();
                common.speak_for(common.sender, turn.service);
            }
            Flow::Continue(match common.tls {
                Some(_) => State::Handshaking(Handshaking::new(turn.now)),
                None => State::Receiving(Receiving::new(turn.now)),
            })
        }
        Introduced::Refused(why) => {
            refuse(introduction, (CloseReason::Malformed, why), common, turn)
        }
        Introduced::End(reason) => {
            Flow::Stop(State::Introducing(introduction), Step::Close(reason))
        }
    }
}

pub(super) fn expire(
    introduction: Introduction,
    common: &CommonState,
    turn: &TurnContext<'_>,
) -> Flow {
    let why = "the PROXY header was not whole in time";
    refuse(introduction, (CloseReason::HeadTimeout, why), common, turn)
}

fn refuse(
    introduction: Introduction,
    why: (CloseReason, &'static str),
    common: &CommonState,
    turn: &TurnContext<'_>,
) -> Flow {
    let line = request_buffer::first_line(introduction.head());
    prepare::record_request(line, why, common.peer, turn.service);
    Flow::Stop(State::Introducing(introduction), Step::Close(why.0))
}
