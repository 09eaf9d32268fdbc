//! Chunked transfer coding (RFC 9112 section 7.1): a decoder for both directions, an encoder.

use std::io::Write as _;

/// Decodes a chunked body piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: State,
    strictness: Strictness,
}

/// The syntax that a decoder accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// The grammar only: in a request, what two programs read in two ways is an attack.
    Strict,
    /// Also lines that end in LF alone, and white space around a size.
    Lenient,
}

/// The meaning of the input's start.
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

/// A body that is not in chunks, and in what way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedChunk(pub(crate) &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the line with a chunk's size.
    Size,
    /// The bytes left of a chunk.
    Data(u64),
    /// At the line end behind a chunk's data.
    DataEnd,
    /// At a trailer field, or at the empty line that ends the body.
    Trailer,
    End,
}

impl Decoder {
    pub(crate) fn new(strictness: Strictness) -> Self {
        Self {
            state: State::Size,
            strictness,
        }
    }

    /// Whether the last chunk and the trailers are through.
    pub(crate) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// The next piece of `input`, which begins where the last piece ended; a piece of data has at
    /// most `most` bytes.
    pub(crate) fn next(&mut self, input: &[u8], most: usize) -> Result<Piece, MalformedChunk> {
        match self.state {
            State::End => Ok(Piece::End),
            State::Data(_) if input.is_empty() => Ok(Piece::Partial),
            State::Data(left) => {
                let most = most.min(input.len());
                let taken = usize::try_from(left).map_or(most, |left| left.min(most));
                self.state = match left - taken as u64 {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                Ok(Piece::Data(taken))
            }
            State::Size | State::DataEnd | State::Trailer => self.next_line(input),
        }
    }

    fn next_line(&mut self, input: &[u8]) -> Result<Piece, MalformedChunk> {
        if self.state == State::DataEnd
            && !matches!(input, [] | [b'\r'] | [b'\r', b'\n', ..] | [b'\n', ..])
        {
            return Err(LONGER);
        }
        let Some((line, consumed)) = self.line(input)? else {
            return Ok(Piece::Partial);
        };
        self.state = match self.state {
            State::Size => match self.size(line)? {
                0 => State::Trailer,
                size => State::Data(size),
            },
            State::DataEnd if !line.is_empty() => return Err(LONGER),
            State::Trailer if line.is_empty() => State::End,
            State::Trailer => State::Trailer,
            _ => State::Size,
        };
        Ok(Piece::Framing(consumed))
    }

    /// The line that `input` begins with, without its end, and its length with it.
    fn line<'a>(&self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, MalformedChunk> {
        let end = match self.strictness {
            Strictness::Strict => memchr::memchr2(b'\r', b'\n', input),
            Strictness::Lenient => memchr::memchr(b'\n', input),
        };
        if end.unwrap_or(input.len()) >= MAX_LINE_BYTES {
            return Err(MalformedChunk("a line of a chunked body is too long"));
        }
        let Some(end) = end else {
            return Ok(None);
        };
        let (line, rest) = input.split_at(end);
        match (self.strictness, rest) {
            (Strictness::Lenient, _) => {
                Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
            }
            (Strictness::Strict, [b'\r', b'\n', ..]) => Ok(Some((line, end + 2))),
            (Strictness::Strict, [b'\r']) => Ok(None),
            (Strictness::Strict, _) => Err(MalformedChunk(
                "a line of a chunked body does not end in CRLF",
            )),
        }
    }

    /// Hexadecimal digits, and perhaps extensions behind a semicolon, which are ignored.
    fn size(&self, line: &[u8]) -> Result<u64, MalformedChunk> {
        let end = memchr::memchr(b';', line).unwrap_or(line.len());
        let (digits, extensions) = line.split_at(end);
        let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        let digits = match self.strictness {
            Strictness::Strict if extensions.iter().all(is_text) => digits,
            Strictness::Strict => return Err(NO_SIZE),
            Strictness::Lenient => digits.trim_ascii(),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NO_SIZE);
        }
        // Sixteen digits fill 64 bits; more would wrap in a careless program.
        if digits.len() > 16 {
            return Err(MalformedChunk("a chunk's size has too many digits"));
        }
        let digits = str::from_utf8(digits).unwrap_or_default();
        u64::from_str_radix(digits, 16).map_err(|_| NO_SIZE)
    }
}

/// Appends `data`, which is not empty, as one chunk.
pub(crate) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The end of a body in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const LONGER: MalformedChunk = MalformedChunk("a chunk longer than its size");
const NO_SIZE: MalformedChunk = MalformedChunk("a chunk's size is not a hexadecimal number");

/// Longest line within a chunked body: a size, its extensions, or a trailer field.
const MAX_LINE_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `wire`, of which `step` bytes more arrive at a time: the body, once it is whole.
    fn decode(
        strictness: Strictness,
        wire: &[u8],
        step: usize,
    ) -> Result<Option<Vec<u8>>, MalformedChunk> {
        let (mut decoder, mut body) = (Decoder::new(strictness), Vec::new());
        let (mut start, mut end) = (0, 0);
        loop {
            match decoder.next(&wire[start..end], 3)? {
                Piece::Framing(count) => start += count,
                Piece::Data(count) => {
                    body.extend_from_slice(&wire[start..start + count]);
                    start += count;
                }
                Piece::End => return Ok(Some(body)),
                Piece::Partial if end == wire.len() => return Ok(None),
                Piece::Partial => end = (end + step).min(wire.len()),
            }
        }
    }

    #[test]
    fn a_body_comes_back_however_it_is_cut() {
        let mut wire = b"5;x=\"y\"\r\nhello\r\n00a\r\n0123456789\r\n".to_vec();
        write_chunk(&mut wire, &[b'x'; 300]);
        wire.extend_from_slice(b"0\r\nTrailer: t\r\n\r\nGET /");
        let body = [b"hello0123456789".as_slice(), &[b'x'; 300]].concat();
        for step in 1..wire.len() {
            for strictness in [Strictness::Strict, Strictness::Lenient] {
                assert_eq!(decode(strictness, &wire, step), Ok(Some(body.clone())));
            }
        }
    }

    #[test]
    fn what_servers_write_carelessly_is_read_from_them_only() {
        for careless in [&b"5 \r\nhello\r\n0\r\n\r\n"[..], b"5\nhello\n0\n\n"] {
            let lenient = decode(Strictness::Lenient, careless, 1);
            assert_eq!(lenient, Ok(Some(b"hello".to_vec())));
            assert!(decode(Strictness::Strict, careless, 1).is_err());
        }
    }

    #[test]
    fn malformed_chunks_are_refused_under_both_strictnesses() {
        let bad: [&[u8]; 9] = [
            b"x\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-1\r\n",
            b"\r\n",
            b"10000000000000000\r\n",
            b"5\r\nhello!\r\n",
            b"5\r\nhello!",
            &[b'0'; 5_000],
        ];
        for wire in bad {
            for strictness in [Strictness::Strict, Strictness::Lenient] {
                for step in [1, wire.len()] {
                    assert!(decode(strictness, wire, step).is_err(), "{wire:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(wire in "[0-9a-f; \r\n]{0,40}", step in 1_usize..8) {
            for strictness in [Strictness::Strict, Strictness::Lenient] {
                let whole = decode(strictness, wire.as_bytes(), 64);
                prop_assert_eq!(decode(strictness, wire.as_bytes(), step), whole);
            }
        }
    }
}
