//! The proof of a stream's content, from its first byte on: the user's sums, or the server's digest.

use std::time::Duration;

use sha2::digest::DynDigest;

use crate::digest::{Algorithm, Checksum};
use crate::get::checksum::{self, Verifier};
use crate::get::config::DigestChoice;
use crate::get::error::GetError;
use crate::get::part_file::validate::Validator;
use crate::get::server_digest;
use crate::get::shared::Shared;
use crate::get::source::HttpUrl;
use crate::http::client_response::Head;

/// What the bytes are held against.
pub(super) enum Proof {
    None,
    /// Sums that are known.
    Sums(Verifier),
    /// A digest that the server computes while it sends.
    Pending(Box<Pending>),
}

/// See [`Proof::Pending`].
pub(super) struct Pending {
    hasher: Box<dyn DynDigest + Send>,
    /// Where the bytes come from, and of which version.
    url: HttpUrl,
    validator: Option<Validator>,
}

impl Proof {
    /// The proof that the head of the first response offers.
    ///
    /// # Errors
    /// Verification: a digest is required, and there is none.
    pub(super) fn offered(shared: &Shared, url: &HttpUrl, head: &Head) -> Result<Self, GetError> {
        let digests = head.digests();
        match digests.first() {
            Some(best) => Ok(Self::Sums(Verifier::new(std::slice::from_ref(best)))),
            None if shared.config.digests == DigestChoice::Required => {
                Err(server_digest::missing(url))
            }
            None if head.is_haul() => Ok(Self::Pending(Box::new(Pending {
                hasher: PENDING.hasher(),
                url: url.clone(),
                validator: Validator::of(head),
            }))),
            None => Ok(Self::None),
        }
    }

    /// Takes bytes that follow those taken before.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Sums(verifier) => verifier.update(bytes),
            Self::Pending(pending) => pending.hasher.update(bytes),
        }
    }

    /// Holds the bytes against the sums; says whether there were any. `took` is the time since the
    /// first request.
    ///
    /// # Errors
    /// Verification: the bytes are others.
    pub(super) fn finish(self, shared: &Shared, took: Duration) -> Result<bool, GetError> {
        match self {
            Self::None => Ok(false),
            Self::Sums(verifier) => verifier.finish().map(|()| true),
            Self::Pending(pending) => pending.finish(shared, took),
        }
    }
}

impl Pending {
    fn finish(self, shared: &Shared, took: Duration) -> Result<bool, GetError> {
        let is_version = |head: &Head| Validator::of(head) == self.validator;
        let timeout = server_digest::timeout(shared.config.digests, took);
        let digest = match server_digest::wait_for(shared, &self.url, is_version, timeout) {
            Err(error) if error.is_stop() => return Err(error),
            digest => digest.ok().flatten(),
        };
        let found = Checksum::new(PENDING, self.hasher.finalize());
        match (found, digest) {
            (Some(found), Some(digest)) if digest.algorithm() == PENDING => {
                checksum::compare(&found, &digest).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

/// The digest that haul computes in any case, and offers first.
const PENDING: Algorithm = Algorithm::Blake3;
