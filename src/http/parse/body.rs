//! Request bodies that nobody wants, and the chunks of responses (RFC 9112 sections 6 and 7).
//!
//! haul has no use for bodies, but has to know where one ends, since the next request begins
//! there. A body that is too long or malformed ends the connection.

use std::io::Write as _;

use memchr::memchr2;

use crate::http::{BodyLength, Refusal};

/// Throws a body away, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    state: State,
    /// How many bytes may still be thrown away, framing included.
    allowance: u64,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// So many bytes of the input belong to the body, and there is more to come. The rest of the
    /// input has to be offered again, with more behind it.
    More(usize),
    /// The body ends after so many bytes of the input.
    Done(usize),
}

/// Appends `data`, which is not empty, as one chunk of a response.
pub(crate) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// What ends a response in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a body whose length was announced are still to come.
    Counted(u64),
    /// A line with the size of the next chunk.
    Size,
    /// So many bytes of a chunk are still to come.
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd,
    /// Trailer fields, or the empty line that ends the body.
    Trailer,
    Over,
}

impl Discard {
    /// Begins to throw a body away, of which at most `allowance` bytes may come.
    pub fn new(length: BodyLength, allowance: u64) -> Self {
        let state = match length {
            BodyLength::Empty => State::Over,
            BodyLength::Known(len) => State::Counted(len),
            BodyLength::Chunked => State::Size,
        };
        Self { state, allowance }
    }

    /// Takes from `input` what belongs to the body.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] for malformed chunks and [`Refusal::BodyTooLarge`] for a body
    /// beyond the allowance; either way the connection has to end.
    pub fn take(&mut self, input: &[u8]) -> Result<Discarded, Refusal> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let Some(len) = self.step(rest)? else {
                return Ok(Discarded::More(taken));
            };
            self.allowance = self
                .allowance
                .checked_sub(len as u64)
                .ok_or(Refusal::BodyTooLarge)?;
            taken += len;
            if self.state == State::Over {
                return Ok(Discarded::Done(taken));
            }
        }
    }

    /// Takes one element of the framing or some data; `None` when the input holds no whole one.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        match self.state {
            State::Counted(left) | State::Data(left) => {
                if rest.is_empty() && left > 0 {
                    return Ok(None);
                }
                let len = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                let left = left - len as u64;
                self.state = match (self.state, left) {
                    (State::Counted(_), 0) => State::Over,
                    (State::Counted(_), left) => State::Counted(left),
                    (_, 0) => State::DataEnd,
                    (_, left) => State::Data(left),
                };
                Ok(Some(len))
            }
            State::Size => {
                let Some(line) = whole_line(rest)? else {
                    return Ok(None);
                };
                self.state = match parse_size(line)? {
                    0 => State::Trailer,
                    size => State::Data(size),
                };
                Ok(Some(line.len() + 2))
            }
            State::DataEnd => match rest {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Some(2))
                }
                [] | [b'\r'] => Ok(None),
                _ => Err(Refusal::BadRequest("a chunk longer than its size")),
            },
            State::Trailer => {
                let Some(line) = whole_line(rest)? else {
                    return Ok(None);
                };
                if line.is_empty() {
                    self.state = State::Over;
                }
                Ok(Some(line.len() + 2))
            }
            State::Over => Ok(Some(0)),
        }
    }
}

/// The line that `rest` begins with, without its end, which has to be a CRLF: here a lone LF is
/// the start of an attack.
fn whole_line(rest: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let end = memchr2(b'\r', b'\n', rest);
    if end.unwrap_or(rest.len()) >= LONGEST_LINE {
        return Err(Refusal::BadRequest("a line of a chunked body is too long"));
    }
    match end.map(|end| (end, &rest[end..])) {
        None | Some((_, [b'\r'])) => Ok(None),
        Some((end, [b'\r', b'\n', ..])) => Ok(Some(&rest[..end])),
        Some(_) => Err(Refusal::BadRequest(
            "a line of a chunked body does not end in CRLF",
        )),
    }
}

/// Hexadecimal digits, and perhaps extensions behind a semicolon, which are ignored.
fn parse_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (size, extensions) = line.split_at(digits);
    let extensions_are_fine = match extensions {
        [] => true,
        [b';', rest @ ..] => rest
            .iter()
            .all(|byte| *byte == b'\t' || !byte.is_ascii_control()),
        _ => false,
    };
    if size.is_empty() || !extensions_are_fine {
        return Err(Refusal::BadRequest(
            "a chunk's size is not a hexadecimal number",
        ));
    }
    // Sixteen digits fill 64 bits; more would wrap in a careless program.
    if size.len() > 16 {
        return Err(Refusal::BadRequest("a chunk's size has too many digits"));
    }
    let size = str::from_utf8(size).unwrap_or_default();
    u64::from_str_radix(size, 16).map_err(|_| Refusal::BodyTooLarge)
}

/// Longest line within a chunked body: a size, its extensions, or a trailer field.
const LONGEST_LINE: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `input` in pieces of `piece` bytes, the way a connection does.
    fn feed(length: BodyLength, input: &[u8], piece: usize) -> Result<Option<usize>, Refusal> {
        let mut discard = Discard::new(length, 1 << 20);
        let (mut start, mut end) = (0, 0);
        loop {
            match discard.take(&input[start..end])? {
                Discarded::Done(len) => return Ok(Some(start + len)),
                Discarded::More(len) => start += len,
            }
            if end == input.len() {
                return Ok(None);
            }
            end = (end + piece).min(input.len());
        }
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let chunked = b"5;x=\"y\"\r\nhello\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /";
        for piece in 1..chunked.len() {
            assert_eq!(
                feed(BodyLength::Chunked, chunked, piece),
                Ok(Some(chunked.len() - 5))
            );
        }
        assert_eq!(feed(BodyLength::Known(3), b"abcGET", 1), Ok(Some(3)));
        assert_eq!(feed(BodyLength::Known(3), b"ab", 1), Ok(None));
        assert_eq!(feed(BodyLength::Empty, b"GET", 1), Ok(Some(0)));
    }

    #[test]
    fn chunks_come_back_as_they_were() {
        let mut out = Vec::new();
        write_chunk(&mut out, &[b'x'; 300]);
        write_chunk(&mut out, b"y");
        out.extend_from_slice(LAST_CHUNK);
        assert!(out.starts_with(b"12c\r\nxx"));
        assert_eq!(feed(BodyLength::Chunked, &out, 7), Ok(Some(out.len())));
    }

    #[test]
    fn malformed_chunks_end_the_connection() {
        let bad: [&[u8]; 13] = [
            b"5\nhello\r\n",
            b"5 \r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-1\r\n",
            b"\r\n",
            b"g\r\n",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"00000000000000005\r\nhello\r\n",
            b"0\r\nTrailer: a\n\r\n",
        ];
        for body in bad {
            for piece in [1, body.len()] {
                let result = feed(BodyLength::Chunked, body, piece);
                assert!(
                    matches!(result, Err(Refusal::BadRequest(_))),
                    "{body:?}: {result:?}"
                );
            }
        }
    }

    #[test]
    fn a_body_beyond_the_allowance_is_not_waited_for() {
        let mut discard = Discard::new(BodyLength::Known(100), 10);
        assert_eq!(discard.take(&[0; 10]), Ok(Discarded::More(10)));
        assert_eq!(discard.take(&[0; 1]), Err(Refusal::BodyTooLarge));
        let mut discard = Discard::new(BodyLength::Chunked, 10);
        assert_eq!(discard.take(b"ffffffff\r\n"), Ok(Discarded::More(10)));
        assert_eq!(discard.take(b"x"), Err(Refusal::BodyTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[0-9a-f;\r\n]{0,40}", piece in 1_usize..8) {
            let whole = feed(BodyLength::Chunked, input.as_bytes(), usize::MAX >> 1);
            prop_assert_eq!(feed(BodyLength::Chunked, input.as_bytes(), piece), whole);
        }
    }
}
