//! Digest algorithms by the names that other programs give them, and digests in hexadecimal.

use std::fmt;

use sha2::digest::DynDigest;

use crate::printable::is_unprintable;

/// How a digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// All of them, the one that is verified if there are several first: those that stop attackers
    /// by their speed, then the others.
    pub(crate) const ALL: [Self; 5] = [
        Self::Blake3,
        Self::Sha256,
        Self::Sha512,
        Self::Sha1,
        Self::Md5,
    ];

    /// A hasher at the start of a file.
    pub(crate) fn hasher(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Blake3 => Box::<blake3::Hasher>::default(),
            Self::Md5 => Box::<md5::Md5>::default(),
            Self::Sha1 => Box::<sha1::Sha1>::default(),
            Self::Sha256 => Box::<sha2::Sha256>::default(),
            Self::Sha512 => Box::<sha2::Sha512>::default(),
        }
    }

    /// Its name, in lower case without a hyphen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm that coreutils, OpenSSL, b3sum and HTTP call `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        // OpenSSL 3 writes SHA2-256.
        let name = name.replace("sha2-", "sha").replace('-', "");
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm of a list that does not name it; 64 digits are SHA-256, as most are.
    pub(crate) fn by_length(hex: &str) -> Option<Self> {
        match hex.len() {
            32 => Some(Self::Md5),
            40 => Some(Self::Sha1),
            64 => Some(Self::Sha256),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Bytes of a digest.
    pub(crate) fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Blake3 | Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A digest that a file has, or must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    digest: Box<[u8]>,
}

impl Checksum {
    /// A digest of this length; `None` for another length than the algorithm's.
    pub(crate) fn new(algorithm: Algorithm, digest: impl Into<Box<[u8]>>) -> Option<Self> {
        let digest = digest.into();
        (digest.len() == algorithm.digest_len()).then_some(Self { algorithm, digest })
    }

    /// The sum that `hex` writes down.
    ///
    /// # Errors
    /// [`ChecksumError`] unless it has exactly the algorithm's number of hexadecimal digits.
    pub fn parse(algorithm: Algorithm, hex: &str) -> Result<Self, ChecksumError> {
        let hex = hex.trim();
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let [high, low] = *pair else { return None };
            Some((digit(high)? * 16 + digit(low)?) as u8)
        });
        let digest = bytes.collect::<Option<Box<[u8]>>>();
        let sum = digest.and_then(|digest| Self::new(algorithm, digest));
        sum.ok_or_else(|| {
            ChecksumError::new(format!(
                "{hex:?} is not a sum: {} takes {} hexadecimal digits",
                algorithm.name(),
                2 * algorithm.digest_len()
            ))
        })
    }

    /// How it is computed.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes.
    pub(crate) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// The digest in lower-case hexadecimal.
    pub(crate) fn hex(&self) -> String {
        self.digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.name(), self.hex())
    }
}

/// A malformed sum or file of sums; the text names the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumError(String);

impl ChecksumError {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for ChecksumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |character: char| match is_unprintable(character) {
            true => '\u{fffd}',
            false => character,
        };
        f.write_str(&self.0.chars().map(printable).collect::<String>())
    }
}

impl std::error::Error for ChecksumError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_exactly_its_algorithms_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let sum = Checksum::parse(Algorithm::Sha256, empty).unwrap();
        assert_eq!(sum.to_string(), format!("sha256 {empty}"));
        assert!(Checksum::parse(Algorithm::Md5, "é").is_err());
        assert!(Checksum::parse(Algorithm::Md5, empty).is_err());
        assert!(Checksum::parse(Algorithm::Sha256, &empty[1..]).is_err());
        for algorithm in Algorithm::ALL {
            let digest = algorithm.hasher().finalize();
            assert_eq!(digest.len(), algorithm.digest_len());
            let upper = algorithm.name().to_ascii_uppercase();
            assert_eq!(Algorithm::named(&upper), Some(algorithm));
        }
    }
}
