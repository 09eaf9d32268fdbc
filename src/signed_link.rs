//! Links that expire: what is signed, the keys that sign it, and how it stands in a query.
//!
//! A link opens one path, or all that lies beneath one, until a time, perhaps for one network
//! only. The signature is HMAC-SHA-256 (RFC 2104) over an encoding in which every field but the
//! last has a fixed length, so that no two links have one message.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ipnet::IpNet;
use percent_encoding::percent_decode;
use sha2::Sha256;

/// The grant of a link: its paths, its clients, its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGrant<'a> {
    /// The canonical path from the root: decoded, no dot segments, no empty components.
    pub path: &'a [u8],
    /// Whether it opens that path alone.
    pub scope: Scope,
    /// In seconds since 1970.
    pub expires: u64,
    /// The clients that may use it; `None` for all.
    pub client: Option<IpNet>,
}

/// How much a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file or directory at the path.
    Path,
    /// The path and the tree beneath it.
    Subtree,
}

/// A signature of [`Keys::sign`].
pub type Signature = [u8; 32];

/// A link as it stands in a request's query, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// In seconds since 1970.
    pub expires: u64,
    /// How many components of the request's path the link was signed for; `None` for all of them
    /// and nothing beneath.
    pub depth: Option<usize>,
    /// The clients that may use it; `None` for all.
    pub client: Option<IpNet>,
    /// To be verified.
    pub signature: Signature,
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The link differs from the one that was signed, or no key here has signed it.
    Altered,
    /// The link's time has passed.
    Expired,
    /// The link is for other clients.
    OtherClient,
}

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
                "line {line}: a key has at least {SHORTEST_KEY} characters; `haul link --new-key` \
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
    /// [`KeysError`] says which line is none; it never repeats the line.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.starts_with("-----BEGIN ") || key.contains(":$") || key.contains(":{SHA}") {
                return Err(KeysError::Other(number));
            }
            if key.len() < SHORTEST_KEY {
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
            mac.update(&message(grant));
            mac.finalize().into_bytes().into()
        });
        mac.expect("`parse` makes no empty set of keys")
    }

    /// Whether one of the keys has signed this. Takes the same time whichever byte differs.
    fn have_signed(&self, grant: &LinkGrant<'_>, signature: &Signature) -> bool {
        let message = message(grant);
        let verify = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone();
            mac.update(&message);
            mac.verify_slice(signature).is_ok()
        };
        self.0.iter().fold(false, |found, mac| verify(mac) | found)
    }

    /// The path that a link opens, if it opens what the canonical `path` names to this client,
    /// which may have no address.
    ///
    /// # Errors
    /// [`Rejection`]; that it expired is only said of a link that was signed here.
    pub fn verify<'a>(
        &self,
        presented: &Presented,
        path: &'a [u8],
        client: Option<IpAddr>,
        now: u64,
    ) -> Result<&'a [u8], Rejection> {
        let (path, scope) = match presented.depth {
            None => (path, Scope::Path),
            Some(depth) => (first(path, depth)?, Scope::Subtree),
        };
        let grant = LinkGrant {
            path,
            scope,
            expires: presented.expires,
            client: presented.client,
        };
        if !self.have_signed(&grant, &presented.signature) {
            return Err(Rejection::Altered);
        }
        if now >= presented.expires {
            return Err(Rejection::Expired);
        }
        let is_in = |net: IpNet| client.is_some_and(|it| net.contains(&it.to_canonical()));
        match presented.client.is_none_or(is_in) {
            true => Ok(path),
            false => Err(Rejection::OtherClient),
        }
    }
}

impl Presented {
    /// The link in a query, if there is one.
    ///
    /// # Errors
    /// The query holds a signature and no well-formed link.
    pub fn parse(query: &[u8]) -> Option<Result<Self, Rejection>> {
        // Most queries are not worth a second look.
        memchr::memmem::find(query, b"sig=")?;
        let mut values = [None, None, None, None];
        let mut is_malformed = false;
        for pair in query.split(|byte| *byte == b'&') {
            for (value, name) in values.iter_mut().zip(NAMES) {
                let Some(found) = pair
                    .strip_prefix(name.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"="))
                else {
                    continue;
                };
                let found: Vec<u8> = percent_decode(found).collect();
                is_malformed |= value.replace(found).is_some();
            }
        }
        let [expires, subtree, client, signature] = values;
        let signature = signature?;
        if is_malformed {
            return Some(Err(Rejection::Altered));
        }
        let read = || {
            let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
            Some(Self {
                expires: exact(&expires?)?,
                depth: optional(subtree.as_deref(), exact)?,
                client: optional(client.as_deref(), exact::<IpNet>)?,
                signature: signature.try_into().ok()?,
            })
        };
        Some(read().ok_or(Rejection::Altered))
    }
}

impl fmt::Display for Presented {
    /// As it stands in a query, without a question mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [expires, subtree, client, signature] = NAMES;
        write!(f, "{expires}={}", self.expires)?;
        if let Some(depth) = self.depth {
            write!(f, "&{subtree}={depth}")?;
        }
        if let Some(net) = self.client {
            write!(f, "&{client}={net}")?;
        }
        write!(f, "&{signature}={}", URL_SAFE_NO_PAD.encode(self.signature))
    }
}

/// Reads a file of keys.
///
/// # Errors
/// The file's path and what is wrong with it.
pub fn read_keys(path: &Path) -> Result<Keys, String> {
    let blame = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| blame(&error))?;
    Keys::parse(&text).map_err(|error| blame(&error))
}

/// Makes the query of a link.
#[must_use]
pub fn make(grant: &LinkGrant<'_>, keys: &Keys) -> Presented {
    Presented {
        expires: grant.expires,
        depth: (grant.scope == Scope::Subtree).then(|| depth_of(grant.path)),
        client: grant.client,
        signature: keys.sign(grant),
    }
}

/// How many components a canonical path has.
fn depth_of(path: &[u8]) -> usize {
    match path {
        b"" => 0,
        _ => memchr::memchr_iter(b'/', path).count() + 1,
    }
}

/// The first components of a canonical path, if it has so many.
fn first(path: &[u8], depth: usize) -> Result<&[u8], Rejection> {
    if depth == 0 {
        return Ok(b"");
    }
    if depth == depth_of(path) {
        return Ok(path);
    }
    let end = memchr::memchr_iter(b'/', path).nth(depth - 1);
    end.map(|end| &path[..end]).ok_or(Rejection::Altered)
}

/// The signed bytes. The path, whose length varies, stands last.
fn message(grant: &LinkGrant<'_>) -> Vec<u8> {
    let mut message = Vec::with_capacity(VERSION.len() + 28 + grant.path.len());
    message.extend_from_slice(VERSION);
    message.extend_from_slice(&grant.expires.to_be_bytes());
    message.push(match grant.scope {
        Scope::Path => 0,
        Scope::Subtree => 1,
    });
    let (family, prefix, address) = match grant.client {
        None => (0, 0, 0),
        Some(IpNet::V4(net)) => (4, net.prefix_len(), u128::from(net.addr().to_bits())),
        Some(IpNet::V6(net)) => (6, net.prefix_len(), net.addr().to_bits()),
    };
    message.extend_from_slice(&[family, prefix]);
    message.extend_from_slice(&address.to_be_bytes());
    message.extend_from_slice(grant.path);
    message
}

/// A value that is written as haul writes it, and in no other way.
fn exact<T: std::str::FromStr + fmt::Display>(text: &[u8]) -> Option<T> {
    let text = str::from_utf8(text).ok()?;
    let value: T = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Nothing, or a value that can be read.
fn optional<T>(text: Option<&[u8]>, read: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => read(text).map(Some),
    }
}

/// The parameters of a link: when it expires, the depth of a subtree, the client, the signature.
const NAMES: [&str; 4] = ["expires", "subtree", "client", "sig"];

/// Tells this encoding from later ones, and from whatever else the keys might be used for.
const VERSION: &[u8] = b"haul link 1\0";

/// The characters of 128 bits in hexadecimal digits.
const SHORTEST_KEY: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)));

    fn keys(text: &str) -> Keys {
        Keys::parse(text).expect("keys")
    }

    fn net() -> impl Strategy<Value = Option<IpNet>> {
        prop_oneof![
            Just(None),
            (any::<u32>(), 0..=32u8).prop_map(|(bits, len)| {
                let net = ipnet::Ipv4Net::new(bits.into(), len).expect("a length");
                Some(net.trunc().into())
            }),
            (any::<u128>(), 0..=128u8).prop_map(|(bits, len)| {
                let net = ipnet::Ipv6Net::new(bits.into(), len).expect("a length");
                Some(net.trunc().into())
            }),
        ]
    }

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![Just(Scope::Path), Just(Scope::Subtree)]
    }

    prop_compose! {
        /// Few values each, so that equal ones meet.
        fn parts()(
            path in "[ab/\0\u{1}]{0,6}",
            scope in scope(),
            expires in prop_oneof![0..3u64, any::<u64>()],
            client in net(),
        ) -> (String, Scope, u64, Option<IpNet>) {
            (path, scope, expires, client)
        }
    }

    fn grant(parts: &(String, Scope, u64, Option<IpNet>)) -> LinkGrant<'_> {
        LinkGrant {
            path: parts.0.as_bytes(),
            scope: parts.1,
            expires: parts.2,
            client: parts.3,
        }
    }

    proptest! {
        #[test]
        fn two_links_that_differ_have_two_messages(one in parts(), other in parts()) {
            let same = one == other;
            prop_assert_eq!(message(&grant(&one)) == message(&grant(&other)), same);
        }

        #[test]
        fn a_link_opens_what_it_was_made_for(
            path in "[a-c]{1,3}(/[a-c]{1,3}){0,3}",
            beneath in "(/[a-c]{1,3}){0,3}",
            scope in scope(),
        ) {
            let keys = keys(KEY);
            let grant = LinkGrant { path: path.as_bytes(), scope, expires: 100, client: None };
            let query = make(&grant, &keys).to_string();
            let presented = Presented::parse(query.as_bytes()).expect("a link").expect("well-formed");
            let asked = format!("{path}{beneath}");
            let opened = keys.verify(&presented, asked.as_bytes(), CLIENT, 99);
            let expected = match scope == Scope::Subtree || beneath.is_empty() {
                true => Ok(path.as_bytes()),
                false => Err(Rejection::Altered),
            };
            prop_assert_eq!(opened, expected);
        }

        #[test]
        fn a_link_with_any_byte_altered_opens_nothing(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let keys = keys(KEY);
            let client = Some("10.0.0.0/8".parse().expect("a net"));
            let grant = LinkGrant { path: b"a/b", scope: Scope::Subtree, expires: 1_000, client };
            let mut query = make(&grant, &keys).to_string().into_bytes();
            let at = at.index(query.len());
            prop_assume!(query[at] != byte);
            query[at] = byte;
            if let Some(Ok(presented)) = Presented::parse(&query) {
                let opened = keys.verify(&presented, b"a/b/c", CLIENT, 1);
                prop_assert_eq!(opened, Err(Rejection::Altered), "{}", query.escape_ascii());
            }
        }

        #[test]
        fn a_link_for_another_path_opens_nothing(path in "[a-c/]{0,6}") {
            prop_assume!(path != "a/b" && !path.starts_with("a/b/"));
            let keys = keys(KEY);
            for scope in [Scope::Path, Scope::Subtree] {
                let grant = LinkGrant { path: b"a/b", scope, expires: 1_000, client: None };
                let presented = make(&grant, &keys);
                let opened = keys.verify(&presented, path.as_bytes(), CLIENT, 1);
                prop_assert_eq!(opened, Err(Rejection::Altered));
            }
        }
    }

    #[test]
    fn a_link_is_for_its_time_and_its_clients() {
        let keys = keys(KEY);
        let client = Some("10.0.0.0/8".parse().expect("a net"));
        let grant = LinkGrant {
            path: b"f",
            scope: Scope::Path,
            expires: 1_000,
            client,
        };
        let presented = make(&grant, &keys);
        let verify = |client: &str, now| keys.verify(&presented, b"f", client.parse().ok(), now);
        assert_eq!(verify("10.9.9.9", 999), Ok(b"f".as_slice()));
        assert_eq!(verify("::ffff:10.9.9.9", 999), Ok(b"f".as_slice()));
        assert_eq!(verify("11.0.0.1", 999), Err(Rejection::OtherClient));
        assert_eq!(verify("a Unix socket", 999), Err(Rejection::OtherClient));
        assert_eq!(verify("10.9.9.9", 1_000), Err(Rejection::Expired));
        assert_eq!(
            keys.verify(&presented, b"g", CLIENT, 2_000),
            Err(Rejection::Altered)
        );
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let (old, new) = (KEY, "fedcba9876543210fedcba9876543210");
        let grant = LinkGrant {
            path: b"f",
            scope: Scope::Path,
            expires: 9,
            client: None,
        };
        let presented = make(&grant, &keys(old));
        let both = keys(&format!("# rotated\n{new}\n\n{old}\n"));
        assert!(both.verify(&presented, b"f", CLIENT, 1).is_ok());
        assert_eq!(both.sign(&grant), keys(new).sign(&grant));
        let rejected = keys(new).verify(&presented, b"f", CLIENT, 1);
        assert_eq!(rejected, Err(Rejection::Altered));
    }

    #[test]
    fn keys_that_are_none_are_refused_by_their_line() {
        assert_eq!(
            Keys::parse("# k\nsecret").map(|_| ()),
            Err(KeysError::Short(2))
        );
        assert_eq!(Keys::parse("# k\n\n").map(|_| ()), Err(KeysError::Empty));
        for other in [
            "u:$2y$05$abcdefghijklmnopqrstuvwxyzabcdefgh",
            "u:$apr1$abcdefgh$abcdefghijklmnopqrstuv",
            "u:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=",
            "-----BEGIN PRIVATE KEY-----\nabcd",
        ] {
            let parsed = Keys::parse(other).map(|_| ());
            assert_eq!(parsed, Err(KeysError::Other(1)), "{other}");
        }
        assert!(!format!("{:?}", keys(KEY)).contains("0123"));
    }

    #[test]
    fn a_query_holds_one_link_or_none() {
        let keys = keys(KEY);
        let grant = LinkGrant {
            path: b"",
            scope: Scope::Subtree,
            expires: 9,
            client: None,
        };
        let link = make(&grant, &keys).to_string();
        assert_eq!(Presented::parse(b"download&q=design=1"), None);
        let with_more = format!("download&{link}&sort=size");
        assert!(matches!(
            Presented::parse(with_more.as_bytes()),
            Some(Ok(_))
        ));
        for bad in [
            format!("{link}&expires=9"),
            format!("{link}&{link}"),
            link.replace("expires=9", "expires=09"),
            link.replace("expires=9", "expires=+9"),
            link.replace("subtree=0", "subtree="),
            format!("{link}="),
            format!("{link}&client=10.1.0.0/08"),
            "sig=".into(),
        ] {
            assert_eq!(
                Presented::parse(bad.as_bytes()),
                Some(Err(Rejection::Altered)),
                "{bad}"
            );
        }
    }
}
