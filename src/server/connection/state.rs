//! The states of a connection, and the results of a transition.

use crate::server::connection::discard::Discarding;
use crate::server::connection::handshake::Handshaking;
use crate::server::connection::introduction::Introduction;
use crate::server::connection::lingering_close::Lingering;
use crate::server::connection::prepare::Pending;
use crate::server::connection::receive::Receiving;
use crate::server::connection::send::Sending;
use crate::server::connection::step::Step;

/// The state of a connection, with the data of this state alone.
#[derive(Debug)]
pub(super) enum State {
    /// Waiting for a proxy's PROXY header.
    Introducing(Introduction),
    /// Agreeing on keys.
    Handshaking(Handshaking),
    /// Waiting for a request, or in the middle of one.
    Receiving(Receiving),
    /// Throwing a request's body away before answering.
    Discarding(Discarding),
    /// A request is complete and has to be looked up.
    Preparing(Box<Pending>),
    /// A response is on its way.
    Sending(Box<Sending>),
    /// The response is sent and our side closed; the peer may finish.
    Lingering(Lingering),
}

/// The outcome of a transition.
pub(super) enum Flow {
    /// The next state, in the same turn.
    Continue(State),
    /// The end of the turn; the state is kept for the next one.
    Stop(State, Step),
}
