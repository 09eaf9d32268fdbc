//! Sessions that the kernel takes over, as curl, OpenSSL and strace see them.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::kernel::Kernel;
use super::support::{TlsClient, TlsServer, has};
use crate::process::{Program, haul};
use crate::support::{Answer, Client, PATIENCE, noise, own_address};

/// A download by `openssl s_client`, which is typed into while it goes on.
#[test]
fn openssl_has_its_keys_changed_under_way() {
    let Some(kernel) = Kernel::look() else {
        return;
    };
    if !has("openssl") {
        return;
    }
    let tls = TlsServer::start();
    let content = "0123456789abcde\n".repeat(1 << 19);
    tls.server.put("large", &content);
    for command in ["k\n", "K\n"] {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["s_client", "-tls1_3", "-crlf", "-brief", "-connect"])
            .arg(tls.address().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut openssl = openssl.spawn().expect("it starts");
        let mut typed = openssl.stdin.take().expect("piped");
        let mut shown = openssl.stdout.take().expect("piped");
        let mut type_in = |text: &str| typed.write_all(text.as_bytes()).expect("taken");
        type_in("GET /large HTTP/1.1\nHost: x\n\n");
        let mut bytes = vec![0; 400_000];
        shown.read_exact(&mut bytes).expect("a beginning");
        // A line that begins like this is a command of its own.
        type_in(command);
        let whole = Answer::parse(&bytes).head.len() + 4 + content.len();
        let mut rest = vec![0; whole - bytes.len()];
        shown.read_exact(&mut rest).expect("the rest");
        bytes.extend(rest);
        let body = String::from_utf8_lossy(&Answer::parse(&bytes).body).replace("KEYUPDATE\n", "");
        let missing = content.len() - body.len();
        assert!(content.starts_with(&body) && missing < 100, "{missing}");
        if kernel.changes_keys {
            type_in("GET /large HTTP/1.1\nHost: x\nConnection: close\n\n");
        }
        let mut rest = Vec::new();
        shown.read_to_end(&mut rest).expect("an end");
        assert_eq!(rest.len() > content.len(), kernel.changes_keys);
        openssl.wait().expect("it ends");
    }
    assert_eq!(tls.server.counters().kernel_tls, 2);
}

#[test]
fn curl_gets_whole_files_and_ranges_by_each_suite() {
    if Kernel::look().is_none() || !has("curl") {
        return;
    }
    let tls = TlsServer::start();
    let content = noise(5 << 20, 49);
    tls.server.put("large", &content);
    let url = format!("https://localhost:{}/large", tls.address().port());
    let to = format!("localhost:{}:{}", tls.address().port(), tls.address().ip());
    let suites = [
        ["--tls13-ciphers", "TLS_AES_128_GCM_SHA256"],
        ["--tls13-ciphers", "TLS_AES_256_GCM_SHA384"],
        ["--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"],
        ["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        ["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"],
        ["--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    ];
    for suite in suites {
        let version: &[&str] = match suite[0] {
            "--ciphers" => &["--tlsv1.2", "--tls-max", "1.2"],
            _ => &["--tlsv1.3"],
        };
        let mut curl = super::interoperability::curl(&tls);
        curl.arg("--cacert").arg(tls.authority.path("ca.pem"));
        // Both on one connection.
        curl.args(version)
            .args(suite)
            .arg(&url)
            .args(["--next", "--silent", "--range"]);
        curl.args(["1000001-", "--noproxy", "*", "--resolve", &to, "--cacert"]);
        curl.arg(tls.authority.path("ca.pem"))
            .args(version)
            .args(suite)
            .arg(&url);
        let (is_well, body, errors) = super::support::run(&mut curl, b"");
        assert!(is_well, "{suite:?}: {errors}");
        assert!(
            body == [&content[..], &content[1_000_001..]].concat(),
            "{suite:?}"
        );
    }
    assert_eq!(tls.server.counters().kernel_tls, suites.len() as u64);
}

/// The program itself, in its sandbox, with its system calls looked at.
#[test]
fn files_leave_by_sendfile_or_splice_within_the_sandbox() {
    if Kernel::look().is_none() || !has("strace") {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path().join("root");
    fs::create_dir(&root).expect("a directory");
    let content = noise(4 << 20, 50);
    fs::write(root.join("large"), &content).expect("a file");
    let authority = super::support::Authority::new();
    let files = authority.identity("localhost", &["localhost"]);
    let trace = place.path().join("trace");
    let program = haul();
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-D",
            "-q",
            "-e",
            "trace=sendfile,splice,sendto,setsockopt,sendmsg",
            "-o",
        ])
        .arg(&trace)
        .arg(program.get_program())
        .args(["serve", "--workers=1", "--sandbox=require", "--listen-tls"])
        .arg(own_address().to_string())
        .arg("--tls-cert")
        .arg(&files.certificate)
        .arg("--tls-key")
        .arg(&files.key)
        .arg("--root")
        .arg(&root);
    let mut server = Program::start(&mut strace);
    let told = server.line("kernel TLS for large files: ");
    assert!(told.contains("1.3 with AES-128-GCM"), "{told}");
    let address = server.address();
    let socket = Client::connect(address).into_socket();
    let mut client = TlsClient::over(socket, Arc::new(authority.client()), "localhost");
    client.request("/large", "Connection: close\r\n");
    let bytes = client.rest().expect("close_notify");
    assert!(Answer::parse(&bytes).body == content);
    drop(client);
    server.signal(Signal::SIGTERM);
    server.end();
    let until = Instant::now() + PATIENCE;
    let trace = loop {
        let trace = fs::read_to_string(&trace).expect("a trace");
        if trace.contains("exited with") {
            break trace;
        }
        assert!(Instant::now() < until, "{trace}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(trace.contains("SOL_TLS"), "{trace}");
    let sent: u64 = trace
        .lines()
        .filter(|line| line.contains("sendfile(") || line.contains("SPLICE_F_NONBLOCK"))
        .filter_map(|line| line.rsplit(" = ").next()?.trim().parse::<u64>().ok())
        .sum();
    assert!(
        sent > (content.len() - (64 << 10)) as u64,
        "{sent}\n{trace}"
    );
}
