//! `Content-Disposition` (RFC 6266), with names of any alphabet (RFC 8187).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The value that makes a client keep the content under the last component of `path`.
pub(super) fn attachment(path: &[u8]) -> String {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let is_plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
    let fallback: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    if fallback == name {
        return format!("attachment; filename=\"{name}\"");
    }
    let extended = utf8_percent_encode(&name, ENCODED);
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{extended}")
}

/// All but `attr-char` of RFC 8187 section 3.2.1.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_alphabet_survive() {
        assert_eq!(attachment(b"a/b c.bin"), "attachment; filename=\"b c.bin\"");
        assert_eq!(
            attachment("Ü%\".bin".as_bytes()),
            "attachment; filename=\"___.bin\"; filename*=UTF-8''%C3%9C%25%22.bin"
        );
        assert_eq!(
            attachment(b"a\r\nb"),
            "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"
        );
    }
}
