//! The operator's choices about HTTP.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::GlobMatcher;

/// Limits of a request. Each has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Longest request line in bytes, its end not counted (414).
    pub request_line_bytes: usize,
    /// Largest head in bytes, request line and blank line included (431).
    pub head_bytes: usize,
    /// Most header fields (431). At most [`HttpLimits::MAX_FIELDS`].
    pub fields: usize,
    /// Most ranges in a `Range` field; a set with more is answered with the whole.
    pub ranges: usize,
    /// Largest request body in bytes that is discarded to keep a connection, the framing of
    /// its chunks included. After a longer one the connection closes.
    pub discarded_body_bytes: u64,
    /// Most requests on one connection; the last is answered with `Connection: close`.
    pub requests_per_connection: u64,
}

impl HttpLimits {
    /// The upper bound of [`HttpLimits::fields`]: the parser keeps so many on its stack.
    pub const MAX_FIELDS: usize = 256;
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            // A name of 4,096 bytes with every byte percent-encoded takes 12 KiB.
            request_line_bytes: 16 << 10,
            head_bytes: 32 << 10,
            fields: 100,
            ranges: 64,
            discarded_body_bytes: 1 << 20,
            requests_per_connection: 100_000,
        }
    }
}

/// How haul answers.
#[derive(Clone, Debug, Default)]
pub struct HttpPolicy {
    /// The source of entity tags.
    pub etag: EtagChoice,
    /// Whether scripts of other origins may read what is served.
    pub cors: Cors,
    /// `Cache-Control` by name; the first rule that matches counts.
    pub cache_control: Vec<CacheRule>,
    /// Further fields for every response, in order.
    pub fields: Vec<Field>,
}

impl HttpPolicy {
    /// The value of `Cache-Control` for a file, if a rule matches its path from the root.
    pub fn cache_control_of(&self, path: &[u8]) -> Option<&str> {
        let path = Path::new(OsStr::from_bytes(path));
        let rule = self
            .cache_control
            .iter()
            .find(|rule| rule.glob.is_match(path))?;
        Some(&rule.value)
    }
}

/// The operator's choices about listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingPolicy {
    /// Whether names that begin with a dot are shown.
    pub dot_names: DotNames,
    /// Most entries of a page.
    pub page_entries: usize,
}

impl Default for ListingPolicy {
    fn default() -> Self {
        Self {
            dot_names: DotNames::Hidden,
            page_entries: 1_000,
        }
    }
}

/// Whether names that begin with a dot are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DotNames {
    /// Names that begin with a dot are hidden.
    Hidden,
    /// Names that begin with a dot are shown.
    Shown,
}

/// The source of entity tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtagChoice {
    /// Device, inode, length, mtime and ctime: no two contents share a tag in practice. Replicas
    /// of a file differ, and a change of mode or owner changes the tag.
    #[default]
    Inode,
    /// Mtime and length: equal on replicas behind a balancer that keep the mtime; two contents
    /// of one length and mtime share a tag.
    MtimeSize,
}

/// Cross-origin reading (Fetch standard, section 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Only pages of the same origin.
    #[default]
    SameOrigin,
    /// Every page, without credentials.
    AnyOrigin,
}

/// `GLOB=VALUE`: a `Cache-Control` value for the files whose name matches.
#[derive(Clone, Debug)]
pub struct CacheRule {
    /// Matched against the path from the root.
    pub glob: GlobMatcher,
    /// The field's value.
    pub value: String,
}

impl CacheRule {
    /// Reads `GLOB=VALUE`.
    ///
    /// # Errors
    /// A description of the mistake, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (glob, value) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` has no `=`; write GLOB=VALUE, for example '*.css=max-age=3600'")
        })?;
        let glob = globset::Glob::new(glob)
            .map_err(|error| format!("`{glob}` is not a glob: {error}"))?
            .compile_matcher();
        check_value(value)?;
        Ok(Self {
            glob,
            value: value.trim().to_owned(),
        })
    }
}

/// A header field set by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// A token that is not the name of a field haul computes itself.
    pub name: String,
    /// Without line ends and control characters.
    pub value: String,
}

impl Field {
    /// Reads `Name: value`.
    ///
    /// # Errors
    /// A description of the mistake, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or_else(|| {
            format!("`{text}` has no colon; write 'Name: value', for example 'X-Robots-Tag: none'")
        })?;
        if name.is_empty() || !name.bytes().all(super::field_values::is_token) {
            return Err(format!("`{name}` is not the name of a header field"));
        }
        if COMPUTED
            .iter()
            .any(|computed| computed.eq_ignore_ascii_case(name))
        {
            return Err(format!(
                "`{name}` is set by haul itself; a second one would contradict it"
            ));
        }
        check_value(value)?;
        Ok(Self {
            name: name.to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

fn check_value(value: &str) -> Result<(), String> {
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("the value {value:?} holds a control character"));
    }
    Ok(())
}

/// Fields that frame or describe the content; overriding one would make a response untrue.
const COMPUTED: [&str; 19] = [
    "Accept-Ranges",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Connection",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "Digest",
    "ETag",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "Repr-Digest",
    "Repr-Digest-BLAKE3",
    "Trailer",
    "Transfer-Encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_contradict_the_framing() {
        assert!(Field::parse("X-Robots-Tag: none").is_ok());
        for bad in [
            "content-length: 3",
            "no colon",
            "A B: c",
            ": c",
            "X: a\r\nY: b",
        ] {
            assert!(Field::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cache_rule_splits_at_the_first_equals_sign() {
        let rule = CacheRule::parse("*.css=max-age=3600").expect("well-formed");
        assert_eq!(rule.value, "max-age=3600");
        assert!(rule.glob.is_match("a/b.css"));
        assert!(CacheRule::parse("*.css").is_err());
    }
}
