//! Digests of a representation: `Want-Repr-Digest` and `Repr-Digest` (RFC 9530), `Want-Digest` and
//! `Digest` (RFC 3230), which clients of data grids still send.
//!
//! BLAKE3 is not in the registry of RFC 9530. A client requests it by the key `blake3` in
//! `Want-Repr-Digest`, which other servers ignore, and gets it in the separate field
//! [`BLAKE3_FIELD`], as a byte sequence (RFC 9651 section 3.3.5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::digest::{Algorithm, Checksum, Digests, Wanted};
use crate::http::field_values::{elements, with_quality};

/// The field of a BLAKE3 digest.
pub(crate) const BLAKE3_FIELD: &str = "Repr-Digest-BLAKE3";

/// The digests that a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestWishes {
    /// Of `Want-Repr-Digest`, the best first.
    repr: Vec<Algorithm>,
    /// Of `Want-Digest`, the best first.
    legacy: Vec<Algorithm>,
}

/// The state of the wanted digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAnswer {
    /// No digest is wanted or available.
    None,
    /// These.
    Known(Digests),
    /// These; other wanted ones are being computed, for so many seconds.
    Pending(Digests, u64),
}

impl DigestWishes {
    /// Reads both fields; `None` if they name no supported algorithm.
    pub(super) fn parse(repr: Option<&[u8]>, legacy: Option<&[u8]>) -> Option<Self> {
        let wishes = Self {
            repr: repr.map(by_preference).unwrap_or_default(),
            legacy: legacy.map(by_quality).unwrap_or_default(),
        };
        (wishes != Self::default()).then_some(wishes)
    }

    /// The digests that the best of each field takes, and BLAKE3.
    pub(crate) fn wanted(&self) -> Wanted {
        let is_registered = |algorithm: &&Algorithm| **algorithm != Algorithm::Blake3;
        let best = [
            self.repr.iter().find(is_registered),
            self.legacy.first(),
            self.repr.iter().find(|it| **it == Algorithm::Blake3),
        ];
        let each = best
            .into_iter()
            .flatten()
            .filter_map(|it| Wanted::only(*it));
        each.fold(Wanted::default(), Wanted::and)
    }

    /// The fields that answer: of each field the best digest that is known.
    pub(super) fn fields(&self, digests: &Digests) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        let known = |algorithm: &Algorithm| digests.get(*algorithm);
        let mut registered = self.repr.iter().filter(|it| **it != Algorithm::Blake3);
        if let Some(found) = registered.find_map(known) {
            let (key, value) = (registered_key(&found), encoded(&found));
            fields.push(("Repr-Digest", format!("{key}=:{value}:")));
        }
        if self.repr.contains(&Algorithm::Blake3)
            && let Some(found) = known(&Algorithm::Blake3)
        {
            fields.push((BLAKE3_FIELD, format!(":{}:", encoded(&found))));
        }
        if let Some(found) = self.legacy.iter().find_map(known) {
            let (key, value) = (registered_key(&found), encoded(&found));
            // RFC 3230 section 4.1.1: in upper case, as clients compare it.
            fields.push(("Digest", format!("{}={value}", key.to_ascii_uppercase())));
        }
        fields
    }
}

/// The algorithms of a dictionary of preferences from 1 to 10; 0 means: not this one.
fn by_preference(value: &[u8]) -> Vec<Algorithm> {
    let Ok(dictionary) = Parser::new(value).parse::<Dictionary>() else {
        return Vec::new();
    };
    let mut liked: Vec<_> = dictionary
        .iter()
        .filter_map(|(key, entry)| {
            let ListEntry::Item(item) = entry else {
                return None;
            };
            let BareItem::Integer(preference) = item.bare_item else {
                return None;
            };
            let preference = i64::from(preference);
            let algorithm = known_key(key.as_str())?;
            (1..=10)
                .contains(&preference)
                .then_some((preference, algorithm))
        })
        .collect();
    liked.sort_by_key(|(preference, _)| -preference);
    liked.into_iter().map(|(_, algorithm)| algorithm).collect()
}

/// The algorithms of a list with quality values.
fn by_quality(value: &[u8]) -> Vec<Algorithm> {
    let mut liked: Vec<_> = elements(value)
        .filter_map(|element| {
            let (name, quality) = with_quality(element);
            let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
            let algorithm = known_key(&name).filter(|it| *it != Algorithm::Blake3)?;
            (quality > 0).then_some((quality, algorithm))
        })
        .collect();
    liked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    liked.into_iter().map(|(_, algorithm)| algorithm).collect()
}

/// The digests of a response, the strongest first. Unknown algorithms are left out.
pub(crate) fn parse_digests(repr: Option<&[u8]>, blake3: Option<&[u8]>) -> Vec<Checksum> {
    let mut found = Vec::new();
    if let Some(value) = blake3
        && let Ok(item) = Parser::new(value).parse::<sfv::Item>()
        && let BareItem::ByteSequence(bytes) = item.bare_item
    {
        found.extend(Checksum::new(Algorithm::Blake3, bytes));
    }
    let dictionary = repr.and_then(|value| Parser::new(value).parse::<Dictionary>().ok());
    let dictionary = dictionary.unwrap_or_default();
    for (key, algorithm) in REGISTERED {
        if let Some(ListEntry::Item(item)) = dictionary.get(key)
            && let BareItem::ByteSequence(bytes) = &item.bare_item
        {
            found.extend(Checksum::new(algorithm, bytes.as_slice()));
        }
    }
    found
}

/// The digests of a field `Digest`, the strongest first.
pub(crate) fn parse_legacy(value: &str) -> Vec<Checksum> {
    let mut found: Vec<_> = value
        .split(',')
        .filter_map(|instance| {
            let (name, encoded) = instance.trim().split_once('=')?;
            let algorithm = known_key(&name.to_ascii_lowercase())?;
            Checksum::new(algorithm, STANDARD.decode(encoded).ok()?)
        })
        .collect();
    found.sort_by_key(|sum| std::cmp::Reverse(sum.digest().len()));
    found
}

fn known_key(key: &str) -> Option<Algorithm> {
    let registered = REGISTERED.iter().find(|(known, _)| *known == key);
    let blake3 = (key == "blake3").then_some(Algorithm::Blake3);
    registered.map(|(_, algorithm)| *algorithm).or(blake3)
}

fn registered_key(checksum: &Checksum) -> &'static str {
    match checksum.algorithm() {
        Algorithm::Sha512 => "sha-512",
        Algorithm::Sha256 => "sha-256",
        Algorithm::Blake3 => "blake3",
        Algorithm::Sha1 => "sha",
        Algorithm::Md5 => "md5",
    }
}

fn encoded(checksum: &Checksum) -> String {
    STANDARD.encode(checksum.digest())
}

/// What a client wants in `Want-Repr-Digest`: SHA-256 takes the least time to verify; BLAKE3 is no
/// registered algorithm (RFC 9530).
pub(crate) const WANTED: &str = "sha-256=5, sha-512=4, blake3=10";

/// The active algorithms of RFC 9530 section 5.
const REGISTERED: [(&str, Algorithm); 2] = [
    ("sha-512", Algorithm::Sha512),
    ("sha-256", Algorithm::Sha256),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::FileHasher;

    fn digests(content: &[u8]) -> Digests {
        let all = Wanted {
            sha256: true,
            sha512: true,
            blake3: true,
        };
        let mut hasher = FileHasher::new(all, content.len() as u64);
        hasher.update(content);
        hasher.finish().expect("all of it").0
    }

    fn answer(repr: &str, content: &[u8]) -> Vec<String> {
        let wishes = DigestWishes::parse(Some(repr.as_bytes()), None).unwrap_or_default();
        let fields = wishes.fields(&digests(content));
        fields
            .into_iter()
            .map(|(name, it)| name.to_owned() + ": " + &it)
            .collect()
    }

    /// RFC 9530 appendices B.1 and B.8.
    #[test]
    fn the_examples_of_the_standard() {
        let content = b"{\"hello\": \"world\"}\n";
        assert_eq!(
            answer("sha-256=1", content),
            ["Repr-Digest: sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"]
        );
        assert_eq!(
            answer("sha-256=3, sha-512=10, unixsum=0", content),
            [
                "Repr-Digest: sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCs\
              yRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:"
            ]
        );
    }

    #[test]
    fn preferences_are_read_as_structured_fields() {
        let order = |value: &str| by_preference(value.as_bytes());
        let (sha256, sha512) = (Algorithm::Sha256, Algorithm::Sha512);
        assert_eq!(order("sha-512=3, sha-256=10"), [sha256, sha512]);
        assert_eq!(order("sha-512=3;x=1 ,  sha-256=3"), [sha512, sha256]);
        assert_eq!(order("sha-256=10, blake3=9"), [sha256, Algorithm::Blake3]);
        for nothing in [
            "",
            "sha-256",
            "sha-256=0",
            "sha-256=11",
            "SHA-256=1",
            "sha=5",
            "sha-256=1,",
        ] {
            assert_eq!(order(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn the_old_field_has_quality_values_and_upper_case() {
        let wishes = DigestWishes::parse(None, Some(b"MD5;q=1, sha-256;q=0.5, SHA-512;q=0.3"));
        let wishes = wishes.expect("two known ones");
        assert_eq!(wishes.legacy, [Algorithm::Sha256, Algorithm::Sha512]);
        let [(name, value)] = &wishes.fields(&digests(b""))[..] else {
            panic!("one field");
        };
        let empty = "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!((*name, value.as_str()), ("Digest", empty));
        let read = parse_legacy(&format!("MD5=1B2M2Y8AsgTpgAmY7PhCfg==, {empty},SHA-512=x"));
        assert_eq!(read, [digests(b"").get(Algorithm::Sha256).expect("it")]);
    }

    #[test]
    fn what_is_answered_is_read_by_the_client() {
        let content = digests(b"abc");
        let wishes = DigestWishes::parse(Some(b"sha-256=1, blake3=5"), None).expect("wishes");
        let fields = wishes.fields(&content);
        let value = |name| {
            fields
                .iter()
                .find(|it| it.0 == name)
                .map(|it| it.1.as_bytes())
        };
        let found = parse_digests(value("Repr-Digest"), value(BLAKE3_FIELD));
        let expected = [Algorithm::Blake3, Algorithm::Sha256].map(|it| content.get(it));
        assert_eq!(found.into_iter().map(Some).collect::<Vec<_>>(), expected);
        for bad in ["sha-256=1", "sha-256=:AAAA:", "sha-256=:!:", "=", "sha-256"] {
            assert_eq!(parse_digests(Some(bad.as_bytes()), Some(b"x")), [], "{bad}");
        }
    }
}
