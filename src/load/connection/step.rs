//! The result of a step of a connection.

use crate::load::phase::Phase;
use crate::load::tally::Failure;
use crate::load::thread_context::ThreadContext;

/// The event that a connection waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// For its socket.
    Wait,
    /// For another request.
    Ready,
    /// For other connections' turns: its socket has more for it.
    Turn,
    /// For a while, since the last attempt failed.
    BackOff,
}

/// The phase after a step, and the event to wait for; `None` continues at once.
pub(super) type Stepped = (Phase, Option<Next>);

pub(super) fn fail(failure: Failure, context: &mut ThreadContext<'_>) -> Stepped {
    context.tally.fail(failure);
    (Phase::Down, Some(Next::BackOff))
}
