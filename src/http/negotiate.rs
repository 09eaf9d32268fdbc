//! Negotiation: `Accept`, `Accept-Encoding` (RFC 9110 section 12.5).

use super::field_values::{elements, with_quality};

/// The forms in `Accept` among those that haul makes itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The form of an error's explanation.
    pub explanation: Explanation,
    /// The best form of a listing.
    pub listing: ListingFormat,
    /// The best form of metrics.
    pub metrics: MetricsFormat,
}

/// The forms of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format 0.0.4 of Prometheus, which every scraper accepts.
    #[default]
    Prometheus,
    /// The text format of OpenMetrics 1.0, for clients that name it.
    OpenMetrics,
}

/// The form of an error's explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Explanation {
    /// Plain text, one line.
    #[default]
    Line,
    /// A small page, for a client that names `text/html`.
    Page,
}

/// A content coding for which a sibling file may be at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878), `.zst`.
    Zstd,
    /// Brotli (RFC 7932), `.br`.
    Brotli,
    /// gzip (RFC 1952), `.gz`.
    Gzip,
}

impl Coding {
    /// All codings, in haul's own order of preference.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The coding's name in `Accept-Encoding` and `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The suffix of a precompressed sibling's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that the client likes better than none, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    /// Filled from the front.
    pub ranked: [Option<Coding>; 3],
}

impl AcceptEncoding {
    /// The codings in the order in which they should be tried.
    pub fn iter(self) -> impl Iterator<Item = Coding> {
        self.ranked.into_iter().flatten()
    }
}

/// The forms of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListingFormat {
    /// A page for a person, in pages.
    #[default]
    Html,
    /// A JSON array.
    Json,
    /// JSON objects, one a line.
    Ndjson,
}

/// Reads the values of `Accept`, for the media types that haul can produce.
pub(super) fn parse_accept<'a>(values: impl Iterator<Item = &'a [u8]>) -> Accept {
    let (mut html, mut json, mut ndjson) = (None, None, None);
    let (mut open_metrics, mut plain) = (None, None);
    let (mut text, mut application, mut any) = (None, None, None);
    for (media, quality) in values.flat_map(elements).map(with_quality) {
        let slot = match media {
            _ if is(media, "text/html") || is(media, "application/xhtml+xml") => &mut html,
            _ if is(media, "application/json") => &mut json,
            _ if is(media, "application/x-ndjson") || is(media, "application/ndjson") => {
                &mut ndjson
            }
            _ if is(media, "application/openmetrics-text") => &mut open_metrics,
            _ if is(media, "text/plain") => &mut plain,
            _ if is(media, "text/*") => &mut text,
            _ if is(media, "application/*") => &mut application,
            _ if is(media, "*/*") => &mut any,
            _ => continue,
        };
        *slot = Some(slot.map_or(quality, |known: u16| known.max(quality)));
    }
    let quality = |own: Option<u16>, family: Option<u16>| own.or(family).or(any).unwrap_or(0);
    // In this order, so that the first of equals is the one a person can read.
    let candidates = [
        (ListingFormat::Html, quality(html, text)),
        (ListingFormat::Json, quality(json, application)),
        (ListingFormat::Ndjson, quality(ndjson, application)),
    ];
    let mut best = candidates[0];
    for candidate in candidates {
        if candidate.1 > best.1 {
            best = candidate;
        }
    }
    let open_metrics = open_metrics.unwrap_or(0);
    let metrics = match open_metrics > 0 && open_metrics >= quality(plain, text) {
        true => MetricsFormat::OpenMetrics,
        false => MetricsFormat::Prometheus,
    };
    // `*/*` alone is a program's; one that names HTML is looked at by a person.
    let explanation = match html {
        Some(quality) if quality > 0 => Explanation::Page,
        _ => Explanation::Line,
    };
    Accept {
        explanation,
        listing: best.0,
        metrics,
    }
}

/// Reads the values of `Accept-Encoding`: the codings liked at least as well as no coding.
pub(super) fn parse_accept_encoding<'a>(values: impl Iterator<Item = &'a [u8]>) -> AcceptEncoding {
    let mut qualities: [Option<u16>; 3] = [None; 3];
    let (mut identity, mut any) = (None, None);
    for (coding, quality) in values.flat_map(elements).map(with_quality) {
        let slot = match coding {
            _ if is(coding, "zstd") => &mut qualities[0],
            _ if is(coding, "br") => &mut qualities[1],
            _ if is(coding, "gzip") || is(coding, "x-gzip") => &mut qualities[2],
            _ if is(coding, "identity") => &mut identity,
            _ if is(coding, "*") => &mut any,
            _ => continue,
        };
        *slot = Some(quality);
    }
    // Not mentioned, it is acceptable; the least that a mentioned coding can be liked is more.
    let identity = identity.unwrap_or(1);
    let mut liked: Vec<_> = [Coding::Zstd, Coding::Brotli, Coding::Gzip]
        .into_iter()
        .zip(qualities)
        .map(|(coding, quality)| (coding, quality.or(any).unwrap_or(0)))
        .filter(|(_, quality)| *quality > 0 && *quality >= identity)
        .collect();
    // A stable sort: among equals the better compression is first.
    liked.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    let mut ranked = [None; 3];
    for (slot, (coding, _)) in ranked.iter_mut().zip(liked) {
        *slot = Some(coding);
    }
    AcceptEncoding { ranked }
}

fn is(value: &[u8], known: &str) -> bool {
    value.eq_ignore_ascii_case(known.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Accept {
        parse_accept([value.as_bytes()].into_iter())
    }

    fn codings(value: &str) -> Vec<Coding> {
        parse_accept_encoding([value.as_bytes()].into_iter())
            .iter()
            .collect()
    }

    #[test]
    fn a_browser_gets_pages_and_a_program_lines() {
        let browser = accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        assert_eq!(browser.explanation, Explanation::Page);
        assert_eq!(browser.listing, ListingFormat::Html);
        assert_eq!(accept("*/*").explanation, Explanation::Line);
        assert_eq!(accept("*/*").listing, ListingFormat::Html);
        assert_eq!(accept("application/json").listing, ListingFormat::Json);
        assert_eq!(
            accept("application/x-ndjson, */*;q=0.1").listing,
            ListingFormat::Ndjson
        );
        assert_eq!(
            accept("text/html;q=0.5, application/json").listing,
            ListingFormat::Json
        );
        assert_eq!(accept("text/html;q=0").explanation, Explanation::Line);
        assert_eq!(accept("image/png").listing, ListingFormat::Html);
    }

    #[test]
    fn metrics_are_in_the_open_metrics_format_where_it_is_accepted() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (value, expected) in [
            (prometheus, MetricsFormat::OpenMetrics),
            ("application/openmetrics-text", MetricsFormat::OpenMetrics),
            (
                "application/openmetrics-text;q=0",
                MetricsFormat::Prometheus,
            ),
            (
                "application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.3",
                MetricsFormat::Prometheus,
            ),
            ("text/plain;version=0.0.4", MetricsFormat::Prometheus),
            ("*/*", MetricsFormat::Prometheus),
            ("", MetricsFormat::Prometheus),
        ] {
            assert_eq!(accept(value).metrics, expected, "{value}");
        }
    }

    #[test]
    fn codings_are_ranked_by_quality() {
        use Coding::{Brotli, Gzip, Zstd};
        assert_eq!(codings("gzip, deflate, br, zstd"), [Zstd, Brotli, Gzip]);
        assert_eq!(codings("gzip;q=1.0, br;q=0.5"), [Gzip, Brotli]);
        assert_eq!(codings("*"), [Zstd, Brotli, Gzip]);
        assert_eq!(codings("*, zstd;q=0"), [Brotli, Gzip]);
        assert_eq!(codings("identity, gzip;q=0.5"), []);
        assert_eq!(codings("identity;q=0, gzip;q=0.001"), [Gzip]);
        assert_eq!(codings(""), []);
        assert_eq!(codings("gzip;q=0.0"), []);
    }
}
