//! Links that are altered, expired, or presented elsewhere.

use proptest::prelude::*;

use std::net::IpAddr;

use ipnet::IpNet;

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
        prop_assert_eq!(grant(&one).message() == grant(&other).message(), same);
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
        let opened = presented.verify(&keys, asked.as_bytes(), CLIENT, 99);
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
            let opened = presented.verify(&keys, b"a/b/c", CLIENT, 1);
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
            let opened = presented.verify(&keys, path.as_bytes(), CLIENT, 1);
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
    let verify = |client: &str, now| presented.verify(&keys, b"f", client.parse().ok(), now);
    assert_eq!(verify("10.9.9.9", 999), Ok(b"f".as_slice()));
    assert_eq!(verify("::ffff:10.9.9.9", 999), Ok(b"f".as_slice()));
    assert_eq!(verify("11.0.0.1", 999), Err(Rejection::OtherClient));
    assert_eq!(verify("a Unix socket", 999), Err(Rejection::OtherClient));
    assert_eq!(verify("10.9.9.9", 1_000), Err(Rejection::Expired));
    assert_eq!(
        presented.verify(&keys, b"g", CLIENT, 2_000),
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
    assert!(presented.verify(&both, b"f", CLIENT, 1).is_ok());
    assert_eq!(both.sign(&grant), keys(new).sign(&grant));
    let rejected = presented.verify(&keys(new), b"f", CLIENT, 1);
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
