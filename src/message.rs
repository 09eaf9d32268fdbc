//! A conversation of one message and one reply: the smallest proof that two hosts reach each other,
//! before gigabytes are moved between them.
//!
//! A message ends when its sender half-closes, falls silent for a moment, or has sent 1,024 bytes.

pub use crate::dial::Family;

mod answer;
mod say;
mod text;

pub use answer::{AnswerConfig, AnswerError, Answerer, Heard};
pub use say::{SayConfig, SayError, say};
pub use text::{Charset, CharsetError, LONGEST_MESSAGE, escape_controls};
