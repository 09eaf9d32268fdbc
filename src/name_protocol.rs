//! The name protocol: the request is a file's name, the answer its bytes and a close.

use crate::http::{Refusal, Target};

/// Longest name in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 4_096;

/// Reads a name whose end mark has been taken off.
///
/// # Errors
/// [`Refusal::BadRequest`] for a name that is empty, too long, absolute, not UTF-8, or holds a
/// NUL or a `..` component.
pub fn parse(name: &[u8]) -> Result<Target, Refusal> {
    if name.is_empty() {
        return Err(Refusal::BadRequest("the name is empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Refusal::BadRequest("the name is longer than 4,096 bytes"));
    }
    if str::from_utf8(name).is_err() {
        return Err(Refusal::BadRequest("the name is not UTF-8"));
    }
    if name[0] == b'/' {
        return Err(Refusal::BadRequest(
            "the name is absolute; give it relative to the root",
        ));
    }
    Target::from_path(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_relative_to_the_root() {
        let target = parse("Übung/a b.bin".as_bytes()).expect("a fine name");
        assert_eq!(target.path, "Übung/a b.bin".as_bytes());
        assert!(!target.trailing_slash);
        assert!(parse(b"dir/").expect("a fine name").trailing_slash);
    }

    #[test]
    fn a_name_that_climbs_is_refused() {
        for bad in ["", "/etc/passwd", "..", "a/../../b", "a/..", "../a", "a\0b"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"\xff").is_err());
        assert!(parse(&[b'a'; 4_097]).is_err());
        for fine in ["...", "..a", "a..", "a\\..\\b", "%2e%2e"] {
            assert!(parse(fine.as_bytes()).is_ok(), "{fine:?}");
        }
    }
}
