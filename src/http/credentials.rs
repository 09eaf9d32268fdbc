//! Credentials of a request: `Authorization: Basic` (RFC 7617).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// A user and a password, as the peer claims. Neither is shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pair: Box<[u8]>,
    /// Where the password begins, behind a colon.
    password: usize,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the value of `Authorization`; `None` for other schemes, and for malformed or overlong
    /// values, which count as no credentials.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, encoded) = value.split_at_checked(BASIC.len())?;
        if !scheme.eq_ignore_ascii_case(BASIC) || encoded.len() > MAX_BYTES {
            return None;
        }
        let encoded = encoded.strip_prefix(b" ")?.trim_ascii();
        let pair = DECODER.decode(encoded).ok()?;
        let colon = memchr::memchr(b':', &pair)?;
        Some(Self {
            pair: pair.into_boxed_slice(),
            password: colon + 1,
        })
    }

    /// The user.
    pub(crate) fn user(&self) -> &[u8] {
        &self.pair[..self.password - 1]
    }

    /// The password.
    pub(crate) fn password(&self) -> &[u8] {
        &self.pair[self.password..]
    }

    /// Both, with the colon between them. No user's name holds one.
    pub(crate) fn pair(&self) -> &[u8] {
        &self.pair
    }
}

const BASIC: &[u8] = b"basic";

/// Hashing a password takes the longer the longer it is, and it is the peer's to choose.
const MAX_BYTES: usize = 512;

const DECODER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_a_user_and_all_behind_the_first_colon() {
        // RFC 7617 section 2.
        let found = Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").expect("a pair");
        assert_eq!(
            (found.user(), found.password()),
            (&b"Aladdin"[..], &b"open sesame"[..])
        );
        let found = Credentials::parse(b"BASIC  YTpiOmM").expect("a pair");
        assert_eq!((found.user(), found.password()), (&b"a"[..], &b"b:c"[..]));
        assert!(!format!("{found:?}").contains("b:c"));
        for other in [
            b"".as_slice(),
            b"Basic",
            b"Basic ",
            b"Basic !!!!",
            b"Basic YQ==",
            b"BasicYTpi",
            b"Bearer YTpi",
        ] {
            assert_eq!(Credentials::parse(other), None, "{}", other.escape_ascii());
        }
        let long = [b"Basic ".as_slice(), &b"YTpi".repeat(200)].concat();
        assert_eq!(Credentials::parse(&long), None);
    }
}
