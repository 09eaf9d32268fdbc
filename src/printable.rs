//! Untrusted text on a terminal.

/// Whether a character of untrusted text would move a terminal's cursor, break a line, or change
/// the direction of writing.
#[must_use]
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
