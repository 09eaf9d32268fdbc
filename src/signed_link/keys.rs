//! The keys that sign links, and the file that holds them.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::grant::LinkGrant;
use crate::sys::file::read_text_bounded;

/// A signature of [`Keys::sign`].
pub type Signature = [u8; 32];

/// The keys that links are signed with. The first one signs, each of them verifies.
#[derive(Clone)]
pub struct Keys(Vec<Hmac<Sha256>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// A fault of a file of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysError {
    /// The key on this line is too short to be random.
    Short(usize),
    /// This line is of a file for something else: passwords, or a certificate's key.
    Other(usize),
    /// The file has no key.
    Empty,
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(line) => write!(
                f,
                "line {line}: a key has at least {MIN_KEY_CHARS} characters; `haul link --new-key` \
                 makes one"
            ),
            Self::Other(line) => write!(
                f,
                "line {line}: this is a file of passwords or certificates; \
                 `haul link --new-key` makes a key"
            ),
            Self::Empty => f.write_str("it holds no key; `haul link --new-key` makes one"),
        }
    }
}

impl std::error::Error for KeysError {}

impl Keys {
    /// Reads keys, one a line. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// [`KeysError`] names the line without its content.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        // Some editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.starts_with("-----BEGIN ") || key.contains(":$") || key.contains(":{SHA}") {
                return Err(KeysError::Other(number));
            }
            if key.len() < MIN_KEY_CHARS {
                return Err(KeysError::Short(number));
            }
            // HMAC takes a key of any length.
            keys.extend(Hmac::<Sha256>::new_from_slice(key.as_bytes()));
        }
        match keys.is_empty() {
            true => Err(KeysError::Empty),
            false => Ok(Self(keys)),
        }
    }

    /// Signs with the first key.
    #[must_use]
    pub fn sign(&self, grant: &LinkGrant<'_>) -> Signature {
        let mac = self.0.first().cloned().map(|mut mac| {
            mac.update(&grant.message());
            mac.finalize().into_bytes().into()
        });
        mac.expect("`parse` makes no empty set of keys")
    }

    /// Whether one of the keys has signed this. Takes the same time whichever byte differs.
    pub(super) fn have_signed(&self, grant: &LinkGrant<'_>, signature: &Signature) -> bool {
        let message = grant.message();
        let verify = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone();
            mac.update(&message);
            mac.verify_slice(signature).is_ok()
        };
        self.0.iter().fold(false, |found, mac| verify(mac) | found)
    }
}

/// Reads a file of keys.
///
/// # Errors
/// The file's path and its fault.
pub fn read_keys(path: &Path) -> Result<Keys, String> {
    let blame = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
    let text = read_text_bounded(path, MAX_FILE_BYTES).map_err(|error| blame(&error))?;
    Keys::parse(&text).map_err(|error| blame(&error))
}

/// The characters of 128 bits in hexadecimal digits.
const MIN_KEY_CHARS: usize = 32;

/// Thousands of keys, of which a rotation needs two.
const MAX_FILE_BYTES: u64 = 1 << 20;
