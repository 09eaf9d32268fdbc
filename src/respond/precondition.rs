//! Preconditions, in the order of RFC 9110 section 13.2.2.

use std::time::{SystemTime, UNIX_EPOCH};

use super::validator::Validators;
use crate::exchange::{Conditions, EntityTag, EntityTags, IfRange, Strength};

/// What the preconditions say about a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer with the content, and with parts of it as far as `ranges` says.
    Perform(RangeVerdict),
    /// The client has it already (304).
    NotModified,
    /// The client meant another content (412).
    Failed,
}

/// Whether `Range` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeVerdict {
    /// It does.
    Apply,
    /// The client has parts of another content, or cannot tell: it needs the whole.
    Ignore,
}

/// Evaluates the preconditions of a GET or HEAD for an existing file.
pub fn evaluate(conditions: &Conditions, validators: &Validators) -> Verdict {
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
