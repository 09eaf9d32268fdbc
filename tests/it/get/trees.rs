//! Trees as servers really list them: loops, pages, other formats, odd names, a million entries.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;

use super::support::{Act, Client, Request, Served, Server, assert_same};
use crate::support::TestServer;

fn ok(kind: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
    vec![Act::Send(format!("{head}\r\n{body}").into_bytes())]
}

fn not_found() -> Vec<Act> {
    vec![Act::Send(
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
    )]
}

/// A file of 1,000 bytes that its address decides about.
fn file(request: &Request) -> Vec<Act> {
    let file = Served::new(seed(&request.target), 1000);
    match request.method.as_str() {
        "HEAD" => vec![Act::Send(file.head("200 OK", file.len(), ""))],
        _ => vec![Act::Send(file.answer(request))],
    }
}

fn seed(target: &str) -> u64 {
    target
        .bytes()
        .fold(7, |hash, byte| hash * 31 % 1_000_003 + u64::from(byte))
}

fn bytes(target: &str) -> Vec<u8> {
    Served::new(seed(target), 1000).bytes.to_vec()
}

/// A server whose directories are `pages`, whatever the query, and whose other paths are files.
fn tree(kind: &'static str, pages: &'static [(&'static str, &'static str)]) -> Server {
    Server::start(move |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        match pages.iter().find(|(page, _)| *page == path) {
            Some((_, text)) => ok(kind, text),
            None if path.ends_with('/') => not_found(),
            None => file(request),
        }
    })
}

#[test]
fn links_to_the_directory_itself_are_listed_once() {
    let client = Client::new();
    let served = TestServer::start();
    served.put("f", b"once");
    symlink(".", served.root().join("a")).unwrap();
    symlink(".", served.root().join("b")).unwrap();
    client
        .get(&["-r", "-d", "here", &format!("http://{}/", served.address())])
        .assert_status(0)
        .assert_says("left out");
    let mut names: Vec<_> = walk(&client.path("here"));
    names.sort();
    assert_eq!(names, ["f"]);
}

#[test]
fn sibling_links_to_one_directory_are_fetched_once_and_links_out_named() {
    let client = Client::new();
    let served = TestServer::start();
    served.put("real/f", b"once");
    symlink("real", served.root().join("alias")).unwrap();
    symlink("/nowhere/else", served.root().join("away")).unwrap();
    let url = format!("http://{}/", served.address());
    let output = client.get(&["-r", "-d", "here", &url]);
    output.assert_status(0);
    output.assert_says("away: a link that leads out of what is served, left out");
    output.assert_says("the same directory as another one");
    assert_eq!(walk(&client.path("here")).len(), 1);
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            let below = walk(&entry.path());
            found.extend(below.into_iter().map(|it| format!("{name}/{it}")));
        } else {
            found.push(name);
        }
    }
    found
}

#[test]
fn a_loop_without_metadata_is_told_by_its_files() {
    let client = Client::new();
    // Each directory has a link `loop` to itself, and every `f` is the same file.
    let server = Server::start(|request| {
        let path = request.target.split('?').next().unwrap_or_default();
        match path.ends_with('/') {
            true => ok(
                "text/html",
                "<title>Index of x</title><a href='f'>f</a><a href='loop/'>l</a>",
            ),
            false => vec![Act::Send(Served::new(1, 1000).answer(request))],
        }
    });
    client
        .get(&["-r", "-d", "here", &server.url("/")])
        .assert_status(0)
        .assert_says("left out");
    assert_eq!(walk(&client.path("here")), ["f"]);
}

#[test]
fn directories_that_look_alike_are_not_taken_for_one() {
    let client = Client::new();
    let server = tree(
        "text/html",
        &[
            (
                "/",
                "<title>Index of /</title><a href='f'>f</a><a href='x/'>x</a>",
            ),
            (
                "/x/",
                "<title>Index of /x</title><a href='f'>f</a><a href='x/'>x</a>",
            ),
            ("/x/x/", "<title>Index of /x/x</title><a href='g'>g</a>"),
        ],
    );
    client
        .get(&["-r", "-d", "here", &server.url("/")])
        .assert_status(0);
    for name in ["f", "x/f", "x/x/g"] {
        assert_same(&client.path("here").join(name), &bytes(&format!("/{name}")));
    }
}

#[test]
fn a_tree_without_end_has_one_and_fails() {
    let client = Client::new();
    let server = Server::start(|request| {
        let depth = request.target.len();
        let page = format!("<title>Index of</title><a href='d{depth}/'>d</a>");
        ok("text/html", &page)
    });
    client
        .get(&["-r", &server.url("/")])
        .assert_status(4)
        .assert_says("directories deep");
    assert!(server.requests().len() < 200);
    client
        .get(&["-r", "--depth", "2", &server.url("/")])
        .assert_status(0)
        .assert_says("deeper than --depth 2");
}

#[test]
fn a_directory_with_an_index_page_is_fetched_whole() {
    let client = Client::new();
    let served = TestServer::start();
    served.put("idx/index.html", b"<a href='one.bin'>1</a>");
    for name in ["one.bin", "two.bin", "three.bin"] {
        served.put(&format!("idx/{name}"), name.as_bytes());
    }
    client
        .get(&["-r", &format!("http://{}/idx/", served.address())])
        .assert_status(0);
    let mut names = walk(&client.path("idx"));
    names.sort();
    assert_eq!(names, ["index.html", "one.bin", "three.bin", "two.bin"]);
}

#[test]
fn a_page_that_is_no_listing_is_said_to_be_one_and_fetched() {
    let client = Client::new();
    const PAGE: &str = "<title>Welcome</title><a href='one.bin'>1</a>";
    let server = tree("text/html", &[("/pub/", PAGE)]);
    client
        .get(&["-r", &server.url("/pub/")])
        .assert_status(0)
        .assert_says("a page, not a listing");
    assert_same(&client.path("pub/index.html"), PAGE.as_bytes());
    assert_same(&client.path("pub/one.bin"), &bytes("/pub/one.bin"));
}

#[test]
fn nothing_found_is_never_a_success_without_a_word() {
    for (kind, page) in [
        ("text/html", "<title>Files</title><script>load()</script>"),
        (
            "text/html",
            "<title>Index of /</title><table><tr onclick='go()'><td>f</table>",
        ),
        ("text/html", "<p>nothing here"),
        (
            "text/html",
            "<title>Index of /</title><base href='http://other/'><a href='f'>f</a>",
        ),
        ("text/xml", "<rss><channel></channel></rss>"),
        ("application/json", "{\"error\": \"no\"}"),
        ("text/plain", "hello"),
    ] {
        let client = Client::new();
        let server = Server::start(move |_| ok(kind, page));
        let ran = client.get(&["-r", &server.url("/pub/")]);
        assert!(matches!(ran.status, Some(3 | 4)), "{page}: {ran:?}");
        assert!(ran.stderr.contains("/pub/"), "{page}: {ran:?}");
        assert!(client.names().is_empty(), "{page}: {:?}", client.names());
    }
    for (kind, page) in [
        ("text/html", "<title>Index of /</title><a href='../'>..</a>"),
        ("application/json", "[]"),
    ] {
        let client = Client::new();
        let server = Server::start(move |_| ok(kind, page));
        client
            .get(&["-r", &server.url("/pub/")])
            .assert_status(0)
            .assert_says("nothing in it");
    }
}

#[test]
fn listings_in_xml_are_followed() {
    let client = Client::new();
    let server = tree(
        "text/xml",
        &[
            (
                "/n/",
                "<?xml version=\"1.0\"?><list><directory>d</directory><file size=\"1000\">a b</file></list>",
            ),
            (
                "/n/d/",
                "<?xml version=\"1.0\"?><list><file>c</file></list>",
            ),
            (
                "/s3/",
                "<ListBucketResult><Name>s3</Name><IsTruncated>false</IsTruncated>\
                 <Contents><Key>x/y</Key><Size>1000</Size></Contents></ListBucketResult>",
            ),
        ],
    );
    client
        .get(&["-r", &server.url("/n/"), &server.url("/s3/")])
        .assert_status(0);
    assert_same(&client.path("n/a b"), &bytes("/n/a%20b"));
    assert_same(&client.path("n/d/c"), &bytes("/n/d/c"));
    assert_same(&client.path("s3/x/y"), &bytes("/s3/x/y"));
}

#[test]
fn links_are_read_as_browsers_read_them() {
    let client = Client::new();
    let server = Server::start(|request| {
        match request.target.split('?').next().unwrap_or_default() {
            // The same directory, spelled otherwise.
            "/~u/" => ok(
                "text/html",
                "<title>Index of ~u</title><a href='/%7Eu/one'>1</a><a href='sub'>s</a>",
            ),
            // A directory that is linked without its slash.
            "/~u/sub" => vec![Act::Send(
                b"HTTP/1.1 301 Moved\r\nLocation: sub/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )],
            "/~u/sub/" => ok(
                "text/html",
                "<base href='/~u/sub/deep/'><title>Index of</title><a href='two'>2</a>",
            ),
            path if path.ends_with('/') => not_found(),
            _ => file(request),
        }
    });
    client.get(&["-r", &server.url("/~u/")]).assert_status(0);
    assert_same(&client.path("~u/one"), &bytes("/%7Eu/one"));
    assert_same(&client.path("~u/sub/deep/two"), &bytes("/~u/sub/deep/two"));
    assert_eq!(walk(&client.path("~u")).len(), 2);
}

#[test]
fn names_keep_their_bytes_and_never_become_one() {
    const NAMES: [&str; 14] = [
        "-x",
        "_x",
        ".hidden",
        "_hidden",
        "%20a%20",
        "a",
        "b%1b",
        "b_",
        "%ff",
        "%fe",
        "c%5cd",
        "d",
        "f.part.state~",
        "..%2fup",
    ];
    let client = Client::new();
    let server =
        Server::start(
            |request| match request.target.split('?').next().unwrap_or_default() {
                "/t/" => {
                    let links = NAMES
                        .map(|name| format!("<a href='./{name}'>x</a>"))
                        .concat();
                    ok("text/html", &format!("<title>Index of /t</title>{links}"))
                }
                _ => file(request),
            },
        );
    for more in [&[][..], &["-f"]] {
        let url = server.url("/t/");
        let arguments: Vec<_> = ["-r", "-P", "3", &url]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        client
            .get(&arguments)
            .assert_status(0)
            .assert_says("here it is t/..%2Fup");
        assert_eq!(walk(&client.path("t")).len(), NAMES.len());
        assert_eq!(client.names(), ["t"]);
        assert_same(&client.path("t/-x"), &bytes("/t/-x"));
        assert_same(&client.path("t/_x"), &bytes("/t/_x"));
        assert_same(&client.path("t/f.part.state~_"), &bytes("/t/f.part.state~"));
    }
}

#[test]
fn a_name_that_is_too_long_here_costs_its_file_alone() {
    let (client, long) = (Client::new(), "n".repeat(300));
    let page = format!(r#"[{{"name":"{long}1"}},{{"name":"{long}2"}},{{"name":"f"}}]"#);
    let server = Server::start(move |request| match request.target.ends_with("json") {
        true => ok("application/json", &page),
        false => file(request),
    });
    let ran = client.get(&["-r", &server.url("/t/")]);
    ran.assert_status(6);
    for number in 1..=2 {
        ran.assert_says(&format!("/t/{long}{number}: cannot"));
    }
    ran.assert_says("too long");
    assert_eq!(walk(&client.path("t")), ["f"]);
}

#[test]
fn a_file_and_a_directory_of_one_name_are_told() {
    let client = Client::new();
    let server = tree(
        "text/html",
        &[
            (
                "/t/",
                "<title>Index of</title><a href='x'>f</a><a href='x/'>d</a>",
            ),
            ("/t/x/", "<title>Index of</title><a href='y'>y</a>"),
        ],
    );
    let ran = client.get(&["-r", &server.url("/t/")]);
    assert_ne!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn files_are_chosen_by_globs() {
    let client = Client::new();
    let server = tree(
        "text/html",
        &[
            (
                "/t/",
                "<title>Index of</title><a href='a.iso'>a</a><a href='b'>b</a><a href='tmp/'>t</a><a href='d/'>d</a>",
            ),
            ("/t/tmp/", "<title>Index of</title><a href='c.iso'>c</a>"),
            (
                "/t/d/",
                "<title>Index of</title><a href='e.iso'>e</a><a href='f.txt'>f</a>",
            ),
        ],
    );
    client
        .get(&[
            "-r",
            "--include",
            "*.iso",
            "--exclude",
            "tmp",
            &server.url("/t/"),
        ])
        .assert_status(0);
    let mut names = walk(&client.path("t"));
    names.sort();
    assert_eq!(names, ["a.iso", "d/e.iso"]);
    let asked = server.requests();
    assert!(asked.iter().all(|it| !it.target.contains("tmp")));
}

#[test]
fn a_directory_without_recursive_is_no_file() {
    let client = Client::new();
    let served = TestServer::start();
    served.put("sub/f", b"f");
    client
        .get(&[&format!("http://{}/sub", served.address())])
        .assert_status(2)
        .assert_says("--recursive");
    assert!(client.names().is_empty());
    client
        .get(&["-r", &format!("http://{}/sub", served.address())])
        .assert_status(0);
    assert_same(&client.path("sub/f"), b"f");
    client
        .get(&[
            "-o",
            "page.html",
            &format!("http://{}/sub", served.address()),
        ])
        .assert_status(0);
}

/// Without a redirect to the slash, only the page itself shows it.
#[test]
fn a_listing_at_an_address_without_a_slash_is_no_file() {
    let pages: &[(&str, &str)] = &[
        (
            "/sub",
            "<title>Index of /sub</title><a href='../'>..</a><a href='f'>f</a>",
        ),
        (
            "/sub/",
            "<title>Index of /sub</title><a href='../'>..</a><a href='f'>f</a>",
        ),
        (
            "/page.html",
            "<title>Index of words</title><a href='f'>f</a>",
        ),
        ("/page", "<title>A page</title><a href='f'>f</a>"),
    ];
    let (client, server) = (Client::new(), tree("text/html", pages));
    client
        .get(&[&server.url("/sub")])
        .assert_status(2)
        .assert_says("--recursive");
    assert!(client.names().is_empty());
    client.get(&["-r", &server.url("/sub")]).assert_status(0);
    assert_same(&client.path("sub/f"), &bytes("/sub/f"));
    let names = [server.url("/page.html"), server.url("/page")];
    client.get(&[&names[0], &names[1]]).assert_status(0);
    client
        .get(&["-o", "index", &server.url("/sub")])
        .assert_status(0);
    assert_eq!(client.names(), ["index", "page", "page.html", "sub"]);
}

#[test]
fn a_file_and_one_called_like_its_part_file_are_both_fetched() {
    for names in ["f f.part f.part-new", "f.part-new f.part f", "f.part f"] {
        for length in [0, 1000] {
            let (client, names) = (Client::new(), names.to_owned());
            let listed = names.clone();
            let server = Server::start(move |request| match request.target.as_str() {
                "/t/?format=json" => {
                    let entry = |name| format!(r#"{{"name":"{name}","kind":"file"}}"#);
                    let entries: Vec<_> = listed.split(' ').map(entry).collect();
                    ok("application/json", &format!("[{}]", entries.join(",")))
                }
                "/t/f" => vec![Act::Send(Served::new(1, 2000).answer(request))],
                target => {
                    let seed = target.len() as u64;
                    vec![Act::Send(Served::new(seed, length).answer(request))]
                }
            });
            for _ in 0..2 {
                let arguments = ["-r", "-P", "1", "-f", &server.url("/t/")];
                client.get(&arguments).assert_status(0);
                assert_same(&client.path("t/f"), &Served::new(1, 2000).bytes);
                for name in names.split(' ').filter(|name| *name != "f") {
                    let seed = "/t/".len() + name.len();
                    let whole = Served::new(seed as u64, length).bytes;
                    // That one's name is taken whether it is used or not.
                    let name = name.replace("-new", "-new_");
                    assert_same(&client.path("t").join(name), &whole);
                }
            }
        }
    }
}

#[test]
fn a_directory_to_put_files_into_is_made() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    client
        .get(&["-d", "new/dir", &server.url("/f")])
        .assert_status(0);
    assert!(client.path("new/dir/f").exists());
}

#[test]
fn files_come_while_the_walk_goes_on() {
    let client = Client::new();
    let gate = super::support::Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| {
        match request.target.split('?').next().unwrap_or_default() {
            "/t/" => ok(
                "application/json",
                r#"[{"name":"sub","kind":"directory"},{"name":"a","kind":"file"}]"#,
            ),
            "/t/sub/" => {
                let mut acts = vec![Act::Hold(held.clone())];
                acts.extend(ok("application/json", r#"[{"name":"b","kind":"file"}]"#));
                acts
            }
            path => {
                // The walk still waits for the second listing.
                if path == "/t/a" {
                    gate.open();
                }
                file(request)
            }
        }
    });
    client.get(&["-r", &server.url("/t/")]).assert_status(0);
    assert_eq!(walk(&client.path("t")).len(), 2);
}

#[test]
fn directories_without_end_do_not_fill_the_memory() {
    let server = Server::start(|request| match request.target.split('?').next() {
        Some("/t/") => {
            let names = (0..200_000).map(|number| format!("{{\"name\":\"{number}/\"}}"));
            let names = names.collect::<Vec<_>>().join(",");
            ok("application/json", &format!("[{names}]"))
        }
        _ => vec![Act::Stall],
    });
    let client = Client::new();
    let mut child = client
        .command(&["-q", "-r", &server.url("/t/")])
        .spawn()
        .unwrap();
    // It says so before it lists the first of them.
    let said = BufReader::new(child.stderr.take().unwrap()).lines().next();
    child.kill().unwrap();
    child.wait().unwrap();
    let said = said.unwrap().unwrap();
    assert!(said.contains("more than 100000 directories"), "{said}");
}

#[test]
fn an_entry_without_end_does_not_fill_the_memory() {
    let long = "x".repeat(20 << 20);
    for (kind, text) in [
        ("application/json", format!("[{{\"name\":\"{long}\"}}]")),
        ("text/html", format!("<a href='{long}'>x</a>")),
        ("text/html", format!("<a href=x></a>{long}<a href=y>")),
        ("text/xml", format!("<list><file>{long}</file></list>")),
    ] {
        let server = Server::start(move |request| match request.target.split('?').next() {
            Some("/t/") => ok(kind, &text),
            _ => file(request),
        });
        let client = Client::new();
        client
            .get(&["-r", &server.url("/t/")])
            .assert_status(4)
            .assert_says("megabytes of it hold no entry");
        assert!(client.names().is_empty());
    }
}

#[test]
fn a_million_names_take_little_memory() {
    let client = Client::new();
    let server = Server::start(|request| match request.target.split('?').next() {
        Some("/t/") => {
            let mut text = String::from("[");
            for number in 0..300_000 {
                text.push_str(&format!(
                    "{{\"name\":\"a-file-with-a-rather-long-name-{number}\",\"kind\":\"file\",\"size\":1}},"
                ));
            }
            text.push_str("{\"name\":\"wanted\",\"kind\":\"file\"}]");
            ok("application/json", &text)
        }
        _ => file(request),
    });
    // The limit is on address space: libraries and thread stacks are in it.
    let url = server.url("/t/");
    let mut command = std::process::Command::new("sh");
    command
        .current_dir(client.directory.path())
        .args([
            "-c",
            "ulimit -d 65536; exec \"$0\" get -q -r --include wanted \"$1\"",
        ])
        .arg(env!("CARGO_BIN_EXE_haul"))
        .arg(&url)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    super::support::finish(command.spawn().unwrap()).assert_status(0);
    assert_eq!(walk(&client.path("t")), ["wanted"]);
}
