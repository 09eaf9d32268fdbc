//! The beginning of a session, given the part file.

use crate::get::client::Response;
use crate::get::download::mirrors::Ranges;
use crate::get::part_file::State;
use crate::get::part_file::validate::Trust;

/// The beginning of a session.
#[derive(Debug)]
pub(super) enum Opening {
    /// A request for the whole file.
    Request,
    /// Its answer, from the mirror of this index, which is here already.
    Response(usize, Box<Response>),
    /// Requests for the missing bytes.
    Resume,
}

impl Opening {
    /// The beginning of a session with a part file of this `state`, if there is one.
    pub(super) fn next(state: Option<&State>, ranges: Ranges, trust: Trust) -> Self {
        let Some(state) = state else {
            return Self::Request;
        };
        let identity = state.identity.as_ref();
        let can_ask_for_ranges = ranges == Ranges::Possible
            && identity.is_some_and(|identity| identity.is_enough(trust));
        let whole = state.is_whole() && (state.whole || state.done.total() > 0);
        if whole || (can_ask_for_ranges && state.done.total() > 0) {
            Self::Resume
        } else {
            Self::Request
        }
    }
}
