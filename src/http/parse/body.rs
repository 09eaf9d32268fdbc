//! Request bodies that are discarded (RFC 9112 section 6).
//!
//! No request needs its body, but the next request begins at its end. A body that is too long or
//! malformed ends the connection.

use crate::http::chunked::{Decoder, Piece, Strictness};
use crate::http::refusal::Refusal;
use crate::http::request::BodyLength;

/// Throws a body away, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    left: Left,
    /// How many bytes may still be discarded, framing included.
    allowance: u64,
}

/// The progress of a discarded body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// So many bytes of the input belong to the body, and it goes on. The rest of the input has to
    /// be offered again, with more behind it.
    More(usize),
    /// The body ends after so many bytes of the input.
    Done(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Left {
    /// So many bytes of a body whose length was announced.
    Counted(u64),
    Chunks(Decoder),
}

impl Discard {
    /// Begins to discard a body of at most `allowance` bytes.
    pub fn new(length: BodyLength, allowance: u64) -> Self {
        let left = match length {
            BodyLength::Empty => Left::Counted(0),
            BodyLength::Known(len) => Left::Counted(len),
            BodyLength::Chunked => Left::Chunks(Decoder::new(Strictness::Strict)),
        };
        Self { left, allowance }
    }

    /// Takes from `input` what belongs to the body.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] for malformed chunks and [`Refusal::BodyTooLarge`] for a body
    /// beyond the allowance; either way the connection has to end.
    pub fn take(&mut self, input: &[u8]) -> Result<Discarded, Refusal> {
        let mut taken = 0;
        loop {
            let Some(len) = self.step(&input[taken..])? else {
                return Ok(Discarded::More(taken));
            };
            self.allowance = self
                .allowance
                .checked_sub(len as u64)
                .ok_or(Refusal::BodyTooLarge)?;
            taken += len;
            if self.is_over() {
                return Ok(Discarded::Done(taken));
            }
        }
    }

    fn is_over(&self) -> bool {
        match &self.left {
            Left::Counted(left) => *left == 0,
            Left::Chunks(decoder) => decoder.is_at_end(),
        }
    }

    /// Takes one element of the framing or some data; `None` when the input holds no whole one.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        match &mut self.left {
            Left::Counted(left) if rest.is_empty() && *left > 0 => Ok(None),
            Left::Counted(left) => {
                let len = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left -= len as u64;
                Ok(Some(len))
            }
            Left::Chunks(decoder) => match decoder.next(rest, usize::MAX) {
                Ok(Piece::Framing(len) | Piece::Data(len)) => Ok(Some(len)),
                Ok(Piece::Partial) => Ok(None),
                Ok(Piece::End) => Ok(Some(0)),
                Err(malformed) => Err(Refusal::BadRequest(malformed.0)),
            },
        }
    }
}

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
