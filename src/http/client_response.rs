//! The client's side of HTTP/1.1 (RFC 9112): a response's head and its framing.

use std::fmt;
use std::time::{Duration, SystemTime};

use percent_encoding::{CONTROLS, percent_encode};

use super::field_values::{decimal, elements};
use crate::digest::Checksum;
use crate::http::digest_fields;

/// The longest answer head that is accepted, in bytes; more is [`Malformed::HeadTooLong`].
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A fault of an answer that shows without knowing the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The head is not HTTP/1.x.
    Head,
    /// The head is longer than [`MAX_HEAD_BYTES`] or has more than 128 fields.
    HeadTooLong,
    /// `Content-Length` is not a number, or is given twice with different values.
    ContentLength,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    /// A chunk's size line or end is wrong.
    Chunk,
    /// A field that identifies the content occurs twice, with different values.
    Contradiction,
    /// A field for the end of the body, or for its range, is malformed.
    Framing,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "its answer is not HTTP/1.x",
            Self::HeadTooLong => "the head of its answer never ends",
            Self::ContentLength => "its Content-Length makes no sense",
            Self::TransferCoding => "it uses a transfer coding that was not asked for",
            Self::Chunk => "its chunked body is broken",
            Self::Contradiction => "it gives ETag, Location or the like twice, and differently",
            Self::Framing => "a field that says what its body is cannot be read",
        })
    }
}

/// An answer's head with the fields a download looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status code.
    pub status: u16,
    /// The minor version of HTTP/1.
    pub minor_version: u8,
    /// `Content-Length`, where there is one.
    pub content_length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// The connection closes after this answer.
    pub closes: bool,
    /// `Content-Range`, unparsed.
    pub content_range: Option<String>,
    /// `ETag`, with its quotes and its `W/`; each byte is the character of the same number, so that
    /// the server gets back the same bytes, and different tags never become equal.
    pub etag: Option<String>,
    /// `Last-Modified`, verbatim as `etag` is.
    pub last_modified: Option<String>,
    /// `Date`.
    pub date: Option<SystemTime>,
    /// `Location`, unresolved; bytes beyond ASCII are percent-encoded.
    pub location: Option<String>,
    /// `Retry-After`, unparsed.
    pub retry_after: Option<String>,
    /// `Content-Disposition`, unparsed.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`, all fields of it in one: what the bytes are packed in.
    pub content_encoding: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Repr-Digest`, all fields of it in one, unparsed.
    pub repr_digest: Option<String>,
    /// The BLAKE3 digest, unparsed.
    pub blake3_digest: Option<String>,
    /// `Digest` (RFC 3230), all fields of it in one, unparsed.
    pub legacy_digest: Option<String>,
    /// `Link`, all fields of it in one, unparsed.
    pub link: Option<String>,
    /// `Server`: the program that answers.
    pub server: Option<String>,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Reads a head from the start of `input`: the head and its length in bytes, or `None` while more
/// bytes are needed.
///
/// # Errors
/// [`Malformed`], when more bytes cannot help.
pub(crate) fn parse_head(input: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let mut parser = httparse::ParserConfig::default();
    // As curl, wget and browsers do.
    parser.ignore_invalid_headers_in_responses(true);
    parser.allow_spaces_after_header_name_in_responses(true);
    let head_bytes = match parser.parse_response(&mut response, input) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if input.len() >= MAX_HEAD_BYTES => {
            return Err(Malformed::HeadTooLong);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLong),
        Err(_) => return Err(Malformed::Head),
    };
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        minor_version: response.version.unwrap_or_default(),
        ..Head::default()
    };
    if skips_framing(&input[..head_bytes], response.headers) {
        return Err(Malformed::Framing);
    }
    let mut connection = Connection::default();
    for field in response.headers.iter() {
        head.take_field(field.name, field.value, &mut connection)?;
    }
    let ambiguous = head.chunked && (head.content_length.is_some() || head.minor_version == 0);
    // Section 6.1: such a body is read, and its connection closed afterwards.
    head.closes =
        connection.close || ambiguous || (head.minor_version == 0 && !connection.keep_alive);
    Ok(Some((head, head_bytes)))
}

/// The options of `Connection`.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
}

impl Head {
    /// The media type, in lower case and without parameters.
    #[must_use]
    pub(crate) fn media_type(&self) -> String {
        let whole = self.content_type.as_deref().unwrap_or_default();
        let essence = whole.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// How the body of this answer to a GET ends (RFC 9112, section 6.3).
    #[must_use]
    pub(crate) fn framing(&self) -> Framing {
        if self.status < 200 || matches!(self.status, 204 | 304) {
            Framing::Length(0)
        } else if self.chunked {
            Framing::Chunked
        } else {
            self.content_length
                .map_or(Framing::UntilClose, Framing::Length)
        }
    }

    /// Whether the server computes digests and block lists on request.
    pub(crate) fn is_haul(&self) -> bool {
        let server = self.server.as_deref();
        server.is_some_and(|name| name.starts_with("haul"))
    }

    /// The digests of the whole file that the answer is of, the strongest first.
    pub(crate) fn digests(&self) -> Vec<Checksum> {
        let bytes = |field: &Option<String>| field.clone().map(String::into_bytes);
        let (repr, blake3) = (bytes(&self.repr_digest), bytes(&self.blake3_digest));
        let mut found = digest_fields::parse_digests(repr.as_deref(), blake3.as_deref());
        let legacy = self.legacy_digest.as_deref().unwrap_or_default();
        found.extend(digest_fields::parse_legacy(legacy));
        found
    }

    /// The delay in `Retry-After`, given in seconds or as a date; `now` is the client's clock.
    #[must_use]
    pub(crate) fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let value = self.retry_after.as_deref()?.trim();
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = httpdate::parse_http_date(value).ok()?;
        // The server's own clock, where it shows it: the wait is a difference of its two dates.
        Some(
            at.duration_since(self.date.unwrap_or(now))
                .unwrap_or_default(),
        )
    }

    fn take_field(
        &mut self,
        name: &str,
        value: &[u8],
        connection: &mut Connection,
    ) -> Result<(), Malformed> {
        let value = value.trim_ascii();
        let text = || String::from_utf8_lossy(value).into_owned();
        let bytes = || value.iter().copied().map(char::from).collect();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => self.take_content_length(&text())?,
            // RFC 2068 had this name for "none".
            "transfer-encoding" if value.eq_ignore_ascii_case(b"identity") => {}
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferCoding);
                }
                self.chunked = true;
            }
            "connection" => {
                for option in elements(value) {
                    connection.close |= option.eq_ignore_ascii_case(b"close");
                    connection.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            "content-range" => set_once(&mut self.content_range, text())?,
            "etag" => set_once(&mut self.etag, bytes())?,
            "last-modified" => set_once(&mut self.last_modified, bytes())?,
            "date" => self.date = httpdate::parse_http_date(&text()).ok(),
            "location" => {
                let location = percent_encode(value, CONTROLS).to_string();
                set_once(&mut self.location, location)?;
            }
            "retry-after" => self.retry_after = Some(text()),
            "content-disposition" => self.content_disposition = Some(text()),
            "content-encoding" => append(&mut self.content_encoding, &text()),
            "content-type" => self.content_type = Some(text()),
            "repr-digest" => append(&mut self.repr_digest, &text()),
            "repr-digest-blake3" => self.blake3_digest = Some(text()),
            "digest" => append(&mut self.legacy_digest, &text()),
            "link" => append(&mut self.link, &text()),
            "server" => self.server = Some(text()),
            _ => {}
        }
        Ok(())
    }

    fn take_content_length(&mut self, value: &str) -> Result<(), Malformed> {
        // A list of equal values counts as one (RFC 9112, section 6.3, item 5).
        for part in value.split(',') {
            // No file is longer than off_t counts.
            let length = decimal(part.trim()).filter(|it| i64::try_from(*it).is_ok());
            let length = length.ok_or(Malformed::ContentLength)?;
            if self.content_length.is_some_and(|earlier| earlier != length) {
                return Err(Malformed::ContentLength);
            }
            self.content_length = Some(length);
        }
        Ok(())
    }
}

/// Whether a malformed line was skipped without which the body would be taken for another one.
fn skips_framing(head: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let frames = |name: &[u8]| FRAMING.iter().any(|it| name.eq_ignore_ascii_case(it));
    let lines = head.split(|&byte| byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|&byte| byte == b':').next());
    let stand = names.filter(|name| frames(name.trim_ascii())).count();
    let taken = fields.iter().filter(|it| frames(it.name.as_bytes()));
    stand > taken.count()
}

/// Fields of one name are one list (RFC 9110, section 5.3).
fn append(field: &mut Option<String>, value: &str) {
    *field = Some(match field.take() {
        Some(earlier) => format!("{earlier}, {value}"),
        None => value.to_owned(),
    });
}

fn set_once(field: &mut Option<String>, value: String) -> Result<(), Malformed> {
    match field {
        Some(earlier) if *earlier != value => Err(Malformed::Contradiction),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

/// The fields for the end of a body, and for its range.
const FRAMING: [&[u8]; 4] = [
    b"content-length",
    b"transfer-encoding",
    b"content-range",
    b"content-encoding",
];
const MAX_FIELDS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_in_every_fragmentation() {
        let whole = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: \"a\"\r\n\
            Content-Range: bytes 5-9/10\r\nConnection: close\r\n\r\nhello";
        let head_bytes = whole.len() - 5;
        for cut in 0..head_bytes {
            assert_eq!(parse_head(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        let (head, used) = parse_head(whole).unwrap().unwrap();
        assert_eq!(used, head_bytes);
        assert_eq!(head.framing(), Framing::Length(5));
        assert_eq!(head.etag.as_deref(), Some("\"a\""));
        assert!(head.closes);
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
        assert_eq!(parse_head(two), Err(Malformed::ContentLength));
        let same = b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n";
        assert_eq!(parse_head(same).unwrap().unwrap().0.content_length, Some(5));
        let signed = b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n";
        assert_eq!(parse_head(signed), Err(Malformed::ContentLength));
        for (length, fits) in [
            ("9223372036854775807", true),
            ("9223372036854775808", false),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(parse_head(head.as_bytes()).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn endless_heads_are_refused() {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        while head.len() < MAX_HEAD_BYTES {
            head.extend_from_slice(b"X-Filler: ");
            head.extend_from_slice(&[b'x'; 1000]);
            head.extend_from_slice(b"\r\n");
        }
        assert_eq!(parse_head(&head), Err(Malformed::HeadTooLong));
    }

    #[test]
    fn different_tags_never_become_equal_and_a_location_keeps_its_bytes() {
        let etag = |value: &[u8]| {
            let wire = [b"HTTP/1.1 200 OK\r\nETag: ", value, b"\r\n\r\n"].concat();
            parse_head(&wire).unwrap().unwrap().0.etag
        };
        assert_ne!(etag(b"\"\xff\""), etag(b"\"\xfe\""));
        let wire = b"HTTP/1.1 302 Found\r\nLocation: /\xc3\xbc%20\xff\r\n\r\n";
        let head = parse_head(wire).unwrap().unwrap().0;
        assert_eq!(head.location.as_deref(), Some("/%C3%BC%20%FF"));
    }

    #[test]
    fn fields_that_say_which_bytes_these_are_do_not_contradict_each_other() {
        for name in ["ETag", "Content-Range", "Location", "Last-Modified"] {
            let twice = |one: &str, other: &str| {
                let wire = format!("HTTP/1.1 200 OK\r\n{name}: {one}\r\n{name}: {other}\r\n\r\n");
                parse_head(wire.as_bytes())
            };
            assert_eq!(twice("a", "b"), Err(Malformed::Contradiction), "{name}");
            assert!(twice("a", "a").is_ok(), "{name}");
        }
    }

    #[test]
    fn a_malformed_field_line_is_skipped() {
        let wire = b"HTTP/1.1 200 OK\r\nno colon\r\nBad Name: x\r\nContent-Length: 5\r\n\r\n";
        let head = parse_head(wire).unwrap().unwrap().0;
        assert_eq!(head.framing(), Framing::Length(5));
    }

    #[test]
    fn a_line_that_frames_the_body_is_read_or_refused_but_never_skipped() {
        let parse = |line: &str| {
            let wire = format!("HTTP/1.1 200 OK\r\nX: y\r\n{line}\r\n\r\n");
            parse_head(wire.as_bytes())
        };
        for line in ["Content-Length : 5", "content-length\t:5"] {
            let head = parse(line).unwrap().unwrap().0;
            assert_eq!(head.framing(), Framing::Length(5), "{line}");
        }
        for line in [
            " Content-Length: 5",
            "Content-Length: 5\x01",
            "Transfer-Encoding: chunked\x7f",
            "Content-Range",
        ] {
            assert_eq!(parse(line), Err(Malformed::Framing), "{line:?}");
        }
        let wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: br\r\n\r\n";
        let head = parse_head(wire).unwrap().unwrap().0;
        assert_eq!(head.content_encoding.as_deref(), Some("gzip, br"));
    }

    #[test]
    fn a_connection_whose_framing_is_ambiguous_or_that_says_so_closes() {
        for (fields, framing, closes) in [
            ("1.1 200 OK\r\nContent-Length: 5", Framing::Length(5), false),
            ("1.0 200 OK\r\nContent-Length: 5", Framing::Length(5), true),
            (
                "1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5",
                Framing::Length(5),
                false,
            ),
            (
                "1.1 200 OK\r\nConnection: close, keep-alive\r\nContent-Length: 5",
                Framing::Length(5),
                true,
            ),
            (
                "1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                Framing::Chunked,
                true,
            ),
            (
                "1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked",
                Framing::Chunked,
                true,
            ),
        ] {
            let wire = format!("HTTP/{fields}\r\n\r\n");
            let head = parse_head(wire.as_bytes()).unwrap().unwrap().0;
            assert_eq!((head.framing(), head.closes), (framing, closes), "{fields}");
        }
    }
}
