//! Preconditions (RFC 9110 section 13): their syntax, and their order.

use std::time::{SystemTime, UNIX_EPOCH};

use super::date::parse_date;
use super::field_values::trim;
use super::validator::{EntityTag, Strength, Validators};

/// The preconditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<EntityTags>,
    /// `If-Unmodified-Since`, where it is a date.
    pub if_unmodified_since: Option<SystemTime>,
    /// `If-None-Match`.
    pub if_none_match: Option<EntityTags>,
    /// `If-Modified-Since`, where it is a date.
    pub if_modified_since: Option<SystemTime>,
    /// `If-Range`.
    pub if_range: Option<IfRange>,
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any content.
    Any,
    /// A list of tags. Empty when none of the list was an entity tag.
    List(Vec<EntityTag>),
}

/// The value of `If-Range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// An entity tag.
    Tag(EntityTag),
    /// A date.
    Date(SystemTime),
    /// Neither: never true.
    Invalid,
}

/// The outcome of the preconditions of a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer with the content, or with the ranges of the verdict.
    Perform(RangeVerdict),
    /// The client has it already (304).
    NotModified,
    /// The client meant another content (412).
    Failed,
}

/// Whether `Range` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeVerdict {
    /// The range applies.
    Apply,
    /// The client has parts of another content, or of an unknown one: it needs the whole.
    Ignore,
}

/// Reads the values of `If-Match` or `If-None-Match`. A malformed tag ends the list: it matches
/// nothing, nor does a tag behind the first [`MAX_TAGS`]. The response is the whole then, or 412,
/// and correct in both cases.
pub(super) fn parse_tags<'a>(values: impl Iterator<Item = &'a [u8]>) -> EntityTags {
    let mut tags = Vec::new();
    for value in values {
        let mut rest = trim(value);
        if rest == b"*" {
            return EntityTags::Any;
        }
        while let Some((tag, after)) = EntityTag::split(skip_empty(rest)) {
            if tags.len() == MAX_TAGS {
                return EntityTags::List(tags);
            }
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
    match EntityTag::split(value) {
        Some((tag, [])) => IfRange::Tag(tag),
        Some(_) => IfRange::Invalid,
        None => parse_date(value).map_or(IfRange::Invalid, IfRange::Date),
    }
}

/// Leaves out the empty elements at the start of a list (RFC 9110 section 5.6.1.2).
fn skip_empty(mut list: &[u8]) -> &[u8] {
    while let [b',' | b' ' | b'\t', rest @ ..] = list {
        list = rest;
    }
    list
}

/// Evaluates the preconditions of a GET or HEAD for an existing file.
pub(crate) fn evaluate(conditions: &Conditions, validators: &Validators) -> Verdict {
    // Steps 1 and 2.
    match (&conditions.if_match, conditions.if_unmodified_since) {
        (Some(tags), _) if !matches(tags, validators, strongly_equal) => return Verdict::Failed,
        (None, Some(date)) if validators.last_modified > seconds(date) => return Verdict::Failed,
        _ => {}
    }
    // Steps 3 and 4.
    match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) if matches(tags, validators, weakly_equal) => return Verdict::NotModified,
        (None, Some(date)) if validators.last_modified <= seconds(date) => {
            return Verdict::NotModified;
        }
        _ => {}
    }
    // Step 5.
    let same = match &conditions.if_range {
        None => true,
        Some(IfRange::Tag(tag)) => strongly_equal(tag, &validators.etag),
        // Section 13.1.5: an exact match, and of a date that is a strong validator.
        Some(IfRange::Date(date)) => {
            seconds(*date) == validators.last_modified
                && validators.date_strength == Strength::Strong
        }
        Some(IfRange::Invalid) => false,
    };
    Verdict::Perform(if same {
        RangeVerdict::Apply
    } else {
        RangeVerdict::Ignore
    })
}

fn matches(
    tags: &EntityTags,
    validators: &Validators,
    equal: fn(&EntityTag, &EntityTag) -> bool,
) -> bool {
    match tags {
        EntityTags::Any => true,
        EntityTags::List(tags) => tags.iter().any(|tag| equal(tag, &validators.etag)),
    }
}

fn strongly_equal(one: &EntityTag, other: &EntityTag) -> bool {
    one.strength == Strength::Strong && one == other
}

fn weakly_equal(one: &EntityTag, other: &EntityTag) -> bool {
    one.opaque == other.opaque
}

/// Dates before 1970 are as old as can be.
fn seconds(date: SystemTime) -> u64 {
    date.duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// Far more than any cache keeps of one resource; each takes memory as long as its request.
const MAX_TAGS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Section 13.2.2 step by step, as it is written there.
    fn naive(conditions: &Conditions, validators: &Validators) -> Verdict {
        let seconds = |date: SystemTime| {
            date.duration_since(UNIX_EPOCH)
                .expect("the test has no older dates")
                .as_secs()
        };
        let weak = |tag: &EntityTag| tag.opaque == validators.etag.opaque;
        let strong = |tag: &EntityTag| {
            weak(tag)
                && tag.strength == Strength::Strong
                && validators.etag.strength == Strength::Strong
        };
        let any = |tags: &EntityTags, equal: &dyn Fn(&EntityTag) -> bool| match tags {
            EntityTags::Any => true,
            EntityTags::List(tags) => tags.iter().any(equal),
        };
        // 1. When If-Match is present; 2. else when If-Unmodified-Since is present.
        if let Some(tags) = &conditions.if_match {
            if !any(tags, &strong) {
                return Verdict::Failed;
            }
        } else if let Some(date) = conditions.if_unmodified_since {
            let unmodified = validators.last_modified <= seconds(date);
            if !unmodified {
                return Verdict::Failed;
            }
        }
        // 3. When If-None-Match is present; 4. else when If-Modified-Since is present.
        if let Some(tags) = &conditions.if_none_match {
            if any(tags, &weak) {
                return Verdict::NotModified;
            }
        } else if let Some(date) = conditions.if_modified_since {
            let modified = validators.last_modified > seconds(date);
            if !modified {
                return Verdict::NotModified;
            }
        }
        // 5. When Range and If-Range are present.
        let ranges = match &conditions.if_range {
            Some(IfRange::Tag(tag)) if !strong(tag) => RangeVerdict::Ignore,
            Some(IfRange::Date(_)) if validators.date_strength == Strength::Weak => {
                RangeVerdict::Ignore
            }
            Some(IfRange::Date(date)) if seconds(*date) != validators.last_modified => {
                RangeVerdict::Ignore
            }
            Some(IfRange::Invalid) => RangeVerdict::Ignore,
            _ => RangeVerdict::Apply,
        };
        Verdict::Perform(ranges)
    }

    fn tag() -> impl Strategy<Value = EntityTag> {
        let strength = prop_oneof![Just(Strength::Strong), Just(Strength::Weak)];
        (strength, "[ab]").prop_map(|(strength, opaque)| EntityTag {
            strength,
            opaque: opaque.as_bytes().into(),
        })
    }

    fn tags() -> impl Strategy<Value = EntityTags> {
        let list = proptest::collection::vec(tag(), 0..3).prop_map(EntityTags::List);
        prop_oneof![1 => Just(EntityTags::Any), 4 => list]
    }

    fn date() -> impl Strategy<Value = SystemTime> {
        (0_u64..4).prop_map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn conditions() -> impl Strategy<Value = Conditions> {
        let if_range = prop_oneof![
            tag().prop_map(IfRange::Tag),
            date().prop_map(IfRange::Date),
            Just(IfRange::Invalid)
        ];
        let parts = (
            proptest::option::of(tags()),
            proptest::option::of(date()),
            proptest::option::of(tags()),
            proptest::option::of(date()),
            proptest::option::of(if_range),
        );
        parts.prop_map(
            |(if_match, if_unmodified_since, if_none_match, if_modified_since, if_range)| {
                Conditions {
                    if_match,
                    if_unmodified_since,
                    if_none_match,
                    if_modified_since,
                    if_range,
                }
            },
        )
    }

    fn validators() -> impl Strategy<Value = Validators> {
        (tag(), 0_u64..4).prop_map(|(etag, last_modified)| Validators {
            date_strength: etag.strength,
            etag,
            last_modified,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_order_is_the_rfcs(conditions in conditions(), validators in validators()) {
            prop_assert_eq!(evaluate(&conditions, &validators), naive(&conditions, &validators));
        }
    }

    fn tag_of(strength: Strength, opaque: &str) -> EntityTag {
        EntityTag {
            strength,
            opaque: opaque.as_bytes().into(),
        }
    }

    #[test]
    fn lists_of_tags_may_hold_commas_within_the_quotes() {
        let values = [b", \"a,b\" , W/\"c\",, \"\"".as_slice(), b"\"d\""];
        let expected = vec![
            tag_of(Strength::Strong, "a,b"),
            tag_of(Strength::Weak, "c"),
            tag_of(Strength::Strong, ""),
            tag_of(Strength::Strong, "d"),
        ];
        assert_eq!(parse_tags(values.into_iter()), EntityTags::List(expected));
        assert_eq!(parse_tags([b" * ".as_slice()].into_iter()), EntityTags::Any);
    }

    #[test]
    fn a_list_of_tags_takes_bounded_memory() {
        let value = "\"a\",".repeat(10_000);
        let EntityTags::List(tags) = parse_tags([value.as_bytes()].into_iter()) else {
            panic!("a list");
        };
        assert_eq!(tags.len(), MAX_TAGS);
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
            IfRange::Tag(tag_of(Strength::Strong, "a"))
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
