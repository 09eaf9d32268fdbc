//! Words for a shell.

use std::borrow::Cow;

use crate::printable::is_unprintable;

/// Quotes a name for a POSIX shell. Control characters and invalid UTF-8 become `_`.
pub fn quote(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name: Cow<'_, str> = if name.chars().any(is_invisible) {
        name.chars()
            .map(|c| if is_invisible(c) { '_' } else { c })
            .collect()
    } else {
        name
    };
    // A name that looks like an option is made one that does not.
    let prefix = if name.starts_with('-') { "./" } else { "" };
    format!("'{prefix}{}'", name.replace('\'', r"'\''"))
}

/// Characters without a visible form of their own: zero-width ones besides the unprintable.
fn is_invisible(c: char) -> bool {
    is_unprintable(c) || matches!(c, '\u{fffd}' | '\u{200b}'..='\u{200d}')
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
