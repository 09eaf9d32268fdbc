//! Links that expire: their grants, the keys that sign them, and their place in a query.
//!
//! A link opens one path, or all that lies beneath one, until a time, perhaps for one network
//! only. The signature is HMAC-SHA-256 (RFC 2104) over an encoding in which every field but the
//! last has a fixed length, so that no two links have one message.

mod grant;
mod keys;
mod presented;
#[cfg(test)]
mod tests;

pub use grant::{LinkGrant, Scope};
pub use keys::{Keys, KeysError, Signature, read_keys};
pub use presented::{Presented, Rejection};

/// Makes the query of a link.
#[must_use]
pub fn make(grant: &LinkGrant<'_>, keys: &Keys) -> Presented {
    Presented {
        expires: grant.expires,
        depth: (grant.scope == Scope::Subtree).then(|| grant::depth_of(grant.path)),
        client: grant.client,
        signature: keys.sign(grant),
    }
}
