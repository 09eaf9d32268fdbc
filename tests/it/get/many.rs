//! Many files: lists, several at once, whole directories.

use std::process::{Command, Stdio};

use sha2::Digest;

use super::support::{
    Act, Client, MODIFIED, Ran, Request, Served, Server, assert_same, cut, finish,
};

#[test]
fn several_addresses_at_once() {
    let client = Client::new();
    let server = Server::start(|request| {
        let seed: u64 = request.target[1..].parse().unwrap();
        vec![Act::Send(Served::new(seed, 200_000).answer(request))]
    });
    let urls: Vec<String> = (0..12)
        .map(|seed| server.url(&format!("/{seed}")))
        .collect();
    let list = format!("# a list\n\n{}\n  {}\n", urls[10], urls[11]);
    std::fs::write(client.path("list"), list).unwrap();
    let mut arguments = vec!["-P", "4", "-i", "list", "-d", "."];
    arguments.extend(urls[..10].iter().map(String::as_str));
    client
        .get(&arguments)
        .assert_status(0)
        .assert_says("12 files");
    for seed in 0..12_u64 {
        assert_same(
            &client.path(&seed.to_string()),
            &Served::new(seed, 200_000).bytes,
        );
    }
    assert_eq!(client.names().len(), 13);
}

#[test]
fn one_that_fails_does_not_keep_the_others() {
    let client = Client::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/bad" => vec![Act::Send(
            b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )],
        _ => vec![Act::Send(Served::new(1, 1000).answer(request))],
    });
    let urls = [server.url("/a"), server.url("/bad"), server.url("/c")];
    client
        .get(&[&urls[0], &urls[1], &urls[2]])
        .assert_status(3)
        .assert_says("1 failed");
    assert_eq!(client.names(), ["a", "c"]);
}

#[test]
fn a_list_with_a_mistake_says_where() {
    let client = Client::new();
    std::fs::write(client.path("list"), "host/a\nftp://host/b\n").unwrap();
    client
        .get(&["-i", "list"])
        .assert_status(2)
        .assert_says("line 2");
}

const HTML: [(&str, &str); 3] = [
    (
        "/pub/",
        "<h1>Index</h1><a href='../'>up</a> <a href='?C=M'>sort</a> <a href='one'>one</a>\
         <a href='sub/'>sub</a> <a href='http://127.0.0.1:9/x'>away</a> <a href='/etc/passwd'>no</a>\
         <a href='..%2f..%2fevil'>evil</a> <a href='%2e%2e/evil2'>evil</a> <a href='one'>again</a>",
    ),
    (
        "/pub/sub/",
        "<a href='../'>up</a><a href='a%20b'>a b</a><a href='./'>self</a><a href='deep/'>d</a>",
    ),
    (
        "/pub/sub/deep/",
        "<a href='/pub/'>loop</a><a href='../../sub/'>loop</a><a href='-x'>x</a>",
    ),
];

const JSON: [(&str, &str); 3] = [
    (
        "/pub/",
        r#"[{"name":"one","kind":"file"},{"name":"sub","kind":"directory"},{"name":"../evil","kind":"file"}]"#,
    ),
    (
        "/pub/sub/",
        r#"[{"name":"a b","kind":"file","size":1},{"name":"deep","kind":"directory","size":null}]"#,
    ),
    (
        "/pub/sub/deep/",
        r#"[{"name":"-x","kind":"file"},{"name":"..","kind":"directory"}]"#,
    ),
];

fn listing(request: &Request, pages: &[(&str, &str)], kind: &str) -> Vec<Act> {
    let page = pages.iter().find(|(path, _)| *path == request.target);
    let answer = match page {
        Some((_, text)) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .into_bytes(),
        None => {
            let file = Served::new(request.target.len() as u64, 1000);
            match request.method.as_str() {
                "HEAD" => file.head("200 OK", file.len(), ""),
                _ => file.answer(request),
            }
        }
    };
    vec![Act::Send(answer)]
}

fn recurses(pages: [(&'static str, &'static str); 3], kind: &'static str) {
    let client = Client::new();
    let server = Server::start(move |request| listing(request, &pages, kind));
    let url = server.url("/pub/");
    client
        .get(&["-r", "-P", "2", "-d", "here", &url])
        .assert_status(0);
    for (path, target) in [
        ("one", "/pub/one"),
        ("sub/a b", "/pub/sub/a%20b"),
        ("sub/deep/-x", "/pub/sub/deep/-x"),
    ] {
        let path = client.path("here/pub").join(path);
        assert_same(&path, &Served::new(target.len() as u64, 1000).bytes);
        let modified = path.metadata().unwrap().modified().unwrap();
        assert_eq!(httpdate::fmt_http_date(modified), MODIFIED);
    }
    assert!(!client.path("evil").exists() && !client.path("here/evil").exists());
    let asked = server.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.target.starts_with("/pub/")),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|request| !request.target.contains("passwd"))
    );

    // Again: everything is there, and no file is requested.
    let files = |requests: &[Request]| {
        let files = requests
            .iter()
            .filter(|r| r.method == "GET" && !r.target.contains("format="));
        files.filter(|r| !r.target.ends_with('/')).count()
    };
    let before = files(&server.requests());
    client.get(&["-r", "-d", "here", &url]).assert_status(0);
    client
        .get(&["-r", "-d", "here", "--skip-existing", &url])
        .assert_status(0);
    assert_eq!(files(&server.requests()), before, "the listings only");
    client
        .get(&["-r", "-d", "here", "--existing", "fail", &url])
        .assert_status(6);
    // A file that has another size is neither the same nor overwritten.
    std::fs::write(client.path("here/pub/one"), b"mine").unwrap();
    client
        .get(&["-r", "-d", "here", "--skip-existing", &url])
        .assert_status(6);
    assert_same(&client.path("here/pub/one"), b"mine");
    // Unless it may be replaced; the others still need not come again.
    let before = files(&server.requests());
    client
        .get(&["-r", "-d", "here", "-N", &url])
        .assert_status(0);
    assert_eq!(files(&server.requests()) - before, 1);
    let target = "/pub/one";
    assert_same(
        &client.path("here/pub/one"),
        &Served::new(target.len() as u64, 1000).bytes,
    );
}

#[test]
fn html_indexes_are_followed_downwards() {
    recurses(HTML, "text/html; charset=utf-8");
}

#[test]
fn json_listings_are_followed_downwards() {
    recurses(JSON, "application/json");
}

fn sha256(bytes: &[u8]) -> String {
    let sum = sha2::Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first line of a file does not hide the others.
#[test]
fn a_list_with_several_sums_of_a_file_is_held_by_the_strongest() {
    let file = Served::new(1, 1000);
    let server = Server::of(file.clone());
    let sha256 = sha256(&file.bytes);
    let sha512 = sha2::Sha512::digest(&*file.bytes);
    let sha512: String = sha512.iter().map(|byte| format!("{byte:02x}")).collect();
    let (no256, no512) = ("0".repeat(64), "0".repeat(128));
    for (list, status, requests) in [
        (
            format!("SHA512 (f) = {sha512}\nSHA256 (f) = {no256}\n"),
            7,
            1,
        ),
        (
            format!("SHA512 (f) = {no512}\nSHA256 (f) = {sha256}\n"),
            0,
            1,
        ),
        (format!("{sha256}  f\n{sha256} *f\n"), 0, 1),
        (format!("{sha256}  f\n{no256}  f\n"), 7, 0),
        (format!("{no256}  f\n{sha256}  ./f\n"), 7, 0),
    ] {
        let (client, before) = (Client::new(), server.requests().len());
        std::fs::write(client.path("SUMS"), &list).unwrap();
        let ran = client.get(&["--checksum", "SUMS", &server.url("/f")]);
        assert_eq!(ran.status, Some(status), "{list}: {}", ran.stderr);
        assert_eq!(client.path("f").exists(), status == 0, "{list}");
        let asked = server.requests().len() - before;
        assert!((asked > 0) == (requests > 0), "{list}: {asked}");
    }
}

#[test]
fn sums_of_many_files() {
    let client = Client::new();
    let server = Server::start(|request| vec![Act::Send(Served::new(1, 1000).answer(request))]);
    let good = sha256(&Served::new(1, 1000).bytes);
    let bad = sha256(b"something else");
    std::fs::write(client.path("SUMS"), format!("{good}  a\n{bad} *b\n")).unwrap();
    let (a, b, c) = (server.url("/a"), server.url("/b"), server.url("/c"));
    client
        .get(&["--checksum", "SUMS", &a])
        .assert_status(0)
        .assert_says("verified");
    client
        .get(&["--checksum", "SUMS", &b])
        .assert_status(7)
        .assert_says("not the expected");
    client
        .get(&["--checksum", "SUMS", &c])
        .assert_status(7)
        .assert_says("has none for c");
    client
        .get(&["--sha256", &good, "-o", "d", &a])
        .assert_status(0);
    assert_eq!(client.names(), ["SUMS", "a", "b.part", "b.part.state", "d"]);
    client.get(&["--sha256", "12", &a]).assert_status(2);
    client
        .get(&["--checksum", "nosuch", &a])
        .assert_status(2)
        .assert_says("nosuch");
}

/// A run with so many KiB of memory of its own, thread stacks and all.
fn get_within(client: &Client, kib: u32, arguments: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command
        .current_dir(client.directory.path())
        .args(["-c", &format!("ulimit -d {kib}; exec \"$0\" get -q \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_haul"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

#[test]
fn a_list_of_sums_from_a_server_does_not_fill_the_memory() {
    let (file, sum) = (Served::new(1, 1000), "0".repeat(64));
    let good = sha256(&file.bytes);
    let served = file.clone();
    let server = Server::start(move |request| {
        let (mut body, right) = (Vec::new(), format!("\n{good}  f\n"));
        let piece = match request.target.as_str() {
            "/line" => "x".repeat(16_000),
            "/lines" => format!("{sum}  {}\n", "n".repeat(15_000)),
            _ => return vec![Act::Send(served.answer(request))],
        };
        let length = match request.target.as_str() {
            "/line" => 80 << 20,
            _ => 180 << 20,
        };
        while body.len() < length {
            body.extend_from_slice(piece.as_bytes());
        }
        body.extend_from_slice(right.as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        vec![Act::Send(head.into_bytes()), Act::Send(body)]
    });
    let (client, url) = (Client::new(), server.url("/f"));
    let list = |path: &str| server.url(path);
    get_within(&client, 64 << 10, &["--checksum", &list("/line"), &url]).assert_status(0);
    client.assert_whole("f", &file.bytes);
    get_within(
        &client,
        300 << 10,
        &["-f", "--checksum", &list("/lines"), &url],
    )
    .assert_status(7)
    .assert_says("more sums than fit");
}

#[test]
fn a_part_file_in_a_tree_is_not_put_in_the_place_of_ours() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let (served, other) = (file.clone(), Served::new(2, 1000));
    let server = Server::start(move |request| match request.target.as_str() {
        "/in/" => listing(
            request,
            &[("/in/", "<a href='f.part'>1</a><a href='f'>2</a>")],
            "text/html",
        ),
        "/in/f.part" => vec![Act::Send(other.answer(request))],
        _ if request.range().is_none() => vec![Act::Send(cut(&served.whole(), 80)), Act::Close],
        _ => vec![Act::Send(served.answer(request))],
    });
    let single = server.url("/in/f");
    client
        .get(&["--retries", "0", "-o", "in/f", &single])
        .assert_status(6);
    std::fs::create_dir(client.path("in")).unwrap();
    client
        .get(&["--retries", "0", "-o", "in/f", &single])
        .assert_status(5);
    client
        .get(&["-r", "--force", &server.url("/in/")])
        .assert_status(0);
    assert_same(&client.path("in/f"), &file.bytes);
    assert_same(&client.path("in/f.part"), &Served::new(2, 1000).bytes);
    assert!(server.requests().last().unwrap().range().is_some());
}

#[test]
fn a_chosen_name_goes_into_the_chosen_directory() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let server = Server::of(file.clone());
    std::fs::create_dir(client.path("in")).unwrap();
    client
        .get(&["-d", "in", "-o", "name", &server.url("/f")])
        .assert_status(0);
    assert_eq!(client.names(), ["in"]);
    assert_same(&client.path("in/name"), &file.bytes);
    let absolute = client.path("absolute").display().to_string();
    client
        .get(&["-d", "in", "-o", &absolute, &server.url("/f")])
        .assert_status(0);
    assert_same(&client.path("absolute"), &file.bytes);
}

#[test]
fn of_several_files_every_word_says_which_it_is_about() {
    let client = Client::new();
    let file = Served::new(1, 1000);
    let server = Server::start(move |request| match request.target.as_str() {
        "/a" => vec![Act::Send(file.answer(request))],
        _ => vec![Act::Send(cut(&file.whole(), 80)), Act::Close],
    });
    let (a, b) = (server.url("/a"), server.url("/b"));
    client
        .get(&["--retries", "0", &a, &b])
        .assert_status(5)
        .assert_says(&format!("{b}: the connection closed before the end"));
}
