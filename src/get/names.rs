//! Names from a server, made safe for the file system and for the terminal.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use percent_encoding::percent_decode_str;

use crate::http::disposition;
use crate::printable::is_unprintable;

/// `text` without characters that control a terminal: control characters (C0, DEL, C1) and
/// bidirectional marks become U+FFFD.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unprintable) {
        let shown = text
            .chars()
            .map(|c| if is_unprintable(c) { '\u{fffd}' } else { c });
        Cow::Owned(shown.collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A file name from a name that a server chose: one component, without a leading dot or dash, no
/// state file's name, no control characters, no longer than a file system takes. `None` if nothing
/// of it is left.
pub(super) fn safe_file_name(offered: &str) -> Option<String> {
    // Backslashes part paths on the other system; a name that has them was made there.
    let last = offered.rsplit(['/', '\\']).next().unwrap_or_default();
    let cleaned: String = last
        .chars()
        .map(|c| if is_unprintable(c) { '_' } else { c })
        .collect();
    let name = match cleaned.trim().chars().next()? {
        '-' | '.' => format!("_{}", &cleaned.trim()[1..]),
        _ => cleaned.trim().to_owned(),
    };
    if matches!(name.as_str(), "_" | "_.") {
        return None;
    }
    // Room for the mark below, which comes last: a cut may lead to a name that needs it.
    let name = shortened(name, MAX_NAME_BYTES - 1);
    // A server that could write a state file could vouch for other files' bytes.
    let lower = name.to_ascii_lowercase();
    let vouches = RESERVED_SUFFIXES
        .iter()
        .any(|suffix| lower.ends_with(suffix));
    Some(if vouches { name + "_" } else { name })
}

/// The name, in at most `longest` bytes: what goes is the end of its stem, and not the extension.
fn shortened(name: String, longest: usize) -> String {
    if name.len() <= longest {
        return name;
    }
    let (stem, extension) = name.split_at(name.len() - extension(&name).len());
    let stem = &stem[..stem.floor_char_boundary(longest - extension.len())];
    format!("{}{extension}", stem.trim_end())
}

/// The end of a name by which programs know its format, with the dot: `.gz`, and all of `.tar.gz`.
/// What is longer than any extension is none.
fn extension(name: &str) -> &str {
    let dot = |text: &str| text.rfind('.').filter(|&dot| dot > 0);
    let Some(last) = dot(name) else { return "" };
    let start = match dot(&name[..last]) {
        Some(first) if name[first..last].eq_ignore_ascii_case(".tar") => first,
        _ => last,
    };
    match name.len() - start {
        0..=MAX_EXTENSION_BYTES => &name[start..],
        _ => "",
    }
}

/// A local name for a name in a server's tree: the same bytes where Linux allows them. `/`, NUL,
/// `.` and `..` are percent-encoded, and then every `%` is, too; names of state files get a `_`,
/// and so do names that already end so. So the mapping can be reversed. `None` for an empty name.
pub(super) fn local_name(theirs: &[u8]) -> Option<OsString> {
    let is_dots = matches!(theirs, b"." | b"..");
    let is_encoded = is_dots || theirs.iter().any(|byte| matches!(byte, b'/' | 0));
    let mut ours = Vec::new();
    for &byte in theirs {
        if is_dots || is_encoded && matches!(byte, b'/' | 0 | b'%') {
            ours.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            ours.push(byte);
        }
    }
    let lower = ours.to_ascii_lowercase();
    let end = lower.iter().rposition(|&byte| byte != b'_');
    let stem = end.map_or(&[][..], |end| &lower[..=end]);
    let mut suffixes = RESERVED_SUFFIXES.iter();
    if suffixes.any(|suffix| stem.ends_with(suffix.as_bytes())) {
        ours.push(b'_');
    }
    (!ours.is_empty()).then(|| OsString::from_vec(ours))
}

/// The file name in a URL's path, percent-decoded and made safe.
pub(super) fn name_from_path(path: &str) -> Option<String> {
    let last = path.rsplit('/').next().unwrap_or_default();
    safe_file_name(&percent_decode_str(last).decode_utf8_lossy())
}

/// The file name in `Content-Disposition`, made safe.
pub(super) fn name_from_disposition(value: &str) -> Option<String> {
    safe_file_name(&disposition::file_name(value)?)
}

/// `NAME_MAX` of Linux's file systems, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// Longer ones are names with a dot in them.
const MAX_EXTENSION_BYTES: usize = 32;
/// How a download's state file ends; no name from a server does.
pub(super) const STATE_SUFFIX: &str = ".part.state";
/// The state file and its next version, which is renamed over it, and the other part files.
const RESERVED_SUFFIXES: [&str; 4] = [STATE_SUFFIX, ".part.state~", ".part-new", ".part-alt"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_directory_hides_or_looks_like_a_flag() {
        let cases = [
            ("plain.iso", Some("plain.iso")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\windows\\evil.exe", Some("evil.exe")),
            ("/etc/cron.d/job", Some("job")),
            (".bashrc", Some("_bashrc")),
            ("-rf", Some("_rf")),
            ("a\u{1b}[2Jb\r\n", Some("a_[2Jb__")),
            ("nul\0byte", Some("nul_byte")),
            ("x.part.state", Some("x.part.state_")),
            ("x.Part.State ", Some("x.Part.State_")),
            ("x.part", Some("x.part")),
            ("..", None),
            (".", None),
            ("-", None),
            ("", None),
            ("dir/", None),
            ("  ", None),
        ];
        for (offered, expected) in cases {
            assert_eq!(safe_file_name(offered).as_deref(), expected, "{offered:?}");
        }
    }

    #[test]
    fn long_names_are_cut_before_their_extension() {
        let long = |end: &str| format!("{}{end}", "a".repeat(300));
        for (offered, end) in [
            (long(".iso"), "a.iso"),
            (long(".Tar.gz"), "a.Tar.gz"),
            (format!("x.tar.{}", long(".gz")), "a.gz"),
            (long(""), "aa"),
            (format!("a.{}", long("")), "aa"),
            (
                format!("{}.part.state{}", "a".repeat(243), long("")),
                ".part.state_",
            ),
            (
                format!("{}.part{}.state", "a".repeat(243), long("")),
                ".part.state_",
            ),
            (long(".part-new"), "a.part-new_"),
            (format!("a{}.txt", "€".repeat(100)), "€.txt"),
            (format!("{} {}", "a".repeat(249), long(".txt")), "a.txt"),
            (format!("{}{}", "€".repeat(100), ".x".repeat(100)), "€.x"),
        ] {
            let name = safe_file_name(&offered).unwrap();
            assert!((245..=255).contains(&name.len()), "{}: {name}", name.len());
            assert!(name.ends_with(end), "{name}");
        }
        let fits = "a".repeat(250) + ".iso";
        assert_eq!(safe_file_name(&fits).as_deref(), Some(&*fits));
    }

    #[test]
    fn names_of_a_tree_keep_their_bytes_or_can_be_decoded() {
        let kept = [
            &b"-rf"[..],
            b".hidden",
            b" spaces ",
            b"back\\slash",
            b"a\x1b\n\xff",
            b"100%",
            b"...",
            b"x.part",
        ];
        for name in kept {
            assert_eq!(local_name(name).unwrap().into_vec(), name);
        }
        let changed = [
            (&b"../../etc/x"[..], "..%2F..%2Fetc%2Fx"),
            (b"50%/\0", "50%25%2F%00"),
            (b".", "%2E"),
            (b"..", "%2E%2E"),
        ];
        for (theirs, ours) in changed {
            assert_eq!(local_name(theirs).unwrap(), ours);
            let decoded: Vec<u8> = percent_decode_str(ours).collect();
            assert_eq!(decoded, theirs);
        }
        for (theirs, ours) in [
            ("x.part.state", "x.part.state_"),
            ("x.Part.State_", "x.Part.State__"),
            ("x.part.state~", "x.part.state~_"),
            ("x.part-new", "x.part-new_"),
            ("x.part-alt", "x.part-alt_"),
        ] {
            assert_eq!(local_name(theirs.as_bytes()).unwrap(), ours);
        }
        assert_eq!(local_name(b""), None);
        assert_eq!(local_name(b"__").unwrap(), "__");
    }

    #[test]
    fn dispositions() {
        let cases = [
            ("attachment; filename=a.bin", Some("a.bin")),
            (
                "attachment; filename=\"a \\\"b\\\".bin\"",
                Some("a \"b\".bin"),
            ),
            (
                "attachment; filename=x; filename*=UTF-8''%e2%82%ac.txt",
                Some("€.txt"),
            ),
            ("attachment; filename=\"../../x\"", Some("x")),
            ("attachment; filename*=utf-8''..%2f..%2fx%00y", Some("x_y")),
            ("attachment", None),
            ("inline; filename=\"unclosed", Some("unclosed")),
            ("attachment; filename=\"\\", None),
        ];
        for (value, expected) in cases {
            assert_eq!(name_from_disposition(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn names_in_paths_are_decoded_once() {
        assert_eq!(name_from_path("/a/b%20c%2520").as_deref(), Some("b c%20"));
        assert_eq!(name_from_path("/a/..%2f..%2fx").as_deref(), Some("x"));
        assert_eq!(name_from_path("/a/"), None);
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        assert_eq!(
            printable("a\u{1b}[31m\u{9b}\u{202e}"),
            "a\u{fffd}[31m\u{fffd}\u{fffd}"
        );
        assert_eq!(printable("größe.iso"), "größe.iso");
    }
}
