//! Validation of responses: the rules that keep two versions of a file apart.
//!
//! Pure: heads in, verdicts out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http::client_response::{Framing, Head};
use crate::http::range::ContentRange;

use crate::get::part_file::extents::Extent;

/// The proof that two responses are of the same bytes (RFC 9110, section 8.8.1: strong).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Validator {
    /// A strong entity tag, quotes included.
    Etag(String),
    /// A `Last-Modified` old enough to be strong (section 8.8.2.2), byte for byte.
    LastModified(String),
}

/// Which file is being fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Bytes.
    pub(crate) length: u64,
    /// `None`: nothing strong.
    pub(crate) validator: Option<Validator>,
    /// The entity tag that is not strong.
    #[serde(default)]
    pub(crate) weak_tag: Option<String>,
    /// `Last-Modified`, strong or not: a second sign of the version on a mirror.
    pub(crate) last_modified: Option<String>,
}

/// The validity of a response to a range request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The requested bytes, up to `end`, which may be early.
    Part { end: u64 },
    /// The same file, whole: this server has no ranges.
    Whole,
    /// Another file, whole, with this response's body.
    ChangedWhole,
    /// Another file, and no use for this response.
    Changed,
    /// A wrong response: this server's ranges are unreliable.
    Wrong(String),
}

impl Validator {
    /// The strong validator of a response, if it has one.
    pub(crate) fn of(head: &Head) -> Option<Self> {
        if let Some(etag) = &head.etag {
            // A weak tag means that the bytes may differ under one time stamp, too.
            return is_strong_tag(etag).then(|| Self::Etag(etag.clone()));
        }
        let modified = head.last_modified.as_ref()?;
        let age = head
            .date?
            .duration_since(httpdate::parse_http_date(modified).ok()?)
            .ok()?;
        (age >= STRONG_AGE).then(|| Self::LastModified(modified.clone()))
    }

    /// The field value of `If-Range`, each byte as the character of the same number.
    pub(crate) fn as_if_range(&self) -> &str {
        match self {
            Self::Etag(value) | Self::LastModified(value) => value,
        }
    }

    /// `head` carries this very validator.
    fn matches(&self, head: &Head) -> bool {
        match self {
            Self::Etag(value) => head.etag.as_ref() == Some(value),
            Self::LastModified(value) => head.last_modified.as_ref() == Some(value),
        }
    }
}

fn is_strong_tag(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// The entity tag that is not strong, or not well made.
fn weak_tag(head: &Head) -> Option<&String> {
    head.etag.as_ref().filter(|etag| !is_strong_tag(etag))
}

impl Identity {
    /// The identity of a whole response's file, where it has a length.
    pub(crate) fn of(head: &Head) -> Option<Self> {
        let Framing::Length(length) = head.framing() else {
            return None;
        };
        Some(Self {
            length,
            validator: Validator::of(head),
            weak_tag: weak_tag(head).cloned(),
            last_modified: head.last_modified.clone(),
        })
    }

    /// The tag or date that it is known by, in words.
    pub(crate) fn describe(&self) -> String {
        match (&self.validator, &self.weak_tag, &self.last_modified) {
            (Some(Validator::Etag(tag)), ..) | (_, Some(tag), _) => format!("ETag {tag}"),
            (.., Some(date)) => format!("of {date}"),
            (.., None) => "no ETag".to_owned(),
        }
    }

    /// Whether two responses can be proven to be of one version, under `trust`.
    pub(crate) fn is_enough(&self, trust: Trust) -> bool {
        let signs = self.weak_tag.is_some() || self.last_modified.is_some();
        self.validator.is_some() || trust == Trust::Checksum || (trust == Trust::Loose && signs)
    }

    /// Whether the whole response with this head is of the same file, under `trust`.
    pub(crate) fn is_same(&self, head: &Head, trust: Trust) -> bool {
        head.framing() == Framing::Length(self.length)
            && self.validates(head, self.validator.as_ref(), trust)
    }

    /// The head does not contradict the kept file.
    fn agrees(&self, head: &Head) -> bool {
        self.weak_tag.as_ref() == weak_tag(head) && self.last_modified == head.last_modified
    }

    fn validates(&self, head: &Head, validator: Option<&Validator>, trust: Trust) -> bool {
        match (validator, trust) {
            (Some(validator), _) => validator.matches(head),
            (None, Trust::Checksum) => true,
            (None, Trust::Loose) => self.is_enough(trust) && self.agrees(head),
            (None, Trust::Signs) => false,
        }
    }

    /// Validates a response to a request for `asked` of this file under `validator`.
    pub(crate) fn judge(
        &self,
        head: &Head,
        asked: Extent,
        validator: Option<&Validator>,
        trust: Trust,
    ) -> Verdict {
        match head.status {
            206 => match self.place(head, asked) {
                Ok(_) if !self.validates(head, validator, trust) => match validator {
                    Some(Validator::Etag(_)) if head.etag.is_none() => {
                        Verdict::Wrong("a range without the file's ETag".to_owned())
                    }
                    Some(Validator::LastModified(_)) if head.last_modified.is_none() => {
                        Verdict::Wrong("a range without the file's Last-Modified".to_owned())
                    }
                    _ => Verdict::Changed,
                },
                Ok(end) => Verdict::Part { end },
                Err(verdict) => verdict,
            },
            200 | 203
                if head.framing() == Framing::Length(self.length)
                    && self.validates(head, validator, trust) =>
            {
                Verdict::Whole
            }
            200 | 203 => Verdict::ChangedWhole,
            416 => match head.content_range.as_deref().and_then(ContentRange::parse) {
                Some(ContentRange::Unsatisfied { total }) if total != self.length => {
                    Verdict::Changed
                }
                _ => Verdict::Wrong("416 to a range inside the file".to_owned()),
            },
            _ => Verdict::Wrong(format!("status {} to a range request", head.status)),
        }
    }

    /// Validates the first response of a mirror for `asked`: returns the mirror's validator if its
    /// file is this one, else the difference. `trust` is what a sum will prove later.
    pub(crate) fn judge_mirror(
        &self,
        head: &Head,
        asked: Extent,
        trust: Trust,
    ) -> Result<(u64, Option<Validator>), String> {
        if head.status != 206 {
            return Err(format!("it answers {} to a range request", head.status));
        }
        let end = match self.place(head, asked) {
            Ok(end) => end,
            Err(Verdict::Changed) => return Err("its file has another length".to_owned()),
            Err(_) => return Err("it answers with another range than was asked for".to_owned()),
        };
        let validator = Validator::of(head);
        let same_tag = matches!(validator, Some(Validator::Etag(_))) && self.validator == validator;
        let same_time = self.last_modified.is_some() && self.agrees(head);
        let is_same = match trust {
            Trust::Checksum => true,
            // Files that are not one have a time in common: that of a build, or of a copy.
            Trust::Signs => same_tag,
            Trust::Loose => same_tag || same_time,
        };
        if !is_same {
            return Err(
                "nothing shows that its file is the same: its ETag is another \
                (give --sha256 or --blake3)"
                    .to_owned(),
            );
        }
        Ok((end, validator))
    }

    /// The end of the range in a 206 that begins at the requested offset, in a file of this length.
    fn place(&self, head: &Head, asked: Extent) -> Result<u64, Verdict> {
        let wrong = |text: String| Err(Verdict::Wrong(text));
        let range = head.content_range.as_deref().and_then(ContentRange::parse);
        let Some(ContentRange::Part { start, end, total }) = range else {
            return wrong("206 without a Content-Range that makes sense".to_owned());
        };
        let content_type = head.content_type.as_deref().unwrap_or_default();
        if content_type
            .to_ascii_lowercase()
            .starts_with("multipart/byteranges")
        {
            // RFC 9110, section 15.3.7.2: a multipart body has headers between the bytes.
            return wrong("206 with several parts to a request for one range".to_owned());
        }
        match total {
            Some(total) if total != self.length => return Err(Verdict::Changed),
            Some(_) => {}
            None => return wrong("a range of a file of unknown length".to_owned()),
        }
        if start != asked.0 || end > asked.1 {
            return wrong(format!(
                "bytes {start}-{} where {}-{} were asked for",
                end - 1,
                asked.0,
                asked.1 - 1
            ));
        }
        match head.framing() {
            Framing::Length(length) if length != end - start => {
                wrong(format!("{length} bytes for a range of {}", end - start))
            }
            _ => Ok(end),
        }
    }
}

/// The kind of proof that two responses' files are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Strong validators; of several servers, equal entity tags.
    Signs,
    /// Weak ones too; of several servers, an equal length and time.
    Loose,
    /// The sum of the whole file, in the end.
    Checksum,
}

/// The RFC's minimum distance between `Last-Modified` and `Date` is a second; servers that round
/// and clocks that are set need more.
const STRONG_AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            length: 100,
            validator: Some(Validator::Etag("\"a\"".into())),
            weak_tag: None,
            last_modified: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
        }
    }

    fn part(range: &str, etag: &str) -> Head {
        Head {
            status: 206,
            content_range: Some(range.to_owned()),
            etag: Some(etag.to_owned()),
            ..Head::default()
        }
    }

    fn judge(head: &Head) -> Verdict {
        let identity = identity();
        identity.judge(head, (10, 50), identity.validator.as_ref(), Trust::Signs)
    }

    #[test]
    fn only_the_range_that_was_asked_for_is_a_part() {
        assert!(matches!(
            judge(&part("bytes 10-49/100", "\"a\"")),
            Verdict::Part { end: 50 }
        ));
        assert!(matches!(
            judge(&part("bytes 10-19/100", "\"a\"")),
            Verdict::Part { end: 20 }
        ));
        for wrong in [
            "bytes 0-49/100",
            "bytes 10-59/100",
            "bytes 10-49/*",
            "bytes */100",
            "",
            "lines 1-2/3",
        ] {
            assert!(
                matches!(judge(&part(wrong, "\"a\"")), Verdict::Wrong(_)),
                "{wrong}"
            );
        }
        let mut several = part("bytes 10-49/100", "\"a\"");
        several.content_type = Some("Multipart/ByteRanges; boundary=B".to_owned());
        assert!(matches!(judge(&several), Verdict::Wrong(_)));
        let mut lied = part("bytes 10-49/100", "\"a\"");
        lied.content_length = Some(39);
        assert!(matches!(judge(&lied), Verdict::Wrong(_)));
    }

    #[test]
    fn another_file_is_never_a_part() {
        assert!(matches!(
            judge(&part("bytes 10-49/100", "\"b\"")),
            Verdict::Changed
        ));
        assert!(matches!(
            judge(&part("bytes 10-49/101", "\"a\"")),
            Verdict::Changed
        ));
        assert!(matches!(
            judge(&part("bytes 10-49/100", "W/\"a\"")),
            Verdict::Changed
        ));
        let untagged = Head {
            etag: None,
            ..part("bytes 10-49/100", "")
        };
        assert!(matches!(judge(&untagged), Verdict::Wrong(_)));
    }

    #[test]
    fn whole_answers_to_a_range() {
        let whole = |etag: &str, length| Head {
            status: 200,
            etag: Some(etag.to_owned()),
            content_length: Some(length),
            ..Head::default()
        };
        assert!(matches!(judge(&whole("\"a\"", 100)), Verdict::Whole));
        assert!(matches!(judge(&whole("\"a\"", 99)), Verdict::ChangedWhole));
        assert!(matches!(judge(&whole("\"b\"", 100)), Verdict::ChangedWhole));
    }

    #[test]
    fn validators_that_are_too_weak() {
        let mut head = Head {
            etag: Some("W/\"a\"".to_owned()),
            ..Head::default()
        };
        assert_eq!(Validator::of(&head), None);
        head.etag = None;
        head.last_modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
        assert_eq!(Validator::of(&head), None, "no Date");
        head.date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:47 GMT").ok();
        assert_eq!(Validator::of(&head), None, "ten seconds old");
        head.date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:59:37 GMT").ok();
        assert!(matches!(
            Validator::of(&head),
            Some(Validator::LastModified(_))
        ));
    }

    #[test]
    fn mirrors_need_a_sign_or_a_sum() {
        let mut mirror = part("bytes 10-49/100", "\"m\"");
        let judge = |head: &Head, trust| identity().judge_mirror(head, (10, 50), trust);
        assert!(judge(&mirror, Trust::Signs).is_err());
        assert!(judge(&mirror, Trust::Checksum).is_ok());
        let same_tag = part("bytes 10-49/100", "\"a\"");
        assert!(judge(&same_tag, Trust::Signs).is_ok());
        mirror.last_modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
        assert!(judge(&mirror, Trust::Signs).is_err());
        assert_eq!(
            judge(&mirror, Trust::Loose),
            Ok((50, Some(Validator::Etag("\"m\"".into()))))
        );
        let other_time = Head {
            last_modified: Some("Sun, 06 Nov 1994 08:49:38 GMT".to_owned()),
            ..mirror.clone()
        };
        assert!(judge(&other_time, Trust::Loose).is_err());
        mirror.content_range = Some("bytes 10-49/101".to_owned());
        assert!(judge(&mirror, Trust::Checksum).is_err());
    }
}
