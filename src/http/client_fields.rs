//! Fields of a request that are only for the access log: what the client says of itself.
//!
//! Most servers need none of them, so they are looked for in a head that was parsed before.

use super::field_values::values;

/// The client's description for the access log, raw; not necessarily UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFields {
    /// `Referer` (RFC 9110 section 10.1.3); empty if there is none.
    pub referer: Box<[u8]>,
    /// `User-Agent` (RFC 9110 section 10.1.5); empty if there is none.
    pub user_agent: Box<[u8]>,
}

impl ClientFields {
    /// Takes them from the head of a well-formed request; `None` if it has neither.
    pub(crate) fn of(head: &[u8]) -> Option<Box<Self>> {
        let first = |name| values(head, name).next().unwrap_or_default();
        let (referer, user_agent) = (first("referer"), first("user-agent"));
        if referer.is_empty() && user_agent.is_empty() {
            return None;
        }
        let cut = |value: &[u8]| value[..value.len().min(MAX_KEPT)].into();
        Some(Box::new(Self {
            referer: cut(referer),
            user_agent: cut(user_agent),
        }))
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.referer.len() + self.user_agent.len()
    }
}

/// Bytes of each field that are kept while a response is under way.
const MAX_KEPT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_alone() {
        let head = b"\r\nGET /user-agent:x HTTP/1.1\r\nHost: x\r\nUSER-AGENT:  curl/8 \r\n\
            X-User-Agent: no\r\nReferer: http://a/?b:c\r\nuser-agent: second\r\n\r\n";
        let fields = ClientFields::of(head).expect("both are there");
        assert_eq!(&*fields.user_agent, b"curl/8");
        assert_eq!(&*fields.referer, b"http://a/?b:c");
        assert_eq!(ClientFields::of(b"GET /referer:x HTTP/1.0\r\n\r\n"), None);
    }
}
