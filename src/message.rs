//! A conversation of one message and one reply: the smallest test of a path between two hosts
//! before gigabytes are moved.
//!
//! A message ends when its sender half-closes, falls silent for a moment, or has sent 1,024 bytes.

pub use crate::dial::Family;

mod answer;
mod say;
mod text;

pub use answer::{AnswerConfig, AnswerError, Answerer, Heard};
pub use say::{SayConfig, SayError, say};
pub use text::{Charset, CharsetError, MAX_MESSAGE_BYTES, escape_controls};
