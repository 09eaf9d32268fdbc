//! The query of a request's target: what it asks of a file or a listing, and its signed link.

use percent_encoding::percent_decode;

use super::disposition::Disposition;
use super::negotiate::ListingFormat;
use crate::signed_link::{Presented, Rejection};

/// The query component of the target. Unknown keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `download`: whether the file is for looking at or for keeping.
    pub disposition: Disposition,
    /// `blocks`: the block list of the file in its place.
    pub blocks: bool,
    /// `format=html|json|ndjson`: overrides `Accept` for a listing.
    pub format: Option<ListingFormat>,
    /// `sort=name|size|time|kind`; `-` before it stands for `order=desc`.
    pub sort: SortKey,
    /// `order=asc|desc`.
    pub order: SortOrder,
    /// `after=…`: the place in the listing after which the page begins.
    pub after: Option<Box<[u8]>>,
    /// `q=…`: only names that hold this, without regard to the case of ASCII letters.
    pub filter: Option<Box<[u8]>>,
    /// A signed link, or its fault.
    pub link: Option<Box<Result<Presented, Rejection>>>,
}

impl Query {
    /// Reads a query leniently: unknown keys and values count for nothing, since other programs'
    /// links carry all kinds of them.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut query = Self {
            link: Presented::parse(bytes).map(Box::new),
            ..Self::default()
        };
        for pair in bytes.split(|byte| *byte == b'&') {
            let (key, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(mark) => (&pair[..mark], &pair[mark + 1..]),
                None => (pair, [].as_slice()),
            };
            match key {
                b"download" => query.disposition = Disposition::Attachment,
                b"blocks" => query.blocks = true,
                b"format" => {
                    query.format = match value {
                        b"html" => Some(ListingFormat::Html),
                        b"json" => Some(ListingFormat::Json),
                        b"ndjson" => Some(ListingFormat::Ndjson),
                        _ => query.format,
                    }
                }
                b"sort" => {
                    let value = match value.strip_prefix(b"-") {
                        Some(value) => {
                            query.order = SortOrder::Descending;
                            value
                        }
                        None => value,
                    };
                    query.sort = SortKey::named(value).unwrap_or_default();
                }
                b"order" => {
                    query.order = match value {
                        b"desc" => SortOrder::Descending,
                        _ => SortOrder::Ascending,
                    }
                }
                b"after" => query.after = decode_form(value),
                b"q" => query.filter = decode_form(value),
                _ => {}
            }
        }
        query
    }
}

/// The sort key of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SortKey {
    /// By name.
    #[default]
    Name,
    /// By length in bytes.
    Size,
    /// By the time of the last change.
    Time,
    /// By media type.
    Kind,
}

impl SortKey {
    /// All of them.
    const ALL: [Self; 4] = [Self::Name, Self::Size, Self::Time, Self::Kind];

    /// Its value in a query.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
            Self::Kind => "kind",
        }
    }

    fn named(value: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|key| key.name().as_bytes() == value)
    }
}

/// The direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// Decodes a value as forms encode it, with `+` for a space; cut where it is longer than any name.
fn decode_form(value: &[u8]) -> Option<Box<[u8]>> {
    let value = &value[..value.len().min(3 * MAX_VALUE_BYTES)];
    let spaced: Vec<u8> = value
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded: Vec<u8> = percent_decode(&spaced).take(MAX_VALUE_BYTES).collect();
    (!decoded.is_empty()).then(|| decoded.into_boxed_slice())
}

/// No name is longer, nor is a place in a listing, which holds a name.
const MAX_VALUE_BYTES: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_leniently() {
        let query =
            Query::parse(b"download&sort=size&order=desc&after=a%26+b&x=%zz&&format=json&q=");
        assert_eq!(
            query,
            Query {
                disposition: Disposition::Attachment,
                format: Some(ListingFormat::Json),
                sort: SortKey::Size,
                order: SortOrder::Descending,
                after: Some(b"a& b".as_slice().into()),
                filter: None,
                link: None,
                blocks: false,
            }
        );
        assert_eq!(Query::parse(b"sort=colour").sort, SortKey::Name);
    }
}
