//! Lists of sums, as `sha256sum`, `b3sum` and BSD's `sha256` write and read them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, BufRead, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::digest::algorithm::{Algorithm, Checksum, ChecksumError};

/// The sums of many files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChecksumFile {
    sums: Vec<(Vec<u8>, Checksum)>,
    /// The places of the sums, by the names of their files.
    by_name: Vec<usize>,
    malformed: Vec<usize>,
}

/// How a line of a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `HEX  NAME`, as `sha256sum` and `b3sum` write it.
    Plain,
    /// `SHA256 (NAME) = HEX`, which names the algorithm.
    Tagged,
}

impl ChecksumFile {
    /// Reads all formats, with the names or lengths of all algorithms, and skips other lines, as
    /// coreutils do. A line of 64 digits without a name counts as `default`'s if that has as many.
    ///
    /// # Errors
    /// [`ChecksumError`]: not a single line is one of a sum, or too many are not.
    pub fn parse_as(text: &[u8], default: Option<Algorithm>) -> Result<Self, ChecksumError> {
        Self::read(text, default, usize::MAX).map_err(|error| ChecksumError::new(error.to_string()))
    }

    /// As [`Self::parse_as`], for lists that may be of any algorithm.
    ///
    /// # Errors
    /// As [`Self::parse_as`].
    pub fn parse(text: &str) -> Result<Self, ChecksumError> {
        Self::parse_as(text.as_bytes(), None)
    }

    /// As [`Self::parse_as`], one line after the other, of what may have no end: a line that is too
    /// long for any name is skipped. The sums take `max_bytes` of memory at most.
    ///
    /// # Errors
    /// As read(2), and `InvalidData` as [`Self::parse_as`] or for too many sums.
    pub fn read(
        mut text: impl BufRead,
        default: Option<Algorithm>,
        max_bytes: usize,
    ) -> io::Result<Self> {
        let (mut list, mut line, mut kept_bytes) = (Self::default(), Vec::new(), 0);
        for number in 1.. {
            line.clear();
            let mut start = text.by_ref().take(MAX_LINE_BYTES);
            if start.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if start.limit() == 0 && !line.ends_with(b"\n") {
                let mut rest = text.by_ref().take(MAX_SKIPPED_BYTES);
                rest.skip_until(b'\n')?;
                if rest.limit() == 0 {
                    return Err(no_list(format!("line {number} has no end")));
                }
                line.clear();
                line.push(b'?');
            }
            let Some(line) = content(&line, number) else {
                continue;
            };
            match parse_line(line, default) {
                Some((name, sum)) => {
                    kept_bytes += ENTRY_BYTES + name.len() + sum.algorithm().digest_len();
                    list.sums.push((name, sum));
                }
                None => list.malformed.push(number),
            }
            if kept_bytes > max_bytes {
                let why = format!("it has more sums than fit in {} MiB", max_bytes >> 20);
                return Err(no_list(why));
            }
            if list.malformed.len() > MAX_MALFORMED {
                let why = format!("more than {MAX_MALFORMED} lines of it are in no format");
                return Err(no_list(why));
            }
        }
        list.if_any()
    }

    fn if_any(mut self) -> io::Result<Self> {
        let mut by_name: Vec<usize> = (0..self.sums.len()).collect();
        by_name.sort_by_key(|at| self.name(*at));
        self.by_name = by_name;
        if self.sums.is_empty() {
            let why = "there is no line of a checksum in it, as sha256sum or b3sum writes them";
            return Err(no_list(why));
        }
        Ok(self)
    }

    /// The sums for `path`: under the whole path, or else under its longest listed end. A tree's
    /// list does not name the directory that the tree is in.
    #[must_use]
    pub fn find(&self, path: &Path) -> Vec<Checksum> {
        let ends = std::iter::successors(Some(path.components()), |components| {
            let mut rest = components.clone();
            rest.next().map(|_| rest)
        });
        ends.take_while(|end| !end.as_path().as_os_str().is_empty())
            .map(|end| self.sums_of(end.as_path()))
            .find(|sums| !sums.is_empty())
            .unwrap_or_default()
    }

    fn sums_of(&self, name: &Path) -> Vec<Checksum> {
        let start = self.by_name.partition_point(|at| self.name(*at) < name);
        let places = self.by_name[start..].iter();
        let places = places.take_while(|at| self.name(**at) == name);
        places.map(|at| self.sums[*at].1.clone()).collect()
    }

    fn name(&self, at: usize) -> &Path {
        let listed = Path::new(OsStr::from_bytes(&self.sums[at].0));
        listed.strip_prefix(".").unwrap_or(listed)
    }

    /// Each name with its sum, in the list's order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Checksum)> {
        let path = |name| Path::new(OsStr::from_bytes(name));
        self.sums.iter().map(move |(name, sum)| (path(name), sum))
    }

    /// The numbers of the lines that are in no format, from 1 on.
    #[must_use]
    pub fn malformed(&self) -> &[usize] {
        &self.malformed
    }
}

/// A line of a list, without its end. Names with a line end or a backslash are escaped as
/// coreutils escape them, with a backslash in front of the line.
#[must_use]
pub fn line(style: Style, name: &Path, sum: &Checksum) -> Vec<u8> {
    let name = name.as_os_str().as_bytes();
    let escaped = escape(name);
    let mut line = Vec::with_capacity(name.len() + 160);
    if matches!(escaped, Cow::Owned(_)) {
        line.push(b'\\');
    }
    match style {
        Style::Plain => {
            line.extend_from_slice(sum.hex().as_bytes());
            line.extend_from_slice(b"  ");
            line.extend_from_slice(&escaped);
        }
        Style::Tagged => {
            let tag = sum.algorithm().name().to_ascii_uppercase();
            line.extend_from_slice(tag.as_bytes());
            line.extend_from_slice(b" (");
            line.extend_from_slice(&escaped);
            line.extend_from_slice(b") = ");
            line.extend_from_slice(sum.hex().as_bytes());
        }
    }
    line
}

/// A name for lists and verdicts, escaped if it has a line end or a backslash: the line then begins
/// with a backslash.
#[must_use]
pub fn escape(name: &[u8]) -> Cow<'_, [u8]> {
    if !name
        .iter()
        .any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'))
    {
        return Cow::Borrowed(name);
    }
    let mut escaped = Vec::with_capacity(name.len() + 8);
    for byte in name {
        match byte {
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            _ => escaped.push(*byte),
        }
    }
    Cow::Owned(escaped)
}

fn no_list(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// A line without its end, and the first one without the mark that editors of other systems put at a
/// file's start; `None` for blanks and comments.
fn content(line: &[u8], number: usize) -> Option<&[u8]> {
    let mark = "\u{feff}".as_bytes();
    let line = line
        .strip_prefix(mark)
        .filter(|_| number == 1)
        .unwrap_or(line);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.trim_ascii().is_empty() && !line.starts_with(b"#")).then_some(line)
}

fn parse_line(line: &[u8], default: Option<Algorithm>) -> Option<(Vec<u8>, Checksum)> {
    let blanks = line.iter().take_while(|byte| is_blank(**byte)).count();
    let line = &line[blanks..];
    // A leading backslash marks an escaped name.
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (name, sum) = tagged(line).or_else(|| plain(line, default))?;
    let name = match is_escaped {
        true => unescape(name)?,
        false => name.to_owned(),
    };
    // No file has such a name.
    (!name.is_empty() && !name.contains(&0)).then_some((name, sum))
}

fn plain(line: &[u8], default: Option<Algorithm>) -> Option<(&[u8], Checksum)> {
    let (hex, rest) = line.split_at(line.iter().position(|byte| is_blank(*byte))?);
    let hex = std::str::from_utf8(hex).ok()?;
    let default = default.filter(|algorithm| 2 * algorithm.digest_len() == hex.len());
    let sum = Checksum::parse(default.or_else(|| Algorithm::by_length(hex))?, hex).ok()?;
    // The form is one blank, then a sign for text or binary; `md5 -r` of BSD writes no sign.
    let ([_, b' ' | b'*', name @ ..] | [_, name @ ..]) = rest else {
        return None;
    };
    Some((name, sum))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn tagged(line: &[u8]) -> Option<(&[u8], Checksum)> {
    // OpenSSL writes no blanks: SHA256(name)= digest.
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let name = line.get(open + 1..close)?;
    let tag = std::str::from_utf8(&line[..open]).ok()?.trim_end();
    let hex = line[close + 1..].trim_ascii().strip_prefix(b"=")?;
    let hex = std::str::from_utf8(hex).ok()?;
    let sum = Checksum::parse(Algorithm::named(tag)?, hex).ok()?;
    Some((name, sum))
}

/// The name that was escaped; `None` for an unknown escape.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(plain)
}

/// `PATH_MAX` twice, for a name of which every byte is escaped, and more than a digest.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// An entry, and what an allocator adds to its two allocations.
const ENTRY_BYTES: usize = size_of::<(Vec<u8>, Checksum)>() + size_of::<usize>() + 32;
/// A line beyond a name is no reason to give up; one like this has no end.
const MAX_SKIPPED_BYTES: u64 = 256 << 20;
/// Their numbers take 8 MiB.
const MAX_MALFORMED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn checksum_files() {
        let text = format!(
            "# made by hand\n{EMPTY}  a b.iso\n{EMPTY} *./dir/b\n\\{EMPTY}  c\\nd\n\
             SHA256 (e (1).iso) = {EMPTY}\nBLAKE3 (f) = {EMPTY}\n\
             d41d8cd98f00b204e9800998ecf8427e  g\nda39a3ee5e6b4b0d3255bfef95601890afd80709  h\n\
             SHA1 (i) = da39a3ee5e6b4b0d3255bfef95601890afd80709\n\
             SHA2-256(openssl 3)= {EMPTY}\n"
        );
        let sums = ChecksumFile::parse(&text).unwrap();
        for name in [
            "openssl 3",
            "a b.iso",
            "dir/b",
            "x/a b.iso",
            "top/dir/b",
            "c\nd",
            "e (1).iso",
            "f",
            "g",
            "h",
            "i",
        ] {
            assert_eq!(sums.find(Path::new(name)).len(), 1, "{name:?}");
        }
        assert!(sums.find(Path::new("b")).is_empty());
        let algorithm = |name: &str| sums.find(Path::new(name)).first().map(Checksum::algorithm);
        assert_eq!(algorithm("f"), Some(Algorithm::Blake3));
        assert_eq!(algorithm("g"), Some(Algorithm::Md5));
        assert_eq!(algorithm("h"), Some(Algorithm::Sha1));
        assert!(ChecksumFile::parse("e3b0  short\n").is_err());
        assert!(ChecksumFile::parse("").is_err());
        let b3sum =
            ChecksumFile::parse_as(format!("{EMPTY}  a").as_bytes(), Some(Algorithm::Blake3));
        let sum = b3sum.unwrap().find(Path::new("a")).remove(0);
        assert_eq!(sum.algorithm(), Algorithm::Blake3);
    }

    #[test]
    fn lines_in_no_format_cost_themselves_alone() {
        let text = format!(
            "\u{feff}  {EMPTY}  blanks\r\n{EMPTY}\ttab\n{EMPTY} one\nnonsense\n\
             SHA256(openssl)= {EMPTY}\n{}  short\n\\{EMPTY}  bad\\x\n\t\n{EMPTY}  \n\
             SHA512 (wrong) = {EMPTY}\n",
            &EMPTY[1..]
        );
        let list = ChecksumFile::parse(&text).unwrap();
        let names: Vec<_> = list
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        assert_eq!(names, ["blanks", "tab", "one", "openssl"]);
        assert_eq!(list.malformed(), [4, 6, 7, 9, 10]);
    }

    #[test]
    fn a_list_is_read_line_by_line_as_it_is_parsed() {
        let text = format!(
            "\u{feff}{EMPTY}  a\r\n#\n\n{}\n{EMPTY}  {}\nSHA256 (b) = {EMPTY}\n{EMPTY}  \u{feff}c",
            "x".repeat(70_000),
            "n".repeat(70_000),
        );
        let list = ChecksumFile::read(text.as_bytes(), None, usize::MAX).unwrap();
        let names: Vec<_> = list.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["a", "b", "\u{feff}c"].map(PathBuf::from));
        for nothing in ["", "\n", "e3b0  short"] {
            assert!(ChecksumFile::read(nothing.as_bytes(), None, usize::MAX).is_err());
        }
    }

    #[test]
    fn what_is_written_is_read_again_whatever_the_name() {
        let sum = Checksum::parse(Algorithm::Sha256, EMPTY).unwrap();
        for name in [
            b"a".as_slice(),
            b" two  spaces ",
            b"new\nline",
            b"\\n\r",
            b"SHA256 (x) = y",
            b"\xff\xfe",
            b"*star",
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            for style in [Style::Plain, Style::Tagged] {
                let list = ChecksumFile::parse_as(&line(style, path, &sum), None).unwrap();
                let [(found, found_sum)] = list.sums.as_slice() else {
                    panic!("one line for {path:?}");
                };
                assert_eq!((found.as_slice(), found_sum), (name, &sum), "{style:?}");
            }
        }
    }
}
