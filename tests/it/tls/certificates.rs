//! Which certificate a client gets, which ones clients show, and how they are replaced.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use haul::server::config::{ClientAuth, OwnIdentity, TlsConfig};
use haul::server::config::{IdentityFiles, ServeConfig};
use haul::server::telemetry::access_log::Destination;
use haul::server::{Pin, Server, StartupError};
use nix::sys::signal::Signal;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::support::{Authority, TlsClient, TlsServer, client_with, has, run};
use crate::process::{Program, haul};
use crate::support::PATIENCE;

fn shown(tls: &TlsServer, host: &str) -> CertificateDer<'static> {
    let config = Arc::new(tls.authority.client());
    let mut client = TlsClient::over(tls.socket(), config, host);
    client.shake_hands().expect("a handshake");
    let chain = client.stream.conn.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

fn certificate(files: &IdentityFiles) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).expect("PEM")
}

#[test]
fn keys_of_each_kind_work() {
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let tls = TlsServer::with(|config, authority| {
            config.tls.identities = vec![authority.identity_of("x", &["localhost"], algorithm)];
        });
        tls.server.put("file", "content");
        assert_eq!(tls.get("/file", "").body, b"content");
    }
}

#[test]
fn a_signature_with_rsa_is_made_beside_the_hot_workers() {
    if !has("openssl") {
        return;
    }
    let mut openssl = Command::new("openssl");
    openssl.args([
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]);
    let (_, key, _) = run(&mut openssl, b"");
    let key = String::from_utf8(key).expect("PEM");
    let key = KeyPair::from_pem_and_sign_algo(&key, &PKCS_RSA_SHA256).expect("a key");
    let tls = TlsServer::with(|config, authority| {
        config.tls.identities = vec![authority.sign("rsa", &["localhost"], &key)];
    });
    tls.server.put("file", "content");
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let mut client = tls.connect_as(tls.authority.client_of(versions, None));
        client.request("/file", "");
        assert_eq!(client.answer().body, b"content");
    }
    assert!(tls.server.counters().disk_visits >= 2);
}

#[test]
fn the_host_that_is_named_decides() {
    let mut files = Vec::new();
    let tls = TlsServer::with(|config, authority| {
        files = vec![
            authority.identity("first", &["localhost", "one.example"]),
            authority.identity("second", &["two.example", "*.wild.example"]),
        ];
        config.tls.identities = files.clone();
    });
    assert_eq!(shown(&tls, "one.example"), certificate(&files[0]));
    assert_eq!(shown(&tls, "two.example"), certificate(&files[1]));
    assert_eq!(shown(&tls, "TWO.example"), certificate(&files[1]));
    assert_eq!(shown(&tls, "a.wild.example"), certificate(&files[1]));
    // No name, by the address.
    let mut client = TlsClient::over(tls.socket(), Arc::new(tls.authority.client()), "127.0.0.1");
    let error = client
        .shake_hands()
        .expect_err("the first has no addresses");
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_reload_takes_what_is_good_and_leaves_the_rest() {
    let mut files = None;
    let tls = TlsServer::with(|config, authority| {
        // As certbot has it: links to files elsewhere, which are switched.
        let (live, archive) = (authority.path("live"), authority.path("archive"));
        fs::create_dir(&live).expect("a directory");
        fs::create_dir(&archive).expect("a directory");
        let made = authority.identity("1", &["localhost"]);
        let linked = IdentityFiles {
            certificate: live.join("fullchain.pem"),
            key: live.join("privkey.pem"),
        };
        symlink(&made.certificate, &linked.certificate).expect("a link");
        symlink(&made.key, &linked.key).expect("a link");
        config.tls.identities = vec![linked.clone()];
        files = Some(linked);
    });
    let files = files.expect("made above");
    let before = shown(&tls, "localhost");
    let mut kept = tls.connect();
    kept.shake_hands().expect("a handshake");

    let next = tls.authority.identity("2", &["localhost"]);
    fs::remove_file(&files.certificate).expect("a link");
    symlink(&next.certificate, &files.certificate).expect("a link");
    let error = tls
        .server
        .handle()
        .reload_certificates()
        .expect_err("half of it is new");
    assert!(error.to_string().contains("is not that of"), "{error}");
    assert_eq!(shown(&tls, "localhost"), before);

    fs::remove_file(&files.key).expect("a link");
    symlink(&next.key, &files.key).expect("a link");
    assert!(tls.server.handle().reload_certificates().expect("a pair"));
    assert_eq!(shown(&tls, "localhost"), certificate(&next));
    assert_ne!(shown(&tls, "localhost"), before);
    tls.server.put("file", "content");
    kept.request("/file", "");
    assert_eq!(kept.answer().body, b"content");
}

#[test]
fn a_key_that_cannot_be_read_yet_delays_no_other_signal() {
    let authority = Authority::new();
    let files = authority.identity("one", &["localhost"]);
    let root = tempfile::tempdir().expect("a directory");
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen-tls", "127.0.0.1:0", "--root"])
            .arg(root.path())
            .arg("--tls-cert")
            .arg(&files.certificate)
            .arg("--tls-key")
            .arg(&files.key),
    );
    program.line("listening on ");
    fs::remove_file(&files.key).expect("a file");
    nix::unistd::mkfifo(&files.key, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    program.signal(Signal::SIGHUP);
    // There is a writer as soon as there is a reader, and it writes nothing.
    let begun = Instant::now();
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(&files.key)
    };
    let _writer = loop {
        match open() {
            Ok(writer) => break writer,
            Err(_) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            Err(error) => panic!("nobody reads: {error}"),
        }
    };
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

#[test]
fn what_is_wrong_with_a_certificate_is_one_clear_line() {
    let authority = Authority::new();
    let good = authority.identity("good", &["localhost"]);
    let other = authority.identity("other", &["localhost"]);
    let junk = authority.path("junk");
    fs::write(&junk, "no PEM at all").expect("written");
    let file = |name: &str, text: &str| {
        let path = authority.path(name);
        fs::write(&path, text).expect("written");
        path
    };
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                         DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n\
                     -----END ENCRYPTED PRIVATE KEY-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let good_with = |key: &std::path::Path| IdentityFiles {
        certificate: good.certificate.clone(),
        key: key.to_owned(),
    };
    let pair = |certificate, key: &std::path::Path| IdentityFiles {
        certificate,
        key: key.to_owned(),
    };
    for (files, expected) in [
        (pair(good.certificate.clone(), &other.key), "is not that of"),
        (pair(junk.clone(), &good.key), "holds no certificate"),
        (
            pair(good.certificate.clone(), &junk),
            "holds no private key",
        ),
        (pair(good.key.clone(), &good.key), "holds no certificate"),
        (pair(authority.path("none"), &good.key), "cannot read"),
        (
            good_with(&file("old-encrypted", old_encrypted)),
            "has a passphrase",
        ),
        (good_with(&file("encrypted", encrypted)), "has a passphrase"),
        (good_with(&file("no-key", no_key)), "P-256"),
        (
            pair(file("cut", cut), &good.key),
            "it ends within a section",
        ),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let config = ServeConfig {
            root: root.path().to_owned(),
            listen: Vec::new(),
            listen_tls: vec![crate::support::own_address()],
            tls: TlsConfig {
                identities: vec![files],
                ..TlsConfig::default()
            },
            ..ServeConfig::default()
        };
        let error = Server::bind(config).expect_err("of no use");
        assert!(matches!(error, StartupError::Tls(_)));
        let line = error.to_string();
        assert!(line.contains(expected) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_key_of_the_server_s_own_has_a_pin_that_stays() {
    let state = tempfile::tempdir().expect("a directory");
    let own = |directory| OwnIdentity {
        directory,
        names: vec!["localhost".into()],
    };
    let mut pins = Vec::new();
    for _ in 0..2 {
        let tls = TlsServer::with(|config, _| {
            config.tls.identities = Vec::new();
            config.tls.own = Some(own(Some(state.path().join("haul"))));
        });
        let mut client = tls.connect();
        let error = client.shake_hands().expect_err("signed by itself");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        pins.push(tls.server.pins()[0]);
    }
    assert_eq!(pins[0], pins[1]);
    assert_eq!(pins[0].to_string().parse::<Pin>(), Ok(pins[0]));

    let config = ServeConfig {
        listen_tls: vec![crate::support::own_address()],
        listen: Vec::new(),
        tls: TlsConfig {
            own: Some(own(None)),
            ..TlsConfig::default()
        },
        ..ServeConfig::default()
    };
    let error = Server::bind(config)
        .expect_err("nowhere to keep it")
        .to_string();
    assert!(error.contains("--state"), "{error}");
}

#[test]
fn clients_show_certificates_where_they_are_asked_for_them() {
    for auth in [ClientAuth::Require, ClientAuth::Allow] {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let tls = TlsServer::with(|config, authority| {
            config.access_log = Destination::File(log.path().to_owned());
            config.tls.client_ca = Some(authority.path("ca.pem"));
            config.tls.client_auth = auth;
        });
        tls.server.put("file", "content");
        let known = tls.authority.identity("alice", &["alice.example"]);
        let elsewhere = Authority::new();
        let stranger = elsewhere.identity("eve", &["eve.example"]);
        let ask = |own: Option<&IdentityFiles>| {
            let config = tls.authority.client_of(rustls::DEFAULT_VERSIONS, own);
            let mut client = tls.connect_as(config);
            client.shake_hands()?;
            client.request("/file", "Connection: close\r\n");
            client.rest()
        };
        assert!(ask(Some(&known)).expect("welcome").ends_with(b"content"));
        assert_eq!(ask(None).is_ok(), auth == ClientAuth::Allow);
        ask(Some(&stranger)).expect_err("not signed by the authority");
        tls.server.shut_down();
        let log = fs::read_to_string(log.path()).expect("a log");
        assert!(log.contains(" https \"GET /file"), "{log}");
        assert!(log.contains("complete \"CN=alice\""), "{log}");
        assert!(log.contains("TLS: the client's certificate"), "{log}");
    }
}

/// What the log says of handshakes that `try_some` has fail.
fn logged(try_some: impl FnOnce(&TlsServer)) -> String {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let tls = TlsServer::with(|config, _| {
        config.access_log = Destination::File(log.path().to_owned());
    });
    try_some(&tls);
    tls.server
        .counters_when(|counters| counters.closed_in_all() > 0);
    tls.server.shut_down();
    fs::read_to_string(log.path()).expect("a log")
}

#[test]
fn a_client_that_fits_no_certificate_has_nothing_in_common_and_is_refused_nothing() {
    let log = logged(|tls| {
        let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let mut client = tls.connect_as(client_with(tls, suite));
        let error = client.shake_hands().expect_err("the key is ECDSA");
        assert!(error.to_string().contains("HandshakeFailure"), "{error}");
    });
    assert!(log.contains("in common with the client"), "{log}");
}

#[test]
fn a_client_that_does_not_accept_the_certificate_is_told_of() {
    let log = logged(|tls| {
        let config = Arc::new(tls.authority.client());
        let mut client = TlsClient::over(tls.socket(), config, "other.example");
        client.shake_hands().expect_err("another name");
    });
    assert!(log.contains("does not accept the certificate"), "{log}");
}
