//! Expected sums, and hashing behind the front of a download while it runs.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{Blame, GetError};

/// A sum that a file must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// SHA-256.
    Sha256([u8; 32]),
    /// BLAKE3, 32 bytes.
    Blake3([u8; 32]),
}

/// The sums of many files, as `sha256sum` writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumFile(Vec<(String, Sum)>);

/// A sum or a file of sums that cannot be read; the text says where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSum(String);

impl fmt::Display for BadSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::names::printable(&self.0))
    }
}

impl std::error::Error for BadSum {}

/// 32 bytes from 64 hexadecimal digits.
///
/// # Errors
/// [`BadSum`].
pub fn parse_hex(text: &str) -> Result<[u8; 32], BadSum> {
    let bad = || {
        BadSum(format!(
            "{text:?} is not a sum: it takes 64 hexadecimal digits"
        ))
    };
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut sum = [0; 32];
    for (byte, at) in sum.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
    }
    Ok(sum)
}

impl SumFile {
    /// Reads `sha256sum`'s two formats: `HEX  NAME` and `SHA256 (NAME) = HEX` (or `BLAKE3`).
    ///
    /// # Errors
    /// [`BadSum`], with the line.
    pub fn parse(text: &str) -> Result<Self, BadSum> {
        let mut sums = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = tagged(line).or_else(|| plain(line));
            let bad = || {
                BadSum(format!(
                    "line {}: not a line of sha256sum: {line}",
                    number + 1
                ))
            };
            sums.push(entry.ok_or_else(bad)?);
        }
        Ok(Self(sums))
    }

    /// The sum for `path`: listed under the whole path, or else under as much of its end as can be
    /// found. A tree's own list does not name the directory that the tree is in.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Sum> {
        let find = |name: &Path| {
            self.0
                .iter()
                .find(|(listed, _)| Path::new(listed.trim_start_matches("./")) == name)
        };
        let ends = std::iter::successors(Some(path.components()), |components| {
            let mut rest = components.clone();
            rest.next().map(|_| rest)
        });
        ends.take_while(|end| !end.as_path().as_os_str().is_empty())
            .find_map(|end| find(end.as_path()))
            .map(|&(_, sum)| sum)
    }
}

fn plain(line: &str) -> Option<(String, Sum)> {
    // A leading backslash says that the name is escaped.
    let (escaped, line) = line
        .strip_prefix('\\')
        .map_or((false, line), |rest| (true, rest));
    let sum = parse_hex(line.get(..64)?).ok()?;
    let rest = line.get(64..)?;
    let name = rest
        .strip_prefix("  ")
        .or_else(|| rest.strip_prefix(" *"))?;
    let name = if escaped {
        unescape(name)
    } else {
        name.to_owned()
    };
    Some((name, Sum::Sha256(sum)))
}

fn tagged(line: &str) -> Option<(String, Sum)> {
    let (tag, rest) = line.split_once(" (")?;
    let (name, hex) = rest.rsplit_once(") = ")?;
    let sum = parse_hex(hex).ok()?;
    match tag {
        "SHA256" => Some((name.to_owned(), Sum::Sha256(sum))),
        "BLAKE3" => Some((name.to_owned(), Sum::Blake3(sum))),
        _ => None,
    }
}

fn unescape(name: &str) -> String {
    let mut text = String::new();
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        text.extend(match character {
            '\\' => characters.next().map(|escaped| match escaped {
                'n' => '\n',
                'r' => '\r',
                other => other,
            }),
            other => Some(other),
        });
    }
    text
}

/// Hashes a file from its start, as far as it is there.
#[derive(Debug)]
pub(super) struct Verifier {
    hashers: Vec<(Sum, Hasher)>,
    hashed: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Hasher {
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Verifier {
    pub(super) fn new(expected: &[Sum]) -> Self {
        let hasher = |sum: &Sum| match sum {
            Sum::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Sum::Blake3(_) => Hasher::Blake3(Box::default()),
        };
        Self {
            hashers: expected.iter().map(|sum| (*sum, hasher(sum))).collect(),
            hashed: 0,
            buffer: Vec::new(),
        }
    }

    /// Hashes bytes that follow those hashed before.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.hashers {
            match hasher {
                Hasher::Sha256(hasher) => hasher.update(bytes),
                Hasher::Blake3(hasher) => drop(hasher.update(bytes)),
            }
        }
        self.hashed += bytes.len() as u64;
    }

    /// Hashes on in `file`, a step at most towards `front`; says whether it is there.
    pub(super) fn follow(
        &mut self,
        (file, path): (&File, &Path),
        front: u64,
    ) -> Result<Caught, GetError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(STEP_BYTES, 0);
        let step = (front - self.hashed.min(front)).min(STEP_BYTES as u64) as usize;
        let read = file.read_exact_at(&mut buffer[..step], self.hashed);
        read.map_err(|error| GetError::local("read", path, &error))?;
        self.update(&buffer[..step]);
        self.buffer = buffer;
        Ok(if self.hashed >= front {
            Caught::Up
        } else {
            Caught::Behind
        })
    }

    /// Compares the sums of what has been hashed with the expected ones.
    ///
    /// # Errors
    /// Verification, with both sums.
    pub(super) fn finish(self) -> Result<(), GetError> {
        for (expected, hasher) in self.hashers {
            let found = match hasher {
                Hasher::Sha256(hasher) => Sum::Sha256(hasher.finalize().into()),
                Hasher::Blake3(hasher) => Sum::Blake3(*hasher.finalize().as_bytes()),
            };
            if found != expected {
                let text = format!("the bytes are not the expected ones: {found}, not {expected}");
                return Err(GetError::new(Blame::Verification, text));
            }
        }
        Ok(())
    }
}

/// See [`Verifier::follow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caught {
    Up,
    Behind,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::Blake3(bytes) => ("blake3", bytes),
        };
        write!(f, "{name} ")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const STEP_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn sum_files() {
        let text = format!(
            "# made by hand\n{EMPTY}  a b.iso\n{EMPTY} *./dir/b\n\\{EMPTY}  c\\nd\n\
             SHA256 (e (1).iso) = {EMPTY}\nBLAKE3 (f) = {EMPTY}\n"
        );
        let sums = SumFile::parse(&text).unwrap();
        for name in [
            "a b.iso",
            "dir/b",
            "x/a b.iso",
            "top/dir/b",
            "c\nd",
            "e (1).iso",
            "f",
        ] {
            assert!(sums.find(Path::new(name)).is_some(), "{name:?}");
        }
        assert!(sums.find(Path::new("b")).is_none());
        assert!(matches!(sums.find(Path::new("f")), Some(Sum::Blake3(_))));
        assert!(SumFile::parse("e3b0  short\n").is_err());
        assert!(SumFile::parse(&format!("{EMPTY} onespace\n")).is_err());
        assert!(parse_hex("é").is_err());
    }

    #[test]
    fn sums_of_nothing_and_of_something_else() {
        let expected = [Sum::Sha256(parse_hex(EMPTY).unwrap())];
        assert!(Verifier::new(&expected).finish().is_ok());
        let mut other = Verifier::new(&expected);
        other.update(b"x");
        assert_eq!(other.finish().unwrap_err().blame, Blame::Verification);
    }
}
