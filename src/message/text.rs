//! Text as bytes in a character encoding, and as something that is safe to print.

use std::fmt;
use std::str::FromStr;

use encoding_rs::{Encoding, UTF_8};

use crate::printable::is_unprintable;

/// The longest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_024;

/// A character encoding that text can be both read from and written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

/// Why text or a label has no encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CharsetError {
    /// No encoding of the WHATWG Encoding Standard has this label, or it is for reading only.
    Unknown {
        /// The encoding's name as it was given.
        label: String,
    },
    /// The text has characters that the encoding lacks.
    Inexpressible {
        /// The encoding's name.
        charset: &'static str,
    },
}

impl fmt::Display for CharsetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { label } => {
                write!(
                    out,
                    "no encoding \"{label}\" to write in; try utf-8, gbk or windows-1252"
                )
            }
            Self::Inexpressible { charset } => {
                write!(
                    out,
                    "the text has characters that {charset} lacks; try --encoding utf-8"
                )
            }
        }
    }
}

impl std::error::Error for CharsetError {}

impl Default for Charset {
    /// UTF-8.
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl FromStr for Charset {
    type Err = CharsetError;

    fn from_str(label: &str) -> Result<Self, CharsetError> {
        match Encoding::for_label(label.as_bytes()) {
            // UTF-16 would come out as UTF-8.
            Some(encoding) if encoding.output_encoding() == encoding => Ok(Self(encoding)),
            _ => Err(CharsetError::Unknown {
                label: label.to_owned(),
            }),
        }
    }
}

impl Charset {
    pub(super) fn encode(self, text: &str) -> Result<Vec<u8>, CharsetError> {
        let (bytes, _, replaced) = self.0.encode(text);
        if replaced {
            return Err(CharsetError::Inexpressible {
                charset: self.0.name(),
            });
        }
        Ok(bytes.into_owned())
    }

    /// Decodes a whole text; malformed sequences become U+FFFD.
    pub(super) fn decode(self, bytes: &[u8]) -> String {
        self.0.decode_without_bom_handling(bytes).0.into_owned()
    }

    /// Decodes the beginning of a text. A character that was cut off at the end is left out.
    pub(super) fn decode_beginning(self, bytes: &[u8]) -> String {
        let mut decoder = self.0.new_decoder_without_bom_handling();
        let longest = decoder.max_utf8_buffer_length(bytes.len());
        // The length overflows only for lengths that no slice can have.
        let mut text = String::with_capacity(longest.unwrap_or(bytes.len()));
        let _ = decoder.decode_to_string(bytes, &mut text, false);
        text
    }
}

/// Escapes untrusted text for a terminal: control characters, line separators, and bidirectional
/// marks.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_that_cannot_be_written_are_refused() {
        for label in ["utf-16", "replacement", "klingon", ""] {
            let error = CharsetError::Unknown {
                label: label.to_owned(),
            };
            assert_eq!(label.parse::<Charset>(), Err(error));
        }
        assert_eq!("UTF8".parse(), Ok(Charset::default()));
    }

    #[test]
    fn what_an_encoding_lacks_is_said() {
        let gbk: Charset = "gbk".parse().unwrap();
        assert_eq!(gbk.encode("你好"), Ok(vec![0xc4, 0xe3, 0xba, 0xc3]));
        let latin: Charset = "latin1".parse().unwrap();
        assert!(matches!(
            latin.encode("你好"),
            Err(CharsetError::Inexpressible { .. })
        ));
    }

    #[test]
    fn a_character_cut_off_at_the_end_is_left_out() {
        let charset = Charset::default();
        let bytes = "héé".as_bytes();
        assert_eq!(charset.decode_beginning(&bytes[..4]), "hé");
        assert_eq!(charset.decode(&bytes[..4]), "hé\u{fffd}");
    }

    #[test]
    fn nothing_that_moves_the_cursor_is_left() {
        let text = "a\x1b[2J\r\n\u{202e}b\u{9b}é";
        assert_eq!(escape_controls(text), "a\\u{1b}[2J\\r\\n\\u{202e}b\\u{9b}é");
    }
}
