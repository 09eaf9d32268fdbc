//! Sessions of both sides, joined in memory.

use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
    Tls13CipherSuite,
};

use super::*;
use crate::tls::provider::provider;

/// A client and a server; the server's records are of 64 bytes at most.
fn pair() -> (Session, Session) {
    pair_of(provider(), &[&TLS13])
}

fn pair_of(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> (Session, Session) {
    let own = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a key");
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    server.max_fragment_size = Some(64);
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "a.example".try_into().expect("a name");
    (
        Session::client(Arc::new(client), name).expect("a client"),
        Session::server(Arc::new(server)).expect("a server"),
    )
}

/// The bytes that `from` has to send.
fn take_unsent(from: &mut Session) -> Vec<u8> {
    let bytes = from.unsent().to_vec();
    from.note_sent(bytes.len());
    bytes
}

/// Both sides after the handshake, and the server's last flight, which holds its tickets.
fn handshaken() -> (Session, Session, Vec<u8>) {
    handshaken_of(pair())
}

fn handshaken_of((mut client, mut server): (Session, Session)) -> (Session, Session, Vec<u8>) {
    let mut held = Vec::new();
    while client.is_handshaking() {
        let mut flight = take_unsent(&mut client);
        server.open(&mut flight, &mut |_| {}).expect("a client's");
        held.extend(take_unsent(&mut server));
        let done = client.open(&mut held, &mut |_| {}).expect("a server's");
        held.drain(..done);
    }
    let mut flight = take_unsent(&mut client);
    server.open(&mut flight, &mut |_| {}).expect("a client's");
    let tickets = take_unsent(&mut server);
    (client, server, tickets)
}

#[test]
fn a_message_in_pieces_does_not_keep_the_session_from_sending() {
    let (_, _, tickets) = handshaken();
    assert!(tickets.len() > 100, "they take several records");
    for cut in 1..tickets.len() {
        let (mut client, mut server, mut tickets) = handshaken();
        let mut rest = tickets.split_off(cut.min(tickets.len()));
        let done = client.open(&mut tickets, &mut |_| {}).expect("a ticket");
        client.enqueue(b"asked").expect("the session stands");
        let mut asked = Vec::new();
        let mut take = |bytes: &[u8]| asked.extend_from_slice(bytes);
        let mut sealed = take_unsent(&mut client);
        server.open(&mut sealed, &mut take).expect("a request");
        assert_eq!(asked, b"asked");
        tickets.drain(..done);
        tickets.append(&mut rest);
        let done = client.open(&mut tickets, &mut |_| {}).expect("a ticket");
        assert_eq!(done, tickets.len());
    }
}

#[test]
fn the_missing_bytes_of_the_last_record_are_counted() {
    let records = [&b"\x17\x03\x03\x00\x02ab"[..], b"\x17\x03\x03\x01\x00abc"].concat();
    for (len, expected) in [(0, None), (4, None), (5, Some(2)), (7, None), (11, None)] {
        assert_eq!(missing(&records[..len]), expected, "{len}");
    }
    assert_eq!(missing(&records[..12]), Some(256));
    assert_eq!(missing(&records), Some(253));
}

#[test]
fn a_record_that_does_not_continue_a_message_is_an_error() {
    let (mut client, _, mut tickets) = handshaken();
    let first = HEADER_BYTES + usize::from(u16::from_be_bytes([tickets[3], tickets[4]]));
    tickets.truncate(first);
    tickets.extend_from_slice(b"\x17\x03\x03\x00\x20no record of this session, is it");
    let failed = client.open(&mut tickets, &mut |_| {});
    assert!(failed.is_err(), "{failed:?}");
    // The held piece must not be read again by these calls.
    client.close();
    assert!(client.enqueue(b"asked").is_err());
}

/// A provider whose keys seal `records` records and no more.
fn limited(records: u64) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        confidentiality_limit: records,
        ..*common
    };
    let limit = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls13(suite) => {
            let common = common(&suite.common);
            let suite = Tls13CipherSuite { common, ..**suite };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        }
        SupportedCipherSuite::Tls12(suite) => {
            let common = common(&suite.common);
            let suite = Tls12CipherSuite { common, ..**suite };
            SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))
        }
    };
    provider.cipher_suites = provider.cipher_suites.iter().map(limit).collect();
    Arc::new(provider)
}

#[test]
fn keys_of_tls_1_3_are_changed_before_they_are_used_up() {
    let pair = pair_of(limited(16), &[&TLS13]);
    let (mut client, mut server, mut tickets) = handshaken_of(pair);
    client.open(&mut tickets, &mut |_| {}).expect("tickets");
    let (mut changes, mut sent, mut received) = (0, Vec::new(), Vec::new());
    // The batches end at the limit, before it and behind it.
    for len in (1..800).step_by(7) {
        let plain: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
        let mut sealed = vec![0; sealed_len(len) + len];
        let count = server.seal(&plain, &mut sealed).expect("sealed");
        sealed.truncate(count);
        changes += records(&sealed).filter(|len| *len == KEY_UPDATE).count();
        let mut take = |bytes: &[u8]| received.extend_from_slice(bytes);
        assert_eq!(client.open(&mut sealed, &mut take).expect("opened"), count);
        sent.extend(plain);
    }
    assert!(received == sent);
    // Records have 59 bytes, the last of a batch fewer; keys change between batches only.
    let least = sent.len() / 59 / (16 + 14);
    assert!(changes >= least, "{changes} of {least}");
}

/// The lengths of whole records.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        bytes = &bytes[HEADER_BYTES + len..];
        Some(len)
    })
}

/// Length of a record with a key update: a message of 5 bytes, its type, and the tag.
const KEY_UPDATE: usize = 5 + 1 + 16;

#[test]
fn keys_of_tls_1_2_that_are_used_up_end_the_session_without_close_notify() {
    let (mut client, mut server, _) = handshaken_of(pair_of(limited(16), &[&TLS12]));
    let mut sealed = vec![0; 4_096];
    let failed = (0..32).find_map(|_| server.seal(b"a record", &mut sealed).err());
    assert_eq!(failed, Some(Error::EncryptError));
    assert!(server.seal(b"a record", &mut sealed).is_err());
    // A `close_notify` would make the incomplete response look whole.
    server.close();
    client
        .enqueue(b"another request")
        .expect("its keys are good");
    let asked = server.open(&mut take_unsent(&mut client), &mut |_| {});
    assert!(asked.is_err(), "{asked:?}");
    assert_eq!(server.unsent(), b"");
}

#[test]
fn a_session_goes_to_the_kernel_only_when_nothing_is_under_way() {
    for versions in [&[&TLS13], &[&TLS12]] {
        let (client, server) = pair_of(provider(), versions);
        assert!(server.for_kernel().is_none(), "the handshake is to come");
        let (mut client, mut server, mut tickets) = handshaken_of((client, server));
        client.open(&mut tickets, &mut |_| {}).expect("tickets");
        assert!(
            server.for_kernel().is_none(),
            "a received record may want an answer"
        );
        server.enqueue(b"answer").expect("sealed");
        assert!(server.for_kernel().is_none(), "the answer is to be sent");
        let mut answer = take_unsent(&mut server);
        client.open(&mut answer, &mut |_| {}).expect("opened");
        assert!(server.for_kernel().is_some());
        client.enqueue(b"request").expect("sealed");
        let mut request = take_unsent(&mut client);
        let mut plain = Vec::new();
        let mut take = |bytes: &[u8]| plain.extend_from_slice(bytes);
        server.open(&mut request, &mut take).expect("opened");
        assert!(server.for_kernel().is_none());
        server.enqueue(b"answer").expect("sealed");
        take_unsent(&mut server);
        let handover = server.for_kernel().expect("quiet again");
        let (session, keys) = server.into_kernel().expect("its keys");
        assert_eq!(session.parameters(), handover.parameters);
        assert_eq!(handover.parameters.record_limit, 1 << 24);
        assert!(keys.send.sequence <= handover.sealed && keys.send.sequence >= 2);
        assert!(keys.receive.sequence >= 1);
        assert_ne!(keys.send.key, keys.receive.key);
    }
}

#[test]
fn a_request_for_new_keys_is_answered_before_the_kernel_goes_on() {
    let (mut client, mut server, mut tickets) = handshaken_of(pair_of(limited(16), &[&TLS13]));
    client.open(&mut tickets, &mut |_| {}).expect("tickets");
    server.enqueue(b"answer").expect("sealed");
    take_unsent(&mut server);
    // The client's keys are used up, and it asks for new ones in both directions.
    for _ in 0..20 {
        client.enqueue(b"request").expect("sealed");
        let mut request = take_unsent(&mut client);
        server.open(&mut request, &mut |_| {}).expect("opened");
    }
    assert!(
        server.for_kernel().is_none(),
        "the library holds an answer back"
    );
    server.enqueue(b"answer").expect("sealed");
    take_unsent(&mut server);
    assert!(server.for_kernel().is_some());
    let (_, keys) = server.into_kernel().expect("its keys");
    assert_eq!(
        keys.send.sequence, 1,
        "the answer alone has the new key's seal"
    );
}
