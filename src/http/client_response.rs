//! The client's side of HTTP/1.1 (RFC 9112): an answer's head, its framing, chunked decoding and
//! `Content-Range`.

use std::fmt;
use std::time::{Duration, SystemTime};

/// The longest answer head that is accepted, in bytes; more is [`Malformed::HeadTooLong`].
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What is wrong with an answer, as far as it can be seen without knowing the question.
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
    /// `Content-Range` of a 206 is missing or wrong.
    ContentRange,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "its answer is not HTTP/1.x",
            Self::HeadTooLong => "the head of its answer never ends",
            Self::ContentLength => "its Content-Length makes no sense",
            Self::TransferCoding => "it uses a transfer coding that was not asked for",
            Self::Chunk => "its chunked body is broken",
            Self::ContentRange => "its Content-Range is missing or makes no sense",
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
    /// `ETag`, with its quotes and its `W/`.
    pub etag: Option<String>,
    /// `Last-Modified`, as it stands: it goes back to the server byte for byte.
    pub last_modified: Option<String>,
    /// `Date`.
    pub date: Option<SystemTime>,
    /// `Location`, unresolved.
    pub location: Option<String>,
    /// `Retry-After`, unparsed.
    pub retry_after: Option<String>,
    /// `Content-Disposition`, unparsed.
    pub content_disposition: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
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
    let head_bytes = match response.parse(input) {
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
    head.closes = head.minor_version == 0;
    for field in response.headers.iter() {
        head.take_field(field.name, field.value)?;
    }
    Ok(Some((head, head_bytes)))
}

impl Head {
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

    /// The wait that `Retry-After` asks for, in seconds or as a date; `now` is the client's clock.
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

    fn take_field(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        let text = || String::from_utf8_lossy(value).trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => self.take_content_length(&text())?,
            "transfer-encoding" => {
                if !text().eq_ignore_ascii_case("chunked") {
                    return Err(Malformed::TransferCoding);
                }
                self.chunked = true;
            }
            "connection" => self.take_connection(&text()),
            "content-range" => self.content_range = Some(text()),
            "etag" => self.etag = Some(text()),
            "last-modified" => self.last_modified = Some(text()),
            "date" => self.date = httpdate::parse_http_date(&text()).ok(),
            "location" => self.location = Some(text()),
            "retry-after" => self.retry_after = Some(text()),
            "content-disposition" => self.content_disposition = Some(text()),
            "content-type" => self.content_type = Some(text()),
            _ => {}
        }
        Ok(())
    }

    fn take_content_length(&mut self, value: &str) -> Result<(), Malformed> {
        // A list of equal values counts as one (RFC 9112, section 6.3, item 5).
        for part in value.split(',') {
            let length = decimal(part.trim()).ok_or(Malformed::ContentLength)?;
            if self.content_length.is_some_and(|earlier| earlier != length) {
                return Err(Malformed::ContentLength);
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &str) {
        for option in value.split(',').map(str::trim) {
            if option.eq_ignore_ascii_case("close") {
                self.closes = true;
            } else if option.eq_ignore_ascii_case("keep-alive") {
                self.closes = false;
            }
        }
    }
}

/// A parsed `Content-Range` (RFC 9110, section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes START-LAST/TOTAL`; `end` is one past the last byte, `total` may be unknown (`*`).
    Part {
        /// Offset of the first byte.
        start: u64,
        /// Offset one past the last byte.
        end: u64,
        /// The whole file's length in bytes.
        total: Option<u64>,
    },
    /// `bytes */TOTAL`, from a 416.
    Unsatisfied {
        /// The whole file's length in bytes.
        total: u64,
    },
}

impl ContentRange {
    /// Parses the field's value.
    ///
    /// # Errors
    /// [`Malformed::ContentRange`] for everything that is not `bytes` and in order.
    pub(crate) fn parse(value: &str) -> Result<Self, Malformed> {
        Self::read(value).ok_or(Malformed::ContentRange)
    }

    fn read(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            digits => Some(decimal(digits)?),
        };
        if range.trim() == "*" {
            return Some(Self::Unsatisfied { total: total? });
        }
        let (start, last) = range.trim().split_once('-')?;
        let (start, end) = (decimal(start)?, decimal(last)?.checked_add(1)?);
        (start < end && total.is_none_or(|total| end <= total)).then_some(Self::Part {
            start,
            end,
            total,
        })
    }
}

/// Decodes a chunked body (RFC 9112, section 7.1) piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// At the start of a size line.
    #[default]
    Size,
    /// Inside a chunk with so many bytes to come.
    Data(u64),
    /// Behind a chunk's data, before its line end.
    DataEnd,
    /// In the trailer section.
    Trailers,
    /// The last chunk and the trailers are through.
    End,
}

/// What a decoder makes of the input's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many bytes of framing: skip them.
    Framing(usize),
    /// So many bytes of the body.
    Data(usize),
    /// More input is needed.
    Partial,
    /// The body is whole.
    End,
}

impl Chunked {
    /// The next piece of `input`, which begins where the last piece ended.
    ///
    /// # Errors
    /// [`Malformed::Chunk`].
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        match *self {
            Self::End => Ok(Piece::End),
            Self::Data(left) => {
                if input.is_empty() {
                    return Ok(Piece::Partial);
                }
                let taken = left.min(input.len() as u64);
                *self = if taken == left {
                    Self::DataEnd
                } else {
                    Self::Data(left - taken)
                };
                Ok(Piece::Data(taken as usize))
            }
            Self::Size | Self::DataEnd | Self::Trailers => self.next_line(input),
        }
    }

    fn next_line(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let Some(line_feed) = input.iter().position(|&byte| byte == b'\n') else {
            let full = input.len() > MAX_CHUNK_LINE_BYTES;
            return if full {
                Err(Malformed::Chunk)
            } else {
                Ok(Piece::Partial)
            };
        };
        let line = input[..line_feed]
            .strip_suffix(b"\r")
            .unwrap_or(&input[..line_feed]);
        *self = match *self {
            Self::Size => match chunk_size(line).ok_or(Malformed::Chunk)? {
                0 => Self::Trailers,
                size => Self::Data(size),
            },
            Self::DataEnd if line.is_empty() => Self::Size,
            Self::Trailers if line.is_empty() => Self::End,
            Self::Trailers => Self::Trailers,
            _ => return Err(Malformed::Chunk),
        };
        Ok(Piece::Framing(line_feed + 1))
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?;
    let digits = std::str::from_utf8(digits).ok()?.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Digits only: `parse` alone would take a sign.
fn decimal(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

const MAX_FIELDS: usize = 128;
const MAX_CHUNK_LINE_BYTES: usize = 4096;

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
    fn content_ranges() {
        let part = |start, end, total| Ok(ContentRange::Part { start, end, total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), part(0, 1, Some(1)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), part(5, 10, None));
        assert_eq!(
            ContentRange::parse("bytes */7"),
            Ok(ContentRange::Unsatisfied { total: 7 })
        );
        for wrong in [
            "",
            "bytes 1-0/5",
            "bytes 0-5/5",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(
                ContentRange::parse(wrong),
                Err(Malformed::ContentRange),
                "{wrong}"
            );
        }
    }

    #[test]
    fn chunks_one_byte_at_a_time() {
        let wire = b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n";
        let (mut decoder, mut held, mut body) = (Chunked::default(), Vec::new(), Vec::new());
        for &byte in wire {
            held.push(byte);
            loop {
                match decoder.next(&held).unwrap() {
                    Piece::Framing(bytes) => drop(held.drain(..bytes)),
                    Piece::Data(bytes) => body.extend(held.drain(..bytes)),
                    Piece::Partial | Piece::End => break,
                }
            }
        }
        assert_eq!(decoder, Chunked::End);
        assert_eq!(body, b"hello!");
    }

    #[test]
    fn broken_chunks() {
        for wrong in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"10000000000000000\r\n"] {
            assert_eq!(Chunked::default().next(wrong), Err(Malformed::Chunk));
        }
        assert_eq!(Chunked::DataEnd.next(b"x\r\n"), Err(Malformed::Chunk));
    }
}
