//! The syntax of preconditions (RFC 9110 sections 13.1 and 8.8.3).

use std::time::SystemTime;

use crate::http::list::trim;
use crate::http::{EntityTag, EntityTags, IfRange, Strength};

/// Reads the values of `If-Match` or `If-None-Match`. What is no entity tag ends the list: a tag
/// that is not understood matches nothing.
pub(super) fn parse_tags<'a>(values: impl Iterator<Item = &'a [u8]>) -> EntityTags {
    let mut tags = Vec::new();
    for value in values {
        let mut rest = trim(value);
        if rest == b"*" {
            return EntityTags::Any;
        }
        while let Some((tag, after)) = split_tag(skip_empty(rest)) {
            tags.push(tag);
            rest = trim(after);
            if !rest.starts_with(b",") {
                break;
            }
        }
    }
    EntityTags::List(tags)
}

pub(super) fn parse_if_range(value: &[u8]) -> IfRange {
    match split_tag(value) {
        Some((tag, [])) => IfRange::Tag(tag),
        Some(_) => IfRange::Invalid,
        None => parse_date(value).map_or(IfRange::Invalid, IfRange::Date),
    }
}

/// A date in any of the three forms of RFC 9110 section 5.6.7; `None` for anything else.
pub(super) fn parse_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()
}

/// Leaves out the empty elements at the start of a list (RFC 9110 section 5.6.1.2).
fn skip_empty(mut list: &[u8]) -> &[u8] {
    while let [b',' | b' ' | b'\t', rest @ ..] = list {
        list = rest;
    }
    list
}

fn split_tag(bytes: &[u8]) -> Option<(EntityTag, &[u8])> {
    let (strength, quoted) = match bytes {
        [b'W', b'/', b'"', rest @ ..] => (Strength::Weak, rest),
        [b'"', rest @ ..] => (Strength::Strong, rest),
        _ => return None,
    };
    let end = quoted.iter().position(|byte| *byte == b'"')?;
    let is_etagc = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    let opaque = &quoted[..end];
    opaque.iter().all(is_etagc).then(|| {
        (
            EntityTag {
                strength,
                opaque: opaque.into(),
            },
            &quoted[end + 1..],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(strength: Strength, opaque: &str) -> EntityTag {
        EntityTag {
            strength,
            opaque: opaque.as_bytes().into(),
        }
    }

    #[test]
    fn lists_of_tags_may_hold_commas_within_the_quotes() {
        let values = [b", \"a,b\" , W/\"c\",, \"\"".as_slice(), b"\"d\""];
        let expected = vec![
            tag(Strength::Strong, "a,b"),
            tag(Strength::Weak, "c"),
            tag(Strength::Strong, ""),
            tag(Strength::Strong, "d"),
        ];
        assert_eq!(parse_tags(values.into_iter()), EntityTags::List(expected));
        assert_eq!(parse_tags([b" * ".as_slice()].into_iter()), EntityTags::Any);
    }

    #[test]
    fn what_is_no_tag_matches_nothing() {
        for bad in ["a", "w/\"a\"", "\"a", "\"a b\"", ""] {
            let parsed = parse_tags([bad.as_bytes()].into_iter());
            assert_eq!(parsed, EntityTags::List(Vec::new()), "{bad}");
        }
    }

    #[test]
    fn if_range_is_one_tag_or_one_date() {
        assert_eq!(
            parse_if_range(b"\"a\""),
            IfRange::Tag(tag(Strength::Strong, "a"))
        );
        assert_eq!(parse_if_range(b"\"a\", \"b\""), IfRange::Invalid);
        assert_eq!(parse_if_range(b"yesterday"), IfRange::Invalid);
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert!(
                matches!(parse_if_range(date.as_bytes()), IfRange::Date(_)),
                "{date}"
            );
        }
    }
}
