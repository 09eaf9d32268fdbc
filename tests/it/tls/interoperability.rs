//! curl and OpenSSL agree with the server on what was sent.

use std::process::Command;

use super::support::{TlsServer, has, run};
use crate::support::noise;

/// Resolves `localhost` to where the server is.
pub(super) fn curl(tls: &TlsServer) -> Command {
    let address = tls.address();
    let mut curl = Command::new("curl");
    let to = format!("localhost:{}:{}", address.port(), address.ip());
    curl.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "60",
    ]);
    curl.args(["--resolve", &to]);
    curl
}

fn url(tls: &TlsServer, path: &str) -> String {
    format!("https://localhost:{}/{path}", tls.address().port())
}

#[test]
fn curl_fetches_a_file_and_a_range_of_it() {
    if !has("curl") {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(40 << 20, 21);
    tls.server.put("large", &content);
    let ca = tls.authority.path("ca.pem");
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"] {
        let mut command = curl(&tls);
        command.arg("--cacert").arg(&ca).args(version.split(' '));
        let (is_well, body, errors) = run(command.arg(url(&tls, "large")), b"");
        assert!(is_well && body == content, "{version}: {errors}");
    }
    let mut command = curl(&tls);
    command
        .arg("--cacert")
        .arg(&ca)
        .args(["--range", "1000000-20999999"]);
    let (is_well, body, errors) = run(command.arg(url(&tls, "large")), b"");
    assert!(
        is_well && body == content[1_000_000..21_000_000],
        "{errors}"
    );

    let mut command = curl(&tls);
    command
        .arg("--cacert")
        .arg(&ca)
        .args(["--http1.0", "--output", "-"]);
    let (is_well, body, errors) = run(command.arg(url(&tls, "")), b"");
    assert!(
        is_well && !body.is_empty(),
        "a listing that ends by close: {errors}"
    );

    let (is_well, _, errors) = run(curl(&tls).arg(url(&tls, "large")), b"");
    assert!(!is_well && errors.contains("certificate"), "{errors}");
}

#[test]
fn curl_trusts_the_pin_of_the_server_s_own_key() {
    if !has("curl") {
        return;
    }
    let state = tempfile::tempdir().expect("a directory");
    let tls = TlsServer::with(|config, _| {
        config.tls.identities = Vec::new();
        config.tls.own = Some(haul::server::config::OwnIdentity {
            directory: Some(state.path().to_owned()),
            names: vec!["localhost".into()],
        });
    });
    tls.server.put("file", "content");
    let pin = tls.server.pins()[0].to_string();
    for (pin, is_right) in [
        (pin.replacen(':', "//", 1), true),
        (
            "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
            false,
        ),
    ] {
        let mut command = curl(&tls);
        command.args(["--insecure", "--pinnedpubkey", &pin]);
        let (is_well, body, errors) = run(command.arg(url(&tls, "file")), b"");
        assert_eq!(is_well, is_right, "{errors}");
        assert_eq!(body == b"content", is_right);
    }
}

#[test]
fn openssl_gets_a_file_by_each_suite() {
    if !has("openssl") {
        return;
    }
    let tls = TlsServer::start();
    let content = "0123456789abcdef\n".repeat(20_000);
    tls.server.put("file", &content);
    let suites = [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ];
    for (version, option, suite) in suites {
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-servername",
                "localhost",
            ])
            .args([
                "-connect",
                &tls.address().to_string(),
                version,
                option,
                suite,
            ])
            .arg("-CAfile")
            .arg(tls.authority.path("ca.pem"));
        let (is_well, output, errors) = run(&mut openssl, b"file\n");
        assert!(is_well && output == content.as_bytes(), "{suite}: {errors}");
    }
}

#[test]
fn old_versions_and_bad_suites_are_refused() {
    if !has("openssl") {
        return;
    }
    let tls = TlsServer::start();
    for options in [
        ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"],
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &tls.address().to_string()]);
        let (is_well, _, _) = run(openssl.args(options), b"");
        assert!(!is_well, "{options:?}");
    }
    assert_eq!(tls.server.counters().handshakes(), 0);
}

#[test]
fn a_second_handshake_is_refused_and_harms_nobody() {
    if !has("openssl") {
        return;
    }
    let tls = TlsServer::start();
    tls.server.put("file", "content");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "s_client",
        "-connect",
        &tls.address().to_string(),
        "-tls1_2",
    ]);
    // To s_client this is the command to renegotiate.
    run(&mut openssl, b"R\n");
    assert_eq!(tls.get("/file", "").body, b"content");
    assert_eq!(tls.server.counters().panics, 0);
}
