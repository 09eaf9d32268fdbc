//! `Content-Disposition` (RFC 6266), with names of any alphabet (RFC 8187).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The client's treatment of the content (RFC 6266).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    /// Show it if it can be shown.
    #[default]
    Inline,
    /// Keep it under the file's name.
    Attachment,
}

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

/// The file name that a value gives, as the server wrote it; `filename*` goes first.
pub(crate) fn file_name(value: &str) -> Option<String> {
    let mut parameters = split_parameters(value);
    let mut find = |wanted: &str| {
        let at = parameters
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(parameters.remove(at).1)
    };
    if let Some(extended) = find("filename*") {
        // RFC 8187: charset'language'percent-encoded. Other charsets than UTF-8 died out.
        let mut parts = extended.splitn(3, '\'');
        let charset = parts.next().unwrap_or_default();
        if let (true, Some(encoded)) = (charset.eq_ignore_ascii_case("utf-8"), parts.nth(1)) {
            return Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned());
        }
    }
    find("filename")
}

fn split_parameters(value: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        parameters.push((name.trim().to_owned(), text));
        rest = next.trim_start().trim_start_matches(';');
    }
    parameters
}

/// The text of a quoted string after its opening quote, and the rest.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => text.push(character),
        }
    }
    (text, "")
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
