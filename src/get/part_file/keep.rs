//! The rule that decides whether bytes that are here may be discarded.
//!
//! No response and no wrong sum makes the kept bytes fewer without `--restart`. Every truncation,
//! removal and replacement of a part file is decided here.

use crate::http::client_response::{Framing, Head};

use crate::get::config::KeptChoice;
use crate::get::part_file::validate::{Identity, Trust, Validator};

/// The bytes that are here of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// Bytes that are here for certain.
    pub(crate) bytes: u64,
    /// `None`: nothing was known of its file but its bytes.
    pub(crate) identity: Option<Identity>,
    /// `Content-Type` of their response.
    pub(crate) content_type: Option<String>,
    /// The whole file is here, and its sum is wrong.
    pub(crate) has_wrong_checksum: bool,
}

/// The effect of a response with a whole file on the bytes that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The part file starts over.
    Begin,
    /// The version is the same: the part file gets its missing bytes.
    GoOn,
    /// The response goes into a second part file; the first one goes once that is whole.
    Beside,
    /// The file is another one, and looks like a passing fault of the server, or another node.
    Suspicious,
    /// The file is another one, and the bytes that are kept stay.
    Refuse,
}

/// Decides on the response of `head`.
pub(crate) fn decide(kept: &Kept, head: &Head, restart: KeptChoice, trust: Trust) -> Decision {
    if kept.bytes == 0 {
        return Decision::Begin;
    }
    let same = kept
        .identity
        .as_ref()
        .is_some_and(|identity| identity.is_enough(trust) && identity.is_same(head, trust));
    match (same, restart) {
        (true, _) if kept.has_wrong_checksum => Decision::Beside,
        (true, _) => Decision::GoOn,
        (false, KeptChoice::Restart) => Decision::Beside,
        (false, KeptChoice::Keep) if could_be_same(kept, head, trust) => Decision::Beside,
        // Bytes that are known to be wrong stand in no other version's way.
        (false, KeptChoice::Keep) if kept.has_wrong_checksum && !is_suspicious(kept, head) => {
            Decision::Beside
        }
        (false, KeptChoice::Keep) if is_suspicious(kept, head) || is_of_other_node(kept, head) => {
            Decision::Suspicious
        }
        (false, KeptChoice::Keep) => Decision::Refuse,
    }
}

/// A page came for a whole file that begins with `begins` and is to be updated: more likely from a
/// captive portal than a new version.
pub(crate) fn is_page_over(begins: &[u8], head: &Head, restart: KeptChoice) -> bool {
    let was_page = begins.trim_ascii_start().first() == Some(&b'<');
    restart == KeptChoice::Keep
        && !begins.is_empty()
        && !was_page
        && is_html(head.content_type.as_deref())
}

/// Whether a second part file of `bytes`, whole, may replace the kept one.
pub(crate) fn may_replace(kept_bytes: u64, bytes: u64, restart: KeptChoice) -> bool {
    restart == KeptChoice::Restart || bytes >= kept_bytes
}

/// No validator distinguishes versions of this file, and length and type are equal.
fn could_be_same(kept: &Kept, head: &Head, trust: Trust) -> bool {
    match &kept.identity {
        Some(identity) if identity.is_enough(trust) => false,
        Some(identity) => Identity::of(head).as_ref() == Some(identity) && !became_html(kept, head),
        None => !is_suspicious(kept, head),
    }
}

/// Error pages, captive portals and files that were just wiped look like this.
fn is_suspicious(kept: &Kept, head: &Head) -> bool {
    let shorter = match (&kept.identity, head.framing()) {
        (Some(identity), Framing::Length(length)) => length < identity.length,
        (None, Framing::Length(length)) => length < kept.bytes,
        (Some(_), Framing::Chunked | Framing::UntilClose) => true,
        (None, Framing::Chunked | Framing::UntilClose) => false,
    };
    shorter || became_html(kept, head)
}

/// The nodes of one server may each have an entity tag of their own for one file.
fn is_of_other_node(kept: &Kept, head: &Head) -> bool {
    kept.identity.as_ref().is_some_and(|ours| {
        matches!(ours.validator, Some(Validator::Etag(_)))
            && head.etag.is_some()
            && head.framing() == Framing::Length(ours.length)
    })
}

fn became_html(kept: &Kept, head: &Head) -> bool {
    is_html(head.content_type.as_deref()) && !is_html(kept.content_type.as_deref())
}

fn is_html(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.starts_with("text/html") || value.starts_with("application/xhtml")
    })
}

/// Both versions in words.
pub(crate) fn compare(kept: &Kept, head: &Head) -> String {
    let signs = |length: Option<u64>, identity: Option<&Identity>, kind: Option<&str>| {
        let length = length.map_or_else(
            || "unknown length".to_owned(),
            |length| format!("{length} B"),
        );
        format!(
            "{length}, {}, {}",
            identity.map_or_else(|| "no ETag".to_owned(), Identity::describe),
            kind.unwrap_or("no type")
        )
    };
    let theirs = Identity::of(head);
    let their_length = theirs.as_ref().map(|theirs| theirs.length);
    let our_length = kept.identity.as_ref().map(|ours| ours.length);
    format!(
        "the server's file is another one now ({}) than the one that is here with {} bytes ({})",
        signs(their_length, theirs.as_ref(), head.content_type.as_deref()),
        kept.bytes,
        signs(
            our_length,
            kept.identity.as_ref(),
            kept.content_type.as_deref()
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heads() -> impl Strategy<Value = Head> {
        let tags = prop::option::of(prop::sample::select(vec!["\"a\"", "\"b\"", "W/\"a\"", "x"]));
        let dates = prop::option::of(prop::sample::select(vec![
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:38 GMT",
        ]));
        let types = prop::option::of(prop::sample::select(vec!["text/html", "a/b"]));
        (tags, dates, types, prop::option::of(0u64..4), any::<bool>()).prop_map(
            |(tag, date, kind, length, chunked)| Head {
                status: 200,
                etag: tag.map(Into::into),
                last_modified: date.map(Into::into),
                content_type: kind.map(str::to_owned),
                content_length: length,
                chunked,
                date: httpdate::parse_http_date("Sun, 06 Nov 1999 08:49:37 GMT").ok(),
                ..Head::default()
            },
        )
    }

    /// The bytes left in the part file: first when the response breaks off after `came` bytes, then
    /// when it is whole.
    fn left(kept: &Kept, decision: &Decision, came: u64, restart: KeptChoice) -> (u64, u64) {
        match decision {
            Decision::Begin => (came, came),
            Decision::GoOn => (kept.bytes.max(came), kept.bytes.max(came)),
            Decision::Beside if may_replace(kept.bytes, came, restart) => (kept.bytes, came),
            Decision::Beside | Decision::Suspicious | Decision::Refuse => (kept.bytes, kept.bytes),
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_kept_bytes_fewer(
            first in heads(),
            then in heads(),
            bytes in 0u64..4,
            came in 0u64..4,
            has_wrong_checksum in any::<bool>(),
            trust in prop::sample::select(vec![Trust::Signs, Trust::Loose, Trust::Checksum]),
        ) {
            let identity = Identity::of(&first);
            let bytes = identity.as_ref().map_or(bytes, |identity| bytes.min(identity.length));
            let content_type = first.content_type;
            let kept = Kept { bytes, identity, content_type, has_wrong_checksum };
            let decision = decide(&kept, &then, KeptChoice::Keep, trust);
            let (broken, whole) = left(&kept, &decision, came, KeptChoice::Keep);
            prop_assert!(broken >= kept.bytes && whole >= kept.bytes, "{:?}", decision);
            // Bytes of two files are never put together, and a page never replaces a file.
            if decision == Decision::GoOn {
                let ours = kept.identity.as_ref().unwrap();
                prop_assert!(ours.is_same(&then, trust) && !has_wrong_checksum);
            }
            if decision == Decision::Beside && !has_wrong_checksum {
                prop_assert!(!became_html(&kept, &then));
            }
        }

        #[test]
        fn a_restart_takes_every_version(first in heads(), then in heads(), bytes in 0u64..4) {
            let identity = Identity::of(&first);
            let kept = Kept { bytes, identity, ..Kept::default() };
            let decision = decide(&kept, &then, KeptChoice::Restart, Trust::Signs);
            prop_assert!(matches!(decision, Decision::Begin | Decision::GoOn | Decision::Beside));
        }
    }
}
