//! Users and the hashes of their passwords, as `htpasswd` writes them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use bcrypt::HashParts;
use sha_crypt::ShaCrypt;

use crate::http::Credentials;

/// The users of one password file, and the passwords verified within the last minute.
pub(super) struct Passwords {
    /// By name.
    users: HashMap<Box<[u8]>, usize>,
    hashes: Vec<Hash>,
    /// The key is of this process alone: no remembered value gives a password away.
    key: [u8; blake3::KEY_LEN],
    /// Keyed hashes of credentials that were right, and when they were looked at.
    right: RwLock<HashMap<blake3::Hash, Instant>>,
}

/// A hash in a format that is known.
enum Hash {
    Bcrypt(String),
    ShaCrypt(String),
    Argon2(String),
}

/// The state of credentials without hashing a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recalled {
    /// The credentials were right a moment ago.
    Right,
    /// The credentials were right before, and have to be hashed again.
    RightBefore,
    /// Nothing.
    Unknown,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} users)", self.users.len())
    }
}

impl Passwords {
    /// Reads `user:hash` lines; `key` is random. Empty lines and those that begin with `#` are
    /// left out, and so are further fields, which other servers take for comments.
    ///
    /// # Errors
    /// The number of the line with a fault, and the fault; the line itself is not repeated.
    pub(super) fn parse(text: &[u8], key: [u8; blake3::KEY_LEN]) -> Result<Self, String> {
        let mut users = HashMap::new();
        let mut hashes = Vec::new();
        // Some editors write a byte order mark.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let wrong = |why: &str| format!("line {number}: {why}");
            let colon = memchr::memchr(b':', line).filter(|colon| *colon > 0);
            let colon = colon.ok_or_else(|| wrong("it is not user:hash"))?;
            let (user, rest) = (&line[..colon], &line[colon + 1..]);
            let hash = rest.split(|byte| *byte == b':').next().unwrap_or(rest);
            let hash = Hash::parse(hash).map_err(wrong)?;
            if users.insert(Box::from(user), hashes.len()).is_some() {
                return Err(wrong("the user has a line already"));
            }
            hashes.push(hash);
        }
        if hashes.is_empty() {
            return Err("it holds no user; `htpasswd -B FILE USER` adds one".into());
        }
        let right = RwLock::default();
        Ok(Self {
            users,
            hashes,
            key,
            right,
        })
    }

    /// The state of these credentials.
    pub(super) fn recall(&self, credentials: &Credentials, now: Instant) -> Recalled {
        let right = self.right.read().unwrap_or_else(PoisonError::into_inner);
        match right.get(&self.name(credentials)) {
            Some(at) if now.saturating_duration_since(*at) < REMEMBERED_FOR => Recalled::Right,
            Some(_) => Recalled::RightBefore,
            None => Recalled::Unknown,
        }
    }

    /// Whether the password is the user's. Takes a tenth of a second by design, and as long for an
    /// unknown user as for a known one.
    pub(super) fn verify(&self, credentials: &Credentials, now: Instant) -> bool {
        let name = self.name(credentials);
        let known = self.users.get(credentials.user()).copied();
        // The same stand-in for each use of the name, as hard to hash for as the users' entries.
        let hash = known.unwrap_or_else(|| self.stand_in(credentials.user()));
        let fits = self.hashes[hash].fits(credentials.password());
        let is_right = fits && known.is_some();
        let mut right = self.right.write().unwrap_or_else(PoisonError::into_inner);
        match is_right {
            // Only one password of each user is right, so there is at most one entry a user.
            true => drop(right.insert(name, now)),
            false => drop(right.remove(&name)),
        }
        is_right
    }

    fn name(&self, credentials: &Credentials) -> blake3::Hash {
        blake3::keyed_hash(&self.key, credentials.pair())
    }

    fn stand_in(&self, user: &[u8]) -> usize {
        let hash = blake3::keyed_hash(&self.key, user);
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_le_bytes([a, b, c, d]) as usize % self.hashes.len()
    }
}

impl Hash {
    /// Detects the format, and parses all of it: an accepted hash can be verified.
    fn parse(hash: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(hash).map_err(|_| UNKNOWN)?;
        let format = text.get(..3).unwrap_or_default();
        match format {
            "$2a" | "$2b" | "$2y" => {
                let parts: HashParts = text.parse().map_err(|_| "its bcrypt hash is malformed")?;
                match parts.get_cost() {
                    ..MIN_BCRYPT_COST => Err("its bcrypt cost is less than 4, which fits nothing"),
                    MIN_BCRYPT_COST..=MAX_BCRYPT_COST => Ok(Self::Bcrypt(text.into())),
                    _ => Err("its bcrypt cost is more than 16, which takes seconds"),
                }
            }
            "$5$" => check_sha_crypt(text, 43).map(Self::ShaCrypt),
            "$6$" => check_sha_crypt(text, 86).map(Self::ShaCrypt),
            "$ar" => {
                let hash = PasswordHash::new(text).map_err(|_| MALFORMED_ARGON2)?;
                let params = argon2::Params::try_from(&hash).map_err(|_| MALFORMED_ARGON2)?;
                let has_hash = hash.hash.is_some() && hash.salt.is_some();
                let is_known = argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok();
                if !has_hash || !is_known {
                    return Err(MALFORMED_ARGON2);
                }
                let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
                match work <= MAX_ARGON2_KIB {
                    true => Ok(Self::Argon2(text.into())),
                    false => Err("its argon2 parameters take seconds or gigabytes"),
                }
            }
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => {
                Err("MD5 hashes are too weak; `htpasswd -B` writes bcrypt")
            }
            _ if text.starts_with("{SHA}") => {
                Err("SHA-1 hashes are too weak; `htpasswd -B` writes bcrypt")
            }
            _ => Err(UNKNOWN),
        }
    }

    fn fits(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::ShaCrypt(hash) => {
                let verifier = ShaCrypt::default();
                sha_crypt::PasswordVerifier::verify_password(&verifier, password, hash.as_str())
                    .is_ok()
            }
            Self::Argon2(hash) => {
                let fits = |hash| Argon2::default().verify_password(password, &hash).is_ok();
                PasswordHash::new(hash).is_ok_and(fits)
            }
        }
    }
}

/// `$5$[rounds=N$]SALT$HASH` with a hash of so many characters.
fn check_sha_crypt(text: &str, hash_len: usize) -> Result<String, &'static str> {
    const MALFORMED: &str = "its SHA-crypt hash is malformed";
    let mut fields = text[3..].split('$').peekable();
    if let Some(rounds) = fields.peek().and_then(|it| it.strip_prefix("rounds=")) {
        let rounds: u32 = rounds.parse().map_err(|_| MALFORMED)?;
        if !(sha_crypt::Params::ROUNDS_MIN..=MAX_SHA_ROUNDS).contains(&rounds) {
            return Err("its SHA-crypt rounds are fewer than 1,000, or take seconds");
        }
        fields.next();
    }
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let (salt, hash) = (fields.next(), fields.next());
    let (salt, hash) = salt.zip(hash).ok_or(MALFORMED)?;
    let is_whole = fields.next().is_none() && hash.len() == hash_len;
    match is_whole && salt.len() <= 16 && hash.bytes().chain(salt.bytes()).all(is_base64) {
        true => Ok(text.into()),
        false => Err(MALFORMED),
    }
}

const UNKNOWN: &str = "its hash is in no format that is known here: bcrypt ($2y$), SHA-crypt \
                       ($5$, $6$) or argon2 ($argon2id$); `htpasswd -B` writes bcrypt";
const MALFORMED_ARGON2: &str = "its argon2 hash is malformed";

/// How long credentials that were right need no other look.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The least that bcrypt knows.
const MIN_BCRYPT_COST: u32 = 4;
/// Some four seconds.
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SHA_ROUNDS: u32 = 5_000_000;
/// Kibibytes written in all passes together.
const MAX_ARGON2_KIB: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    /// The hashes of SHA-crypt were made by `openssl passwd`.
    fn file() -> String {
        let argon2 = {
            use argon2::password_hash::PasswordHasher as _;
            let params = argon2::Params::new(64, 1, 1, None).expect("parameters");
            let argon2 = Argon2::from(params);
            let hash = argon2.hash_password_with_salt(b"argon2", b"saltsalt");
            hash.expect("hashed").to_string()
        };
        let bcrypt = bcrypt::hash("bcrypt", 4).expect("hashed");
        format!(
            "\u{feff}anna:{bcrypt}\r\n# users\r\n\nbert:{SHA256}:Bert, 1st floor\ncara:{SHA512}:19000:0:99:7:::\n\
             dora:{argon2}\n"
        )
    }

    const SHA256: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    const SHA512: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    fn credentials(pair: &str) -> Credentials {
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Credentials::parse(format!("Basic {encoded}").as_bytes()).expect("a pair")
    }

    fn passwords() -> Passwords {
        Passwords::parse(file().as_bytes(), [7; 32]).expect("a fine file")
    }

    #[test]
    fn each_format_tells_right_from_wrong() {
        let (passwords, now) = (passwords(), Instant::now());
        for (pair, is_right) in [
            ("anna:bcrypt", true),
            ("anna:Bcrypt", false),
            ("anna:", false),
            ("bert:Hello world!", true),
            ("bert:hello world!", false),
            ("cara:Hello world!", true),
            ("cara:Hello world", false),
            ("dora:argon2", true),
            ("dora:argon", false),
            // An unknown user, with every password that would fit the stand-in entry.
            ("nobody:bcrypt", false),
            ("nobody:Hello world!", false),
            ("nobody:argon2", false),
            ("ANNA:bcrypt", false),
        ] {
            assert_eq!(
                passwords.verify(&credentials(pair), now),
                is_right,
                "{pair}"
            );
        }
    }

    #[test]
    fn what_was_right_is_remembered_for_a_minute_and_what_was_wrong_is_not() {
        let (passwords, now) = (passwords(), Instant::now());
        let (right, wrong) = (credentials("anna:bcrypt"), credentials("anna:x"));
        assert_eq!(passwords.recall(&right, now), Recalled::Unknown);
        assert!(passwords.verify(&right, now));
        assert!(!passwords.verify(&wrong, now));
        assert_eq!(passwords.recall(&right, now), Recalled::Right);
        assert_eq!(passwords.recall(&wrong, now), Recalled::Unknown);
        let later = now + REMEMBERED_FOR;
        assert_eq!(passwords.recall(&right, later), Recalled::RightBefore);
        assert!(passwords.verify(&right, later));
        assert_eq!(passwords.recall(&right, later), Recalled::Right);
    }

    #[test]
    fn a_line_that_cannot_be_verified_is_told_by_its_number() {
        for line in [
            "anna",
            ":x",
            "anna:",
            "anna:plain",
            "anna:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
            "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "anna:$2y$05$short",
            "anna:$2y$03$abcdefghijklmnopqrstuuKSa01pU6HNDmSUxPFwNwAHuFwJ4dLw6",
            "anna:$2y$31$abcdefghijklmnopqrstuuKSa01pU6HNDmSUxPFwNwAHuFwJ4dLw6",
            "anna:$5$salt$short",
            "anna:$6$rounds=999999999$salt$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "anna:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "anna:$argon2id$v=19$m=4294967295,t=9,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWRWJTmaaJObG",
            "anna:$argon9$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWRWJTmaaJObG",
        ] {
            let text = format!("# a comment\n{line}\n");
            let error = Passwords::parse(text.as_bytes(), [0; 32]).expect_err(line);
            assert!(error.starts_with("line 2: "), "{line}: {error}");
            assert!(!error.contains("anna"), "{error}");
        }
        let twice = format!("a:{SHA256}\na:{SHA256}\n");
        let error = Passwords::parse(twice.as_bytes(), [0; 32]).expect_err("twice");
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(Passwords::parse(b"# nobody\n", [0; 32]).is_err());
    }

    #[test]
    fn an_unknown_user_costs_one_hash_of_the_kind_that_others_have() {
        let passwords = passwords();
        let stand_in = |user: &str| passwords.stand_in(user.as_bytes());
        assert_eq!(stand_in("eve"), stand_in("eve"));
        let users = ["e", "f", "g", "h", "i", "j", "k", "l"];
        let found: std::collections::HashSet<_> = users.map(stand_in).into();
        assert!(found.len() > 1 && found.iter().all(|at| *at < 4));
    }
}
