//! What `/metrics` says of handshakes and of the certificate.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use haul::server::config::{AdminAddress, LocalAddress, ServeConfig};
use rustls::version::{TLS12, TLS13};

use super::support::{Authority, TlsClient, TlsServer, client_with};
use crate::admin::metrics;
use crate::support::{Client, noise};

/// A server with an admin interface on a Unix socket in the directory.
fn server(
    directory: &tempfile::TempDir,
    adjust: impl FnOnce(&mut ServeConfig, &Authority),
) -> TlsServer {
    TlsServer::with(|config, authority| {
        let path = directory.path().join("admin");
        config.admin = Some(AdminAddress::Local(LocalAddress::Path(path)));
        adjust(config, authority);
    })
}

/// The values of one family by their label, without those that are zero.
fn family<'a>(found: &'a HashMap<String, f64>, name: &str) -> Vec<(&'a str, f64)> {
    let mut values: Vec<_> = (found.iter())
        .filter_map(|(sample, value)| {
            let labels = sample.strip_prefix(name)?.strip_prefix('{')?;
            Some((labels.split('"').nth(1)?, *value))
        })
        .filter(|(_, value)| *value > 0.0)
        .collect();
    values.sort_by_key(|(label, _)| *label);
    values
}

#[test]
fn handshakes_are_counted_by_version_and_resumption() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = server(&directory, |_, _| {});
    let content = noise(8 << 20, 1);
    tls.server.put("large", &content);
    for (version, handshakes) in [(&TLS12, 2), (&TLS13, 3)] {
        let config = Arc::new(tls.authority.client_of(&[version], None));
        for _ in 0..handshakes {
            let mut client = TlsClient::over(tls.socket(), Arc::clone(&config), "localhost");
            client.request("/large", "Connection: close\r\n");
            assert!(client.rest().expect("close_notify").ends_with(&content));
        }
    }
    let counters = tls
        .server
        .counters_when(|counters| counters.closed_in_all() == 5);
    let found = metrics(&directory);
    let by_version = family(&found, "haul_tls_handshakes_total");
    assert_eq!(by_version, [("1.2", 2.0), ("1.3", 3.0)]);
    assert_eq!(found["haul_tls_handshakes_resumed_total"], 3.0);
    assert_eq!(family(&found, "haul_tls_handshakes_failed_total"), []);
    // Which kernels take sessions over is another test's.
    let kernel = found["haul_tls_kernel_connections_total"];
    assert_eq!(kernel, counters.kernel_tls as f64);
}

#[test]
fn failed_handshakes_are_counted_by_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = server(&directory, |config, authority| {
        config.tls.client_ca = Some(authority.path("ca.pem"));
    });
    let fails = |config: rustls::ClientConfig, host: &str| {
        let mut client = TlsClient::over(tls.socket(), Arc::new(config), host);
        client.shake_hands()?;
        client.request("/", "Connection: close\r\n");
        client.rest()
    };
    let of = |own| tls.authority.client_of(rustls::DEFAULT_VERSIONS, own);
    let elsewhere = Authority::new();
    let stranger = elsewhere.identity("eve", &["eve.example"]);
    fails(of(None), "localhost").expect_err("it has no certificate");
    fails(of(Some(&stranger)), "localhost").expect_err("of another authority");
    fails(of(None), "other.example").expect_err("another name");
    let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    fails(client_with(&tls, suite), "localhost").expect_err("the key is ECDSA");
    let mut other = of(None);
    other.alpn_protocols = vec![b"h2".to_vec()];
    fails(other, "localhost").expect_err("another protocol");
    for text in ["GET / HTTP/1.1\r\n\r\n", "file\n"] {
        let mut client = Client::over(tls.socket());
        client.send(text);
        let _ = client.try_rest();
    }
    // One begins and leaves, and one never begins.
    let (mut left, silent) = (tls.socket(), tls.socket());
    left.write_all(&[0x16, 3, 1, 1]).expect("taken");
    drop((left, silent));
    tls.server
        .counters_when(|counters| counters.closed_in_all() == 9);
    let found = metrics(&directory);
    let by_reason = family(&found, "haul_tls_handshakes_failed_total");
    let expected = [
        ("aborted", 1.0),
        ("certificate-refused", 1.0),
        ("client-refused", 1.0),
        ("incompatible", 1.0),
        ("no-certificate", 1.0),
        ("no-protocol", 1.0),
        ("plain-text", 2.0),
    ];
    assert_eq!(by_reason, expected);
    assert_eq!(family(&found, "haul_tls_handshakes_total"), []);
}

#[test]
fn a_handshake_that_takes_too_long_is_counted_and_silence_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = server(&directory, |config, _| {
        config.deadlines.head = Duration::from_millis(300);
        config.deadlines.first_byte = Duration::from_millis(300);
    });
    let (mut begun, _silent) = (tls.socket(), tls.socket());
    begun.write_all(&[0x16, 3, 1, 1]).expect("taken");
    tls.server
        .counters_when(|counters| counters.closed_in_all() == 2);
    let found = metrics(&directory);
    let by_reason = family(&found, "haul_tls_handshakes_failed_total");
    assert_eq!(by_reason, [("timeout", 1.0)]);
}
