//! Credentials, certificates and proxies: which servers get them, and which do not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::version::{TLS12, TLS13};
use sha2::Digest;

use super::support::{Act, Client, Served, Server, finish};
use crate::tls_front::{Authority, Ending, Front};

#[test]
fn logins_go_to_the_named_server_and_not_where_it_redirects_to() {
    let client = Client::new();
    let other = Server::of(Served::new(1, 1000));
    let location = other.url("/f");
    let server = Server::start(move |_| {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        vec![Act::Send(head.into_bytes())]
    });
    std::fs::write(client.path("token"), "s3cret\n").unwrap();
    std::fs::write(client.path("netrc"), "default login a password b").unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["-u", "me:s3cret"], "Basic bWU6czNjcmV0"),
        (&["--bearer-file", "token"], "Bearer s3cret"),
        (&["--netrc"], "Basic YTpi"),
    ];
    for (number, (login, expected)) in cases.into_iter().enumerate() {
        let name = format!("f{number}");
        let url = server.url("/f");
        let mut arguments = vec!["-H", "X-Token: s3cret", "-A", "me/1", "-o", &name, &url];
        arguments.extend(login);
        let mut command = client.command(&arguments);
        let ran = finish(command.env("NETRC", client.path("netrc")).spawn().unwrap());
        ran.assert_status(0);
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
        let told = server.requests().pop().unwrap();
        assert_eq!(told.field("authorization"), Some(expected));
        assert_eq!(told.field("x-token"), Some("s3cret"));
        assert_eq!(told.field("user-agent"), Some("me/1"));
        for request in other.requests() {
            assert_eq!(request.field("authorization"), None);
            assert_eq!(request.field("x-token"), None);
        }
    }
}

/// A metalink that names one file, `f`, at `url`.
fn metalink_to(url: &str) -> String {
    format!(
        "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\"><file name=\"f\"><url>{url}</url></file>\
         </metalink>"
    )
}

#[test]
fn logins_do_not_go_to_the_servers_of_a_metalink_or_of_a_link() {
    let (file, login) = (Served::new(1, 1000), ["-f", "-s1", "-u", "me:s3cret"]);
    let other = Server::of(file.clone());
    let copy = other.url("/f");
    let digest = STANDARD.encode(sha2::Sha256::digest(&*file.bytes));
    let link = format!("Digest: SHA-256={digest}\r\nLink: <{copy}>; rel=duplicate\r\n");
    let document = metalink_to(&copy);
    let server = Server::start(move |request| match request.target.as_str() {
        // The digest lets the mirror go on where this one breaks off.
        "/f" => {
            let head = file.head("200 OK", file.len(), &link);
            vec![Act::Send([&head, &file.bytes[..500]].concat()), Act::Close]
        }
        _ => {
            let fields = format!(
                "Content-Type: application/metalink4+xml\r\nContent-Length: {}",
                document.len()
            );
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{document}");
            vec![Act::Send(answer.into_bytes())]
        }
    });
    let client = Client::new();
    std::fs::write(client.path("here.meta4"), metalink_to(&copy)).unwrap();
    for (number, place) in ["here.meta4", &server.url("/there"), &server.url("/f")]
        .into_iter()
        .enumerate()
    {
        client
            .get(&[&login[..], &[place]].concat())
            .assert_status(0);
        assert!(other.requests().len() > number, "{place} led there");
    }
    let told = server.requests();
    assert!(told.iter().all(|it| it.field("authorization").is_some()));
    for request in other.requests() {
        assert_eq!(request.field("authorization"), None, "{}", request.target);
    }
    let mirror = ["here.meta4", "--mirror", &copy];
    client.get(&[&login[..], &mirror].concat()).assert_status(0);
    let told = other.requests().pop().unwrap();
    assert!(told.field("authorization").is_some(), "the user named it");
}

#[test]
fn a_client_certificate_goes_to_named_servers_alone() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let keys = tempfile::tempdir().unwrap();
    let path = |name: &str| keys.path().join(name);
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    authority.write(&path("ca.pem"));
    let mine = clients.sign(&["me"], |_| {});
    mine.write(&path("mine.pem"), &path("mine.key"));
    let [ca, cert, key] =
        ["ca.pem", "mine.pem", "mine.key"].map(|it| path(it).display().to_string());
    let get = |arguments: &[&str]| {
        let known = ["--cacert", &ca, "--cert", &cert, "--key", &key];
        client.get(&[&known[..], &["-f", "-s1", "--retries", "0"], arguments].concat())
    };
    for version in [&TLS12, &TLS13] {
        let front = |server: &Server| {
            let leaf = authority.sign(&["127.0.0.1"], |_| {});
            let config = leaf.config_of(Some(&clients), &[version]);
            Front::start(server.address, config, Ending::CloseNotify)
        };
        let server = Server::of(file.clone());
        let other = front(&server);
        let copy = other.url("/f");
        let (document, location) = (metalink_to(&copy), copy.clone());
        let named = Server::start(move |request| {
            let answer = match request.target.as_str() {
                "/f" => format!("302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"),
                _ => format!(
                    "200 OK\r\nContent-Type: application/metalink4+xml\r\nContent-Length: {}\r\n\r\n{document}",
                    document.len()
                ),
            };
            vec![Act::Send(format!("HTTP/1.1 {answer}").into_bytes())]
        });
        let named_front = front(&named);
        std::fs::write(client.path("here.meta4"), metalink_to(&copy)).unwrap();
        let (redirect, there) = (named_front.url("/f"), named_front.url("/there"));
        for place in ["here.meta4", &redirect, &there] {
            let ran = get(&[place]);
            assert_ne!(ran.status, Some(0), "{place}");
            ran.assert_says("client certificate");
        }
        assert!(!named.requests().is_empty());
        assert!(other.handshakes().is_empty(), "{:?}", other.handshakes());
        for place in ["here.meta4", &redirect, &there] {
            get(&[place, "--mirror", &copy]).assert_status(0);
        }
        assert!(!other.handshakes().is_empty());
    }
}

#[test]
fn passwords_are_not_on_the_screen() {
    let client = Client::new();
    for url in [
        "https://user:s3cret@127.0.0.1/x",
        "http://user:s3cret@h:99999/x",
        "http://user:s3cret@127.0.0.1:1/x",
        "http://user:s3cret@127.0.0.1:1/",
    ] {
        for more in [&[][..], &["--json"]] {
            let arguments: Vec<_> = ["--retries", "0", url]
                .into_iter()
                .chain(more.iter().copied())
                .collect();
            let ran = client.get(&arguments);
            assert_ne!(ran.status, Some(0));
            assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
            assert!(!String::from_utf8_lossy(&ran.stdout).contains("s3cret"));
        }
    }
    let ran = client.get(&["-H", "s3cret", "127.0.0.1:1/x"]);
    ran.assert_status(2);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

#[test]
fn what_opens_a_file_is_neither_on_the_screen_nor_in_the_state() {
    use std::os::unix::fs::PermissionsExt;
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        assert!(request.target.contains("s3cret"), "{}", request.target);
        match request.number {
            0 => vec![Act::Send(served.whole()[..1 << 19].to_vec()), Act::Close],
            1..=3 => vec![Act::Send(served.head("503 Busy", 0, ""))],
            4 => vec![Act::Send(served.head(
                "302 Found",
                0,
                "Location: /g?key=s3cret2\r\n",
            ))],
            5 => vec![Act::Send(served.head("403 Forbidden", 0, ""))],
            _ => vec![Act::Send(served.answer(request))],
        }
    });
    let url = server.url("/f?name=disk&X-Amz-Signature=s3cret");
    for (arguments, status) in [
        (&["--retries", "0"][..], 5),
        (&["--retries", "2"], 4),
        (&["--json"], 3),
    ] {
        let ran = client.get(&[arguments, &[&url]].concat());
        ran.assert_status(status);
        let said = format!("{}{}", ran.stderr, String::from_utf8_lossy(&ran.stdout));
        assert!(!said.contains("s3cret"), "{said}");
        let path = client.path("f.part.state");
        let state = std::fs::read_to_string(&path).unwrap();
        assert!(!state.contains("s3cret"), "{state}");
        assert!(
            state.contains("/f?name=disk&X-Amz-Signature=***#"),
            "{state}"
        );
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for bad in ["http://h:99999/x?token=s3cret", "ftp://h/x?token=s3cret"] {
        let ran = client.get(&[bad]);
        ran.assert_status(2).assert_says("token=***");
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    }
    client.get(&[&url]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn an_odd_proxy_matters_only_where_it_would_be_used() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    let mut command = client.command(&[&server.url("/f")]);
    command
        .env("http_proxy", "https://u:s3cret@proxy")
        .env("no_proxy", "127.0.0.0/8");
    finish(command.spawn().unwrap()).assert_status(0);
    let mut command = client.command(&["-o", "g", &server.url("/f")]);
    command.env("http_proxy", "https://u:s3cret@proxy");
    let ran = finish(command.spawn().unwrap());
    ran.assert_status(2).assert_says("***@proxy");
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

#[test]
fn a_socks_proxy_resolves_the_name() {
    let client = Client::new();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let file = Served::new(1, 1000);
    let whole = file.whole();
    let serving = thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut take = |count: usize, answer: &[u8]| {
            let mut bytes = vec![0; count];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(answer).unwrap();
            bytes
        };
        assert_eq!(take(3, &[5, 2]), [5, 1, 2]);
        assert_eq!(take(5, &[1, 0]), [1, 1, b'u', 1, b'p']);
        let asked = take(4 + 1 + 12 + 2, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&asked[..5], [5, 1, 0, 3, 12]);
        assert_eq!(&asked[5..], b"name.invalid\0\x50");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(&whole).unwrap();
        String::from_utf8(request).unwrap()
    });
    let mut command = client.command(&["--segments", "1", "http://name.invalid/f"]);
    command.env("all_proxy", format!("socks5h://u:p@{address}"));
    finish(command.spawn().unwrap()).assert_status(0);
    assert!(serving.join().unwrap().starts_with("GET /f HTTP/1.1\r\n"));
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_socks_proxy_that_drips_is_given_up() {
    let client = Client::new();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        stream.read_exact(&mut [0; 4 + 1 + 12 + 2]).unwrap();
        stream.write_all(&[5, 0, 0, 3, 255]).unwrap();
        // The name of the proxy's own end, and its port.
        for _ in 0..257 {
            thread::sleep(Duration::from_millis(5));
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let _ = stream.write_all(answer);
        let _ = stream.read(&mut [0; 4096]);
    });
    let arguments = ["--retries", "0", "--stall-timeout", "500ms"];
    let mut command = client.command(&[&arguments[..], &["http://name.invalid/f"]].concat());
    command.env("all_proxy", format!("socks5h://{address}"));
    finish(command.spawn().unwrap())
        .assert_status(4)
        .assert_says("nothing came for 500ms");
    serving.join().unwrap();
}
