//! Expected sums, and hashing behind the front of a download while it runs.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::digest::DynDigest;

use crate::get::error::{ErrorKind, GetError};

/// A sum that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    digest: Box<[u8]>,
}

/// How a sum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// BLAKE3, 32 bytes.
    Blake3,
    /// MD5: finds accidents, stops no attacker.
    Md5,
    /// SHA-1: finds accidents, stops no attacker.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    fn hasher(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Blake3 => Box::<blake3::Hasher>::default(),
            Self::Md5 => Box::<md5::Md5>::default(),
            Self::Sha1 => Box::<sha1::Sha1>::default(),
            Self::Sha256 => Box::<sha2::Sha256>::default(),
            Self::Sha512 => Box::<sha2::Sha512>::default(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm that coreutils, OpenSSL and b3sum call `name`.
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "");
        [
            Self::Blake3,
            Self::Md5,
            Self::Sha1,
            Self::Sha256,
            Self::Sha512,
        ]
        .into_iter()
        .find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm of a list that does not name it; 64 digits are SHA-256, as most are.
    fn by_length(hex: &str) -> Option<Self> {
        match hex.len() {
            32 => Some(Self::Md5),
            40 => Some(Self::Sha1),
            64 => Some(Self::Sha256),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl Checksum {
    /// The sum that `hex` writes down.
    ///
    /// # Errors
    /// [`BadSum`] unless it has exactly the algorithm's number of hexadecimal digits.
    pub fn parse(algorithm: Algorithm, hex: &str) -> Result<Self, ChecksumError> {
        let hex = hex.trim();
        let digits = 2 * algorithm.hasher().output_size();
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let [high, low] = *pair else { return None };
            Some((digit(high)? * 16 + digit(low)?) as u8)
        });
        match bytes.collect::<Option<Box<[u8]>>>() {
            Some(digest) if hex.len() == digits => Ok(Self { algorithm, digest }),
            _ => Err(ChecksumError(format!(
                "{hex:?} is not a sum: {} takes {digits} hexadecimal digits",
                algorithm.name()
            ))),
        }
    }
}

/// The sums of many files, as `sha256sum` writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChecksumFile(Vec<(String, Checksum)>);

/// A sum or a file of sums that cannot be read; the text says where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumError(String);

impl fmt::Display for ChecksumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::names::printable(&self.0))
    }
}

impl std::error::Error for ChecksumError {}

impl ChecksumFile {
    /// Reads `sha256sum`'s two formats: `HEX  NAME` and `SHA256 (NAME) = HEX`, with the
    /// names or lengths of the other algorithms too.
    ///
    /// # Errors
    /// [`BadSum`], with the line.
    pub fn parse(text: &str) -> Result<Self, ChecksumError> {
        let mut checksums = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = tagged(line).or_else(|| plain(line));
            let bad = || {
                ChecksumError(format!(
                    "line {}: not a line of sha256sum: {line}",
                    number + 1
                ))
            };
            checksums.push(entry.ok_or_else(bad)?);
        }
        Ok(Self(checksums))
    }

    /// The sum for `path`: listed under the whole path, or else under as much of its end as can be
    /// found. A tree's own list does not name the directory that the tree is in.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Checksum> {
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
            .map(|(_, sum)| sum.clone())
    }
}

fn plain(line: &str) -> Option<(String, Checksum)> {
    // A leading backslash says that the name is escaped.
    let (escaped, line) = line
        .strip_prefix('\\')
        .map_or((false, line), |rest| (true, rest));
    let (hex, _) = line.split_once(' ')?;
    let sum = Checksum::parse(Algorithm::by_length(hex)?, hex).ok()?;
    let rest = &line[hex.len()..];
    let name = rest
        .strip_prefix("  ")
        .or_else(|| rest.strip_prefix(" *"))?;
    let name = if escaped {
        unescape(name)
    } else {
        name.to_owned()
    };
    Some((name, sum))
}

fn tagged(line: &str) -> Option<(String, Checksum)> {
    let (tag, rest) = line.split_once(" (")?;
    let (name, hex) = rest.rsplit_once(") = ")?;
    let sum = Checksum::parse(Algorithm::named(tag)?, hex).ok()?;
    Some((name.to_owned(), sum))
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
pub(super) struct Verifier {
    hashers: Vec<(Checksum, Box<dyn DynDigest + Send>)>,
    hashed: u64,
    buffer: Vec<u8>,
}

impl Verifier {
    pub(super) fn new(expected: &[Checksum]) -> Self {
        let hashers = expected.iter();
        Self {
            hashers: hashers
                .map(|sum| (sum.clone(), sum.algorithm.hasher()))
                .collect(),
            hashed: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes hashed so far.
    pub(super) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Hashes bytes that follow those hashed before.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.hashers {
            hasher.update(bytes);
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
            let found = Checksum {
                algorithm: expected.algorithm,
                digest: hasher.finalize(),
            };
            if found != expected {
                let text = format!("the bytes are not the expected ones: {found}, not {expected}");
                return Err(GetError::new(ErrorKind::Verification, text));
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

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.algorithm.name())?;
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
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
             SHA256 (e (1).iso) = {EMPTY}\nBLAKE3 (f) = {EMPTY}\n\
             d41d8cd98f00b204e9800998ecf8427e  g\nda39a3ee5e6b4b0d3255bfef95601890afd80709  h\n\
             SHA1 (i) = da39a3ee5e6b4b0d3255bfef95601890afd80709\n"
        );
        let checksums = ChecksumFile::parse(&text).unwrap();
        for name in [
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
            assert!(checksums.find(Path::new(name)).is_some(), "{name:?}");
        }
        assert!(checksums.find(Path::new("b")).is_none());
        let algorithm = |name: &str| checksums.find(Path::new(name)).map(|sum| sum.algorithm);
        assert_eq!(algorithm("f"), Some(Algorithm::Blake3));
        assert_eq!(algorithm("g"), Some(Algorithm::Md5));
        assert_eq!(algorithm("h"), Some(Algorithm::Sha1));
        assert!(ChecksumFile::parse("e3b0  short\n").is_err());
        assert!(ChecksumFile::parse(&format!("{EMPTY} onespace\n")).is_err());
        assert!(Checksum::parse(Algorithm::Md5, "é").is_err());
        assert!(Checksum::parse(Algorithm::Md5, EMPTY).is_err());
    }

    #[test]
    fn sums_of_nothing_and_of_something_else() {
        let expected = [Checksum::parse(Algorithm::Sha256, EMPTY).unwrap()];
        assert!(Verifier::new(&expected).finish().is_ok());
        let mut other = Verifier::new(&expected);
        other.update(b"x");
        assert_eq!(other.finish().unwrap_err().kind, ErrorKind::Verification);
    }
}
