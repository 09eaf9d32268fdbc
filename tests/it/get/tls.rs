//! `haul get` over https: trust, its messages on failures, and connections that end in every way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ContentType, HandshakeKind, ServerConnection, StreamOwned};
use sha2::Digest;

use super::support::{Act, Client, Ran, Served, Server, assert_same, cut, finish, noise};
use crate::support::TestServer;
use crate::tls_front::{Authority, Ending, Front, Leaf};
use crate::tls_records::RecordSealer;

const HERE: &[&str] = &["127.0.0.1", "localhost"];

/// A client in whose directory's neighbour the authority's certificate is.
struct Trusting {
    client: Client,
    authority: Authority,
    files: tempfile::TempDir,
}

impl Trusting {
    fn new() -> Self {
        let (client, files) = (Client::new(), tempfile::tempdir().unwrap());
        let authority = Authority::new("the tests' authority");
        authority.write(&files.path().join("ca.pem"));
        Self {
            client,
            authority,
            files,
        }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    fn leaf(&self) -> Leaf {
        self.authority.sign(HERE, |_| {})
    }

    fn front(&self, server: SocketAddr) -> Front {
        Front::start(server, self.leaf().config(), Ending::CloseNotify)
    }

    fn get(&self, arguments: &[&str]) -> Ran {
        let authority = self.file("ca.pem");
        self.client
            .get(&[&["--cacert", &authority], arguments].concat())
    }
}

#[test]
fn files_arrive_whole_by_every_form_of_request() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 5 << 20));
    let server = Server::of(file.clone());
    for version in [&TLS12, &TLS13] {
        let config = trusting.leaf().config_of(None, &[version]);
        let front = Front::start(server.address, config, Ending::CloseNotify);
        let url = front.url("/f");
        for segments in ["1", "4", "auto"] {
            trusting.get(&["-f", "-s", segments, &url]).assert_status(0);
            trusting.client.assert_whole("f", &file.bytes);
        }
        let ran = trusting.get(&["-o", "-", &url]);
        assert!(ran.assert_status(0).stdout == *file.bytes);
        trusting.get(&["-f", "-J", &url]).assert_status(0);
        trusting.client.assert_whole("f", &file.bytes);
        // An address has no name for SNI.
        assert!(front.names().iter().all(Option::is_none));
    }
}

#[test]
fn chunked_bodies_and_the_name_of_the_host_pass_through() {
    let (trusting, bytes) = (Trusting::new(), noise(1, 1 << 20));
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in bytes.chunks(70_001) {
        answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(&[chunk, b"\r\n"].concat());
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    let server = Server::start(move |_| vec![Act::Send(answer.clone())]);
    let front = trusting.front(server.address);
    let url = format!("https://localhost:{}/f", front.address.port());
    trusting.get(&["-4", &url]).assert_status(0);
    trusting.client.assert_whole("f", &bytes);
    assert_eq!(front.names(), [Some("localhost".to_owned())]);
    let host = server.requests()[0].field("host").map(str::to_owned);
    assert_eq!(host, Some(format!("localhost:{}", front.address.port())));
}

#[test]
fn each_wrong_certificate_is_named_and_final_at_once() {
    let trusting = Trusting::new();
    let server = Server::of(Served::new(1, 1000));
    let other = Authority::new("nobody knows it");
    let sign = |change: fn(&mut CertificateParams)| trusting.authority.sign(HERE, change);
    let own = Leaf::self_signed(HERE, |_| {});
    let pin = own.pin();
    let cases = [
        (
            sign(|it| it.not_after = date_time_ymd(2001, 2, 3)),
            vec!["expired on Sat, 03 Feb 2001", "it is "],
        ),
        (
            sign(|it| it.not_before = date_time_ymd(3001, 2, 3)),
            vec!["not valid before", "3001", "clock"],
        ),
        (
            trusting.authority.sign(&["a.example", "10.9.8.7"], |_| {}),
            vec![
                "not for 127.0.0.1, but for a.example, 10.9.8.7",
                "--pin sha256:",
            ],
        ),
        (
            other.sign(HERE, |_| {}),
            vec!["unknown issuer", "--cacert", "--pin sha256:"],
        ),
        (own, vec!["self-signed", "--cacert", &pin]),
    ];
    for (leaf, words) in cases {
        let front = Front::start(server.address, leaf.config(), Ending::CloseNotify);
        let ran = trusting.get(&[&front.url("/f")]);
        ran.assert_status(8);
        for words in words {
            ran.assert_says(words);
        }
        assert!(!ran.stderr.contains("again"), "{}", ran.stderr);
        let ran = trusting.get(&["--json", &front.url("/f")]);
        assert_eq!(ran.events("failed")[0]["reason"], "untrusted");
    }
    assert!(server.requests().is_empty(), "nothing was asked");
    assert!(trusting.client.names().is_empty());
}

#[test]
fn a_pin_suffices_and_another_key_is_refused() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    // Not even the name or the dates have to be right.
    let own = Leaf::self_signed(&["a.example"], |it| {
        it.not_after = date_time_ymd(2001, 2, 3);
    });
    let front = Front::start(server.address, own.config(), Ending::CloseNotify);
    let pins = [
        format!("sha256:{}", own.pin()),
        format!("sha256//{}", own.pin()),
        format!("sha256:{}", own.hex_pin()),
    ];
    let none = format!("sha256:{}", "0".repeat(64));
    for pin in &pins {
        trusting
            .client
            .get(&["-f", "--pin", &none, "--pin", pin, &front.url("/f")])
            .assert_status(0);
        trusting.client.assert_whole("f", &file.bytes);
    }
    trusting
        .client
        .get(&["-f", "--pin", &none, &front.url("/f")])
        .assert_status(8)
        .assert_says(&own.pin());
    // Nor does an authority make up for it.
    let good = trusting.front(server.address);
    trusting
        .get(&["-f", "--pin", &pins[0], &good.url("/f")])
        .assert_status(8);
    trusting
        .get(&["--pin", "sha256:abc", &good.url("/f")])
        .assert_status(2);
}

#[test]
fn a_pin_goes_with_no_address_that_has_no_key() {
    let (client, file) = (Client::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    let pin = format!("sha256:{}", "0".repeat(64));
    let plain = server.url("/f");
    let (bare, name) = (plain.replace("http://", ""), plain.replace("http", "name"));
    let secure = "https://127.0.0.1:1/f";
    let cases: [&[&str]; 4] = [&[&plain], &[&bare], &[&name], &[secure, "--mirror", &plain]];
    for addresses in cases {
        client
            .get(&[&["--pin", &pin], addresses].concat())
            .assert_status(2)
            .assert_says("--pin");
    }
    assert!(server.requests().is_empty() && client.names().is_empty());
    // A digest says as much about the bytes as a key.
    let digest = sha2::Sha256::digest(&*file.bytes).into_iter();
    let digest: String = digest.map(|byte| format!("{byte:02x}")).collect();
    client
        .get(&["--pin", &pin, "--sha256", &digest, &plain])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_servers_own_certificate_may_be_the_one_that_is_trusted() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    let as_authority: fn(&mut CertificateParams) =
        |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for change in [|_: &mut CertificateParams| {}, as_authority] {
        let own = Leaf::self_signed(HERE, change);
        own.write(
            &trusting.files.path().join("own.pem"),
            &trusting.files.path().join("key.pem"),
        );
        let front = Front::start(server.address, own.config(), Ending::CloseNotify);
        let trusted = trusting.file("own.pem");
        let get = |url: &str| trusting.client.get(&["-f", "--cacert", &trusted, url]);
        get(&front.url("/f")).assert_status(0);
        // But under its own name only.
        let url = format!("https://ip6-localhost.example:{}/f", front.address.port());
        assert_ne!(get(&url).status, Some(0));
        // The system's authorities may be others, too.
        let mut command = trusting.client.command(&["-f", &front.url("/f")]);
        command.env("SSL_CERT_FILE", &trusted);
        finish(command.spawn().unwrap()).assert_status(0);
    }
    trusting.client.assert_whole("f", &file.bytes);
}

#[test]
fn files_that_are_no_certificates_are_named_before_anything_is_asked() {
    let trusting = Trusting::new();
    std::fs::write(trusting.file("empty.pem"), "").unwrap();
    let leaf = trusting.leaf();
    leaf.write(
        &trusting.files.path().join("a.pem"),
        &trusting.files.path().join("a.key"),
    );
    trusting.leaf().write(
        &trusting.files.path().join("b.pem"),
        &trusting.files.path().join("b.key"),
    );
    let (empty, missing) = (trusting.file("empty.pem"), trusting.file("missing.pem"));
    let (a, b) = (trusting.file("a.pem"), trusting.file("b.key"));
    let cases: [(&[&str], &str); 4] = [
        (&["--cacert", &empty], "no certificate"),
        (&["--cacert", &missing], "missing.pem"),
        (
            &["--cert", &a, "--key", &b],
            "not that of the first certificate",
        ),
        (&["--cert", &a], "--key"),
    ];
    for (arguments, words) in cases {
        let ran = trusting
            .client
            .get(&[arguments, &["https://127.0.0.1:1/f"]].concat());
        ran.assert_status(2).assert_says(words);
    }
}

#[test]
fn insecure_skips_verification_with_a_warning() {
    let (client, file) = (Client::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    let leaf = Leaf::self_signed(&["a.example"], |_| {});
    let front = Front::start(server.address, leaf.config(), Ending::CloseNotify);
    client
        .get(&["--insecure", &front.url("/f")])
        .assert_status(0)
        .assert_says("warning");
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_the_right_one() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let identity = |name: &str, leaf: Leaf| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let files = trusting.files.path();
        leaf.write(&files.join(&cert), &files.join(&key));
        (trusting.file(&cert), trusting.file(&key))
    };
    let mine = identity("mine", clients.sign(&["me"], |_| {}));
    let strange = identity("strange", strangers.sign(&["me"], |_| {}));
    for version in [&TLS12, &TLS13] {
        let config = trusting.leaf().config_of(Some(&clients), &[version]);
        let front = Front::start(server.address, config, Ending::CloseNotify);
        let url = front.url("/f");
        trusting.get(&[&url]).assert_says("--cert");
        let with = |(cert, key): &(String, String)| {
            trusting.get(&["-f", "--retries", "0", "--cert", cert, "--key", key, &url])
        };
        with(&strange)
            .assert_status(3)
            .assert_says("client certificate");
        with(&mine).assert_status(0);
        trusting.client.assert_whole("f", &file.bytes);
        std::fs::remove_file(trusting.client.path("f")).unwrap();
    }
}

/// Redirects every request to `location`.
fn redirector(location: String) -> Server {
    Server::start(move |_| {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        vec![Act::Send(head.into_bytes())]
    })
}

#[test]
fn a_redirect_to_https_is_followed_and_one_away_from_it_is_not() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 1000));
    let server = Server::of(file.clone());
    let front = trusting.front(server.address);
    let plain = redirector(front.url("/f"));
    let login = ["-u", "me:s3cret", "-H", "X-Token: s3cret"];
    let up = plain.url("/f");
    trusting
        .get(&[&login[..], &[&up]].concat())
        .assert_status(0);
    trusting.client.assert_whole("f", &file.bytes);
    let back = redirector(server.url("/f"));
    let back_front = trusting.front(back.address);
    let down = back_front.url("/f");
    let before = server.requests().len();
    trusting
        .get(&[&login[..], &["-f", &down]].concat())
        .assert_status(8)
        .assert_says("--allow-downgrade");
    assert_eq!(server.requests().len(), before, "it was not asked");
    trusting
        .get(&[&login[..], &["-f", "--allow-downgrade", &down]].concat())
        .assert_status(0);
    trusting.client.assert_whole("f", &file.bytes);
    // Hosts that the user named get credentials, redirect targets do not.
    for named in [&plain, &back] {
        assert!(named.requests()[0].field("authorization").is_some());
    }
    for request in server.requests() {
        assert_eq!(request.field("authorization"), None);
        assert_eq!(request.field("x-token"), None);
    }
}

#[test]
fn credentials_of_an_address_stay_with_its_scheme() {
    let trusting = Trusting::new();
    let server = Server::of(Served::new(1, 1000));
    let front = trusting.front(server.address);
    let address = front.address;
    trusting
        .get(&[&format!("https://me:s3cret@{address}/f")])
        .assert_status(0);
    assert!(server.requests()[0].field("authorization").is_some());
    let back = redirector(format!("http://me:s3cret@{}/f", server.address));
    let back = trusting.front(back.address);
    trusting
        .get(&[
            "-f",
            "--allow-downgrade",
            &back.url("/f").replace("//", "//me:s3cret@"),
        ])
        .assert_status(0);
    let last = server.requests().pop().unwrap();
    assert_eq!(last.field("authorization"), None);
}

/// An HTTP proxy for tunnels only, with a password; it records its requests.
struct TunnelProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TunnelProxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), heads) = (client, Arc::clone(&heads)) else {
                    return;
                };
                thread::spawn(move || tunnel(client, &heads));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn tunnel(mut client: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().unwrap().push(head.clone());
    // u:p
    if !head.contains("Proxy-Authorization: Basic dTpw\r\n") {
        let answer = b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(answer);
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    let Ok(mut server) = TcpStream::connect(target) else {
        return client.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    };
    client.write_all(b"HTTP/1.1 200 There you are\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

#[test]
fn a_proxy_makes_tunnels_and_sees_no_request() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 3 << 20));
    let server = Server::of(file.clone());
    let (front, proxy) = (trusting.front(server.address), TunnelProxy::start());
    let url = front.url("/f");
    let authority = trusting.file("ca.pem");
    let with = |login: &str, more: &[&str], variable: &str| {
        let arguments = [&["-f", "--cacert", &authority, &url], more].concat();
        let mut command = trusting.client.command(&arguments);
        command.env(variable, format!("http://{login}{}", proxy.address));
        finish(command.spawn().unwrap())
    };
    for (segments, variable) in [
        ("1", "https_proxy"),
        ("4", "HTTPS_PROXY"),
        ("1", "all_proxy"),
    ] {
        with("u:p@", &["-s", segments], variable).assert_status(0);
        trusting.client.assert_whole("f", &file.bytes);
    }
    for head in proxy.asked() {
        let line = format!("CONNECT {} HTTP/1.1\r\n", front.address);
        assert!(head.starts_with(&line) && !head.contains("/f"), "{head}");
    }
    for request in server.requests() {
        assert_eq!(request.field("proxy-authorization"), None);
        assert_eq!(request.target, "/f");
    }
    let before = proxy.asked().len();
    with("", &[], "https_proxy")
        .assert_status(3)
        .assert_says("407");
    assert_eq!(proxy.asked().len(), before + 1, "it is final at once");
    // A proxy for http is not used.
    with("u:p@", &[], "http_proxy").assert_status(0);
    assert_eq!(proxy.asked().len(), before + 1);
    let mut command = trusting.client.command(&["-f", "https://127.0.0.1:1/f"]);
    command.env("https_proxy", format!("u:p@{}", proxy.address));
    finish(command.spawn().unwrap())
        .assert_status(3)
        .assert_says("403");
}

#[test]
fn a_body_without_length_is_whole_only_where_the_server_says_so() {
    let trusting = Trusting::new();
    let body = noise(1, 40_000);
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat();
    let server = Server::start(move |_| vec![Act::Send(answer.clone()), Act::Close]);
    let get = |ending| {
        let front = Front::start(server.address, trusting.leaf().config(), ending);
        let ran = trusting.get(&["--retries", "0", "--no-preallocate", &front.url("/f")]);
        (ran, front.last_sent())
    };
    let (ran, sent) = get(Ending::CloseNotify);
    ran.assert_status(0);
    trusting.client.assert_whole("f", &body);
    std::fs::remove_file(trusting.client.path("f")).unwrap();
    let (ran, without_alert) = get(Ending::Cut);
    ran.assert_status(5).assert_says("close_notify");
    assert!(without_alert < sent);
    // Signatures make handshakes differ by some bytes; the last 24 are the alert.
    let first_byte = sent - body.len();
    for cut in (first_byte..sent)
        .step_by(7_999)
        .chain((sent - 60..sent - 12).step_by(3))
    {
        let (ran, _) = get(Ending::CutAfter(cut));
        ran.assert_status(5);
        assert!(
            !trusting.client.path("f").exists(),
            "cut after {cut} of {sent}"
        );
    }
}

#[test]
fn a_body_with_length_is_whole_without_farewell() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 100_000));
    let served = file.clone();
    let server = Server::start(move |_| vec![Act::Send(served.whole()), Act::Close]);
    let front = Front::start(server.address, trusting.leaf().config(), Ending::Cut);
    trusting
        .get(&["-s", "1", &front.url("/f")])
        .assert_status(0);
    trusting.client.assert_whole("f", &file.bytes);
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 4 << 20));
    let served = file.clone();
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
        1 => {
            let answer = served.answer(request);
            vec![Act::Send(cut(&answer, 50)), Act::Reset]
        }
        _ => vec![Act::Send(served.answer(request))],
    });
    let front = Front::start(server.address, trusting.leaf().config(), Ending::Cut);
    trusting
        .get(&["-s", "1", &front.url("/f")])
        .assert_status(0);
    trusting.client.assert_whole("f", &file.bytes);
    let resumed = server.requests()[1].range().unwrap();
    assert!(resumed.0 >= 2_000_000, "{resumed:?}");
}

#[test]
fn a_mirror_that_cannot_prove_itself_is_dropped() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 8 << 20));
    let served = file.clone();
    let server = Server::start(move |request| {
        vec![Act::Drip {
            bytes: served.answer(request),
            piece: 256 << 10,
            pause: Duration::from_millis(5),
        }]
    });
    let other = Server::of(file.clone());
    let good = trusting.front(server.address);
    let bad = Leaf::self_signed(HERE, |_| {});
    let bad = Front::start(other.address, bad.config(), Ending::CloseNotify);
    let (good, bad) = (good.url("/f"), bad.url("/f"));
    for (first, second) in [(&good, &bad), (&bad, &good)] {
        trusting
            .get(&["-f", "-s", "3", first, "--mirror", second])
            .assert_status(0)
            .assert_says("dropped");
        trusting.client.assert_whole("f", &file.bytes);
    }
    assert!(other.requests().is_empty());
}

#[test]
fn a_directory_comes_whole() {
    let trusting = Trusting::new();
    let served = TestServer::start();
    for number in 0..5 {
        served.put(&format!("d{}/f{number}", number % 2), noise(number, 10_000));
    }
    let front = trusting.front(served.address());
    trusting
        .get(&["-r", "-s", "1", "-d", "here", &front.url("/")])
        .assert_status(0);
    for number in 0..5 {
        let path = format!("here/d{}/f{number}", number % 2);
        assert_same(&trusting.client.path(&path), &noise(number, 10_000));
    }
}

#[test]
fn several_files_come_over_one_session() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 10_000));
    let server = Server::of(file.clone());
    let front = trusting.front(server.address);
    let urls = ["/a", "/b", "/c"].map(|path| front.url(path));
    trusting
        .get(&["-s", "1", &urls[0], &urls[1], &urls[2]])
        .assert_status(0);
    for name in ["a", "b", "c"] {
        assert_same(&trusting.client.path(name), &file.bytes);
    }
    assert_eq!(front.handshakes(), [HandshakeKind::Full]);
}

#[test]
fn later_connections_of_a_run_resume_the_session() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 8 << 20));
    let server = Server::start(move |request| {
        vec![Act::Drip {
            bytes: file.answer(request),
            piece: 256 << 10,
            pause: Duration::from_millis(5),
        }]
    });
    let front = trusting.front(server.address);
    trusting
        .get(&["-s", "3", &front.url("/f")])
        .assert_status(0);
    let handshakes = front.handshakes();
    assert_eq!(handshakes[0], HandshakeKind::Full);
    assert!(
        handshakes.contains(&HandshakeKind::Resumed),
        "{handshakes:?}"
    );
}

#[test]
fn ports_that_speak_the_other_protocol_are_named() {
    let trusting = Trusting::new();
    let answers: [(&[u8], i32, &str); 3] = [
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            4,
            "plain HTTP",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 4, "not TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x46", 4, "TLS 1.1"),
    ];
    for (answer, status, words) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(answer).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let ran = trusting.get(&[&format!("https://{address}/f")]);
        ran.assert_status(status).assert_says(words);
        serving.join().unwrap();
    }
    let server = Server::of(Served::new(1, 10));
    let front = trusting.front(server.address);
    trusting
        .get(&[&format!("http://{}/f", front.address)])
        .assert_status(4)
        .assert_says("https://");
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let trusting = Trusting::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    trusting
        .get(&["--connect-timeout", "300ms", "--retries", "1", &url])
        .assert_status(4)
        .assert_says("handshake");
}

#[test]
fn a_handshake_that_comes_without_pause_has_no_more_time() {
    let trusting = Trusting::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let hello = [b"\x16\x03\x03\x40\x00\x02\x00\xff\xf0", &[0; 3000][..]].concat();
        hello.into_iter().all(|byte| {
            thread::sleep(Duration::from_millis(5));
            stream.write_all(&[byte]).is_ok()
        })
    });
    trusting
        .get(&["--connect-timeout", "300ms", "--retries", "0", &url])
        .assert_status(4)
        .assert_says("handshake takes too long");
    assert!(!server.join().unwrap(), "all of it came");
}

#[test]
fn tickets_without_end_are_nothing_that_comes() {
    let trusting = Trusting::new();
    let mut config = trusting.leaf().config_of(None, &[&TLS13]);
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let mut sealer = RecordSealer::of_server(stream.conn);
        (0..MANY).all(|_| {
            let tickets = (0..100).flat_map(|_| sealer.seal(ContentType::Handshake, TICKET));
            stream.sock.write_all(&tickets.collect::<Vec<_>>()).is_ok()
        })
    });
    trusting
        .get(&["--stall-timeout", "300ms", "--retries", "0", &url])
        .assert_status(4)
        .assert_says("nothing came");
    assert!(!server.join().unwrap(), "all of them were read");
}

/// Serves one request over TLS 1.3: sends `pieces` of what `answer` seals, each after a pause.
/// Returns whether all of it was taken.
fn drips(
    trusting: &Trusting,
    answer: impl Fn(&mut RecordSealer) -> Vec<u8> + Send + 'static,
    (piece, pause): (usize, Duration),
) -> (String, thread::JoinHandle<bool>) {
    let mut config = trusting.leaf().config_of(None, &[&TLS13]);
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.sock.set_nodelay(true).unwrap();
        let sealed = answer(&mut RecordSealer::of_server(stream.conn));
        let taken = sealed.chunks(piece).all(|piece| {
            thread::sleep(pause);
            stream.sock.write_all(piece).is_ok()
        });
        let _ = stream.sock.read_to_end(&mut Vec::new());
        taken
    });
    (url, server)
}

#[test]
fn a_record_that_comes_slowly_is_not_silence() {
    let (trusting, file) = (Trusting::new(), Served::new(1, 14_000));
    let whole = file.whole();
    let head = whole.len() - file.bytes.len();
    // The head with the file, and the file after it.
    for parts in [vec![&whole[..]], vec![&whole[..head], &whole[head..]]] {
        let parts: Vec<_> = parts.into_iter().map(<[u8]>::to_vec).collect();
        let seal = move |sealer: &mut RecordSealer| {
            let records = parts.iter();
            let records = records.map(|it| sealer.seal(ContentType::ApplicationData, it));
            records.collect::<Vec<_>>().concat()
        };
        let (url, server) = drips(&trusting, seal, (2_000, Duration::from_millis(400)));
        trusting
            .get(&["-f", "-s1", "--stall-timeout", "2s", "--retries", "0", &url])
            .assert_status(0);
        trusting.client.assert_whole("f", &file.bytes);
        assert!(server.join().unwrap());
    }
}

#[test]
fn a_record_that_drips_without_end_is_given_up() {
    let trusting = Trusting::new();
    let whole = Served::new(1, 14_000).whole();
    let seal = move |sealer: &mut RecordSealer| sealer.seal(ContentType::ApplicationData, &whole);
    let (url, server) = drips(&trusting, seal, (1, Duration::from_millis(5)));
    trusting
        .get(&["-s1", "--stall-timeout", "100ms", "--retries", "0", &url])
        .assert_status(4)
        .assert_says("nothing came");
    assert!(!server.join().unwrap(), "all of it was read");
}

/// A session ticket for an hour: its age's addend, a nonce, the ticket, no extensions.
const TICKET: &[u8] = b"\x04\0\0\x14\0\0\x0e\x10abcd\x01n\0\x06ticket\0\0";
/// Takes much longer to read than the test waits.
const MANY: u32 = 5_000;
