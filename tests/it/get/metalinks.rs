//! Metalinks (RFC 5854), and mirrors in responses (RFC 6249).

use std::fs;

use base64::Engine as _;
use sha2::Digest as _;

use super::support::{Act, Client, Request, Served, Server, cut};

fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn document(name: &str, size: u64, hash: &str, urls: &[String]) -> String {
    let urls: String = urls
        .iter()
        .zip(1..)
        .map(|(url, priority)| format!("<url priority=\"{priority}\">{url}</url>"))
        .collect();
    format!(
        "<?xml version=\"1.0\"?><metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\
         <file name=\"{name}\"><size>{size}</size><hash type=\"sha-256\">{hash}</hash>{urls}</file>\
         </metalink>"
    )
}

/// Answers with `more` fields.
fn with_fields(answer: &[u8], more: &str) -> Vec<u8> {
    let line = answer.iter().position(|it| *it == b'\n').unwrap() + 1;
    [&answer[..line], more.as_bytes(), &answer[line..]].concat()
}

#[test]
fn a_metalink_here_or_there_gives_addresses_and_a_digest() {
    let file = Served::new(1, 300_000);
    let broken = Served::new(1, 300_000);
    let first =
        Server::start(move |request| vec![Act::Send(cut(&broken.answer(request), 40)), Act::Close]);
    // Another tag: the digest proves that it is the same file.
    let other = Server::of(Served {
        etag: Some("\"x\"".to_owned()),
        last_modified: None,
        ..file.clone()
    });
    let urls = [first.url("/a"), other.url("/b")];
    let text = document("dir/file.iso", file.len(), &sha256(&file.bytes), &urls);
    let client = Client::new();
    fs::write(client.path("x.meta4"), &text).unwrap();
    client
        .get(&["x.meta4"])
        .assert_status(0)
        .assert_says("verified");
    super::support::assert_same(&client.path("dir/file.iso"), &file.bytes);

    let server = Server::start(move |_: &Request| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/metalink4+xml\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        vec![Act::Send([head.as_bytes(), text.as_bytes()].concat())]
    });
    let client = Client::new();
    client.get(&[&server.url("/any")]).assert_status(0);
    super::support::assert_same(&client.path("dir/file.iso"), &file.bytes);
    assert_eq!(client.names(), ["dir"]);
    // With a file name the document itself is fetched.
    client
        .get(&["-o", "doc", &server.url("/any")])
        .assert_status(0);
    assert!(
        fs::read_to_string(client.path("doc"))
            .unwrap()
            .contains("<metalink")
    );
}

#[test]
fn a_metalink_of_another_file_makes_no_file() {
    let file = Served::new(2, 100_000);
    let server = Server::of(file.clone());
    let urls = [server.url("/f")];
    for (size, hash) in [
        (file.len(), sha256(b"x")),
        (file.len() + 1, sha256(&file.bytes)),
    ] {
        let client = Client::new();
        let text = document("f", size, &hash, &urls);
        fs::write(client.path("x.meta4"), text).unwrap();
        client.get(&["x.meta4"]).assert_status(7);
        assert!(!client.path("f").exists());
    }
    let client = Client::new();
    let text = document("../f", file.len(), &sha256(&file.bytes), &urls);
    fs::write(client.path("x.meta4"), text).unwrap();
    client
        .get(&["x.meta4"])
        .assert_status(2)
        .assert_says("no file name");
}

/// One address after the other, once the sum of what came is wrong.
#[test]
fn a_mirror_with_another_file_of_that_length_costs_only_time() {
    let (file, other) = (Served::new(6, 100_000), Served::new(7, 100_000));
    let (wrong, right) = (Server::of(other.clone()), Server::of(file.clone()));
    let also_wrong = Server::of(other);
    let gone = Server::start(|_| vec![Act::Reset]);
    for urls in [
        vec![wrong.url("/a"), gone.url("/b"), right.url("/c")],
        vec![wrong.url("/a"), right.url("/b")],
        vec![wrong.url("/a"), also_wrong.url("/b"), right.url("/c")],
    ] {
        let client = Client::new();
        let text = document("f", file.len(), &sha256(&file.bytes), &urls);
        fs::write(client.path("x.meta4"), text).unwrap();
        client.get(&["-s1", "x.meta4"]).assert_status(0);
        fs::remove_file(client.path("x.meta4")).unwrap();
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn duplicates_of_a_link_take_over_where_the_digest_proves_them() {
    let file = Served::new(3, 400_000);
    let other = Server::of(Served {
        etag: Some("\"other\"".to_owned()),
        last_modified: None,
        ..file.clone()
    });
    let digest = sha2::Sha256::digest(&*file.bytes);
    let digest = base64::engine::general_purpose::STANDARD.encode(digest);
    let more = format!(
        "Digest: SHA-256={digest}\r\nLink: <{}>; rel=duplicate; pri=1\r\n",
        other.url("/copy")
    );
    let served = file.clone();
    let first = Server::start(move |request| {
        let answer = with_fields(&served.answer(request), &more);
        vec![Act::Send(cut(&answer, 50)), Act::Close]
    });
    let client = Client::new();
    client
        .get(&["-s1", &first.url("/f")])
        .assert_status(0)
        .assert_says("verified");
    client.assert_whole("f", &file.bytes);
    assert!(!other.requests().is_empty());
}

/// RFC 6249: a server's word for a mirror is a digest.
#[test]
fn a_duplicate_without_a_digest_is_not_asked() {
    let (file, other) = (Served::new(8, 2_000_000), Served::new(9, 2_000_000));
    let mirror = Server::of(Served {
        etag: file.etag.clone(),
        ..other
    });
    let link = format!("Link: <{}>; rel=duplicate\r\n", mirror.url("/copy"));
    let served = file.clone();
    let first = Server::start(move |request| {
        let answer = with_fields(&served.answer(request), &link);
        match request.number {
            0 => vec![Act::Send(cut(&answer, 90)), Act::Close],
            _ => vec![Act::Send(answer)],
        }
    });
    let client = Client::new();
    let quick = ["--retry-wait", "10ms"];
    client
        .get(&[&quick[..], &["-s3", &first.url("/f")]].concat())
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert!(mirror.requests().is_empty());
}

#[test]
fn a_link_to_a_metalink_proves_the_file() {
    let file = Served::new(4, 100_000);
    let wrong = document(
        "f",
        file.len(),
        &sha256(b"another"),
        &["http://x.invalid/".to_owned()],
    );
    let served = file;
    let server = Server::start(move |request| {
        if request.target == "/f.meta4" {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", wrong.len());
            return vec![Act::Send([head.as_bytes(), wrong.as_bytes()].concat())];
        }
        let link = "Link: </f.meta4>; rel=describedby; type=\"application/metalink4+xml\"\r\n";
        vec![Act::Send(with_fields(&served.answer(request), link))]
    });
    let client = Client::new();
    let ran = client.get(&["-s1", "--retries", "1", &server.url("/f")]);
    ran.assert_status(7);
    assert!(!client.path("f").exists());
}

#[test]
fn a_wrong_length_costs_no_byte() {
    let file = Served::new(5, 100_000);
    let served = file.clone();
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
        _ => vec![Act::Send(served.answer(request))],
    });
    let client = Client::new();
    let url = server.url("/f");
    client
        .get(&["-s1", "--retries", "0", &url])
        .assert_status(5);
    let write = |size| {
        let text = document("f", size, &sha256(&file.bytes), std::slice::from_ref(&url));
        fs::write(client.path("f.meta4"), text).unwrap();
    };
    write(file.len() + 1);
    client
        .get(&["-s1", "f.meta4"])
        .assert_status(7)
        .assert_says("it has 100000 bytes, not 100001");
    super::support::assert_same(&client.path("f.part"), &file.bytes);
    let asked = server.requests().len();
    write(file.len());
    client.get(&["-s1", "f.meta4"]).assert_status(0);
    super::support::assert_same(&client.path("f"), &file.bytes);
    assert_eq!(server.requests().len(), asked);
}
