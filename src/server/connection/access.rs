//! Access decisions on a request, made before any look-up.

use std::time::Instant;

use crate::http::{Refusal, Request};
use crate::server::access::{Access, Decision, Grant, PastGuesses, PendingCheck};
use crate::sys::peer::Peer;

/// The state of an access decision.
#[derive(Debug)]
pub(super) enum AccessCheck {
    /// Not looked at.
    Undecided,
    /// A disk worker has to look at the password.
    Waiting(PendingCheck),
    /// Access is granted.
    Granted(Grant),
    /// The request is refused.
    Refused(Refusal),
}

impl AccessCheck {
    /// Decides, if that takes no wait. Returns whether a decision is there.
    pub(super) fn decide(
        &mut self,
        request: &mut Request,
        access: &Access,
        peer: Peer,
        now: Instant,
    ) -> bool {
        if let Self::Undecided = self {
            *self = Self::after(access.decide(request, peer, now), request);
        }
        matches!(self, Self::Granted(_) | Self::Refused(_))
    }

    /// Decides in a disk worker.
    pub(super) fn check_password(&mut self, request: &mut Request, access: &Access, peer: Peer) {
        *self = Self::after(access.check_password(request, peer), request);
    }

    /// Past guesses of a client whose password waits to be looked at.
    pub(super) fn past_guesses(&self) -> PastGuesses {
        match self {
            Self::Waiting(pending) => pending.guesses(),
            Self::Undecided | Self::Granted(_) | Self::Refused(_) => PastGuesses::None,
        }
    }

    /// The grant of the request.
    pub(super) fn grant(&self) -> &Grant {
        match self {
            Self::Granted(grant) => grant,
            Self::Undecided | Self::Waiting(_) | Self::Refused(_) => &Grant::Open,
        }
    }

    fn after(decision: Decision, request: &mut Request) -> Self {
        match decision {
            Decision::Granted(grant) => {
                request.audience = grant.audience();
                // The password is not needed any more.
                request.credentials = None;
                Self::Granted(grant)
            }
            Decision::CheckPassword(pending) => Self::Waiting(pending),
            Decision::Refused(refusal) => {
                request.credentials = None;
                Self::Refused(refusal)
            }
        }
    }
}
