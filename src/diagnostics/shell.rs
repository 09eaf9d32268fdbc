//! Words for a shell.

use std::borrow::Cow;

/// Quotes a name for a POSIX shell. Control characters, which no terminal shows as what they
/// are, and what is no UTF-8 become `_`.
pub fn quote(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name: Cow<'_, str> = if name.chars().any(is_unsightly) {
        name.chars()
            .map(|c| if is_unsightly(c) { '_' } else { c })
            .collect()
    } else {
        name
    };
    // A name that looks like an option is made one that does not.
    let prefix = if name.starts_with('-') { "./" } else { "" };
    format!("'{prefix}{}'", name.replace('\'', r"'\''"))
}

/// Control characters, and those that turn the direction of writing.
fn is_unsightly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{fffd}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_word() {
        assert_eq!(quote(b"a b"), "'a b'");
        assert_eq!(quote(b"it's $(rm)"), r"'it'\''s $(rm)'");
        assert_eq!(quote(b"-rf"), "'./-rf'");
        assert_eq!(quote(b"a\nb\xff"), "'a_b_'");
        assert_eq!(quote("a\u{202e}b".as_bytes()), "'a_b'");
    }
}
