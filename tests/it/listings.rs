//! Directories over the wire: pages, JSON, NDJSON, redirects and their off-switches.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use haul::server::config::DotNames;
use haul::server::config::{IndexChoice, ListingChoice};
use serde_json::Value;

use crate::support::{Answer, TestServer};

#[test]
fn a_directory_is_a_json_array() {
    let server = TestServer::start();
    server.put("d/b.txt", "seven b");
    server.put("d/a.bin", "");
    server.put("d/sub/x", "x");
    let file = File::options()
        .write(true)
        .open(server.root().join("d/b.txt"));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.and_then(|file| file.set_modified(time))
        .expect("a time");
    let answer = listing(&server, "/d/?format=json", "");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("vary"), Some("Accept"));
    let entries: Vec<Value> = serde_json::from_slice(&answer.body).expect("JSON");
    let find = |name: &str| {
        entries
            .iter()
            .find(|entry| entry["name"] == name)
            .expect("listed")
    };
    assert_eq!(entries.len(), 3);
    let file = find("b.txt");
    assert_eq!((&file["kind"], &file["size"]), (&"file".into(), &7.into()));
    assert_eq!(file["mtime"], "2001-09-09T01:46:40Z");
    assert_eq!(find("a.bin")["size"], 0);
    assert_eq!(find("sub")["kind"], "directory");
    assert!(find("sub")["size"].is_null());
}

#[test]
fn names_that_are_not_shown_are_looked_at_in_steps_as_well() {
    let server = TestServer::start();
    fs::create_dir(server.root().join("d")).expect("a directory");
    for number in 0..10_000 {
        File::create(server.root().join(format!("d/{number}"))).expect("a file");
    }
    assert_eq!(listing(&server, "/d/?format=json&q=x", "").body, b"[]\n");
    // Others have their turn at the disk in between: a look-up and five steps at the least.
    let counters = server.counters();
    assert!(counters.disk_visits > 5, "{counters:#?}");
}

#[test]
fn the_form_is_by_accept_and_by_query() {
    let server = TestServer::start();
    server.put("d/a", "a");
    let html = "text/html; charset=utf-8";
    let (json, ndjson) = ("application/json", "application/x-ndjson");
    for (target, accept, media) in [
        ("/d/", "", html),
        ("/d/", "Accept: */*\r\n", html),
        ("/d/", "Accept: application/json\r\n", json),
        ("/d/", "Accept: application/x-ndjson\r\n", ndjson),
        (
            "/d/",
            "Accept: text/html;q=0.5, application/json;q=0.9\r\n",
            json,
        ),
        ("/d/", "Accept: application/json;q=0.5, text/html\r\n", html),
        ("/d/?format=json", "Accept: text/html\r\n", json),
        ("/d/?format=ndjson", "", ndjson),
        ("/d/?format=html", "Accept: application/json\r\n", html),
        ("/d/?format=unknown", "", html),
    ] {
        let answer = listing(&server, target, accept);
        assert_eq!(
            answer.field("content-type"),
            Some(media),
            "{target} {accept}"
        );
        let head = head(&server, target, accept);
        assert_eq!(
            head.field("content-type"),
            Some(media),
            "HEAD {target} {accept}"
        );
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let lines = text(&listing(&server, "/d/?format=ndjson", ""));
    assert_eq!(lines.lines().count(), 1);
    assert!(lines.ends_with('\n'));
    let empty = fs::create_dir(server.root().join("empty"));
    empty.expect("a directory");
    assert_eq!(text(&listing(&server, "/empty/?format=json", "")), "[]\n");
    assert_eq!(text(&listing(&server, "/empty/?format=ndjson", "")), "");
    assert!(text(&listing(&server, "/empty/", BROWSER)).contains("This folder is empty."));
}

#[test]
fn names_that_hurt_come_through() {
    let server = TestServer::start();
    let root = server.root().join("d");
    fs::create_dir(&root).expect("a directory");
    let names: BTreeSet<Vec<u8>> = NAMES.iter().map(|name| name.to_vec()).collect();
    for name in &names {
        fs::write(root.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let page = text(&listing(&server, "/d/", BROWSER));
    assert!(!page.contains("<script>alert"), "escaped");
    assert!(!page.contains("<img src"), "escaped");
    // Following each link of the page leads to the file of that name.
    let mut found = BTreeSet::new();
    for link in links(&page) {
        let answer = server.get(&format!("/d/{link}"), "");
        assert_eq!(answer.status, 200, "{link}");
        found.insert(answer.body);
    }
    assert_eq!(found, names);
    // And so it is in JSON, where what is no UTF-8 has an address.
    let json = listing(&server, "/d/?format=json", "").body;
    let entries: Vec<Value> = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(entries.len(), names.len());
    for entry in entries {
        let name = entry["name"].as_str().expect("a name");
        match entry.get("href").and_then(Value::as_str) {
            None => assert!(names.contains(name.as_bytes()), "{name}"),
            Some(href) => {
                let answer = server.get(&format!("/d/{href}"), "");
                assert!(names.contains(&answer.body), "{href}");
            }
        }
    }
}

#[test]
fn a_link_that_leads_out_is_shown_as_what_it_is() {
    let server = TestServer::start();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    server.put("d/file", "12345");
    symlink(outside.path(), server.root().join("d/o&ut")).expect("a link");
    symlink("/nowhere/at/all", server.root().join("d/away")).expect("a link");
    let page = text(&listing(&server, "/d/", BROWSER));
    assert_eq!(links(&page), ["file"]);
    assert!(page.contains("o&amp;ut") && page.contains("away"), "{page}");
    assert!(page.contains("link that leads out"), "{page}");
    let index = text(&listing(&server, "/d/", "Accept: */*\r\n"));
    let anchors: Vec<_> = index.split("href=\"").skip(1).collect();
    assert_eq!(anchors.len(), 2, "the parent and the file: {index}");
    assert!(
        index.contains("o&amp;ut (a link that leads out)"),
        "{index}"
    );
    for format in ["json", "ndjson"] {
        let target = format!("/d/?format={format}");
        let listing = text(&listing(&server, &target, ""));
        assert!(listing.contains(r#"{"name":"o&ut","kind":"link","size":null,"mtime":""#));
        let path = outside.path().to_str().expect("UTF-8");
        assert!(!listing.contains(path), "{listing}");
    }
}

#[test]
fn a_directory_has_one_identity_under_all_its_names() {
    let server = TestServer::start();
    server.put("one/f", "");
    server.put("two/f", "");
    symlink("one", server.root().join("alias")).expect("a link");
    let listing = listing(&server, "/?format=json", "");
    let array: Vec<Value> = serde_json::from_slice(&listing.body).expect("JSON");
    let id = |name: &str| {
        let entry = array.iter().find(|entry| entry["name"] == name);
        entry.expect("listed")["id"]
            .as_str()
            .expect("an identity")
            .to_owned()
    };
    assert_eq!(id("one"), id("alias"));
    assert_ne!(id("one"), id("two"));
    let inode = fs::metadata(server.root().join("one"))
        .expect("there")
        .ino();
    let shown = [
        inode.to_string(),
        format!("{inode:x}"),
        format!("{inode:016x}"),
    ];
    assert!(!shown.contains(&id("one")), "the number itself");
}

#[test]
fn what_is_not_served_is_not_listed() {
    let server = TestServer::start();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    server.put("d/file", "12345");
    server.put("d/.hidden", "hidden");
    server.put("inside/real", "real");
    let root = server.root();
    let link =
        |target: &Path, name: &str| symlink(target, root.join("d").join(name)).expect("a link");
    link(Path::new("file"), "to-file");
    link(Path::new("../inside"), "to-directory");
    link(Path::new("nowhere"), "broken");
    link(&outside.path().join("secret"), "out");
    link(outside.path(), "out-directory");
    let names = names(&server, "/d/?format=json");
    assert_eq!(
        names,
        ["file", "out", "out-directory", "to-directory", "to-file"]
    );
    for name in ["file", "to-directory", "to-file"] {
        let target = format!("/d/{name}");
        assert!(
            matches!(server.get(&target, "").status, 200 | 301),
            "{target}"
        );
    }
    for name in [
        "broken",
        "out",
        "out-directory/",
        "out-directory/secret",
        ".hidden",
    ] {
        let status = server.get(&format!("/d/{name}"), "").status;
        assert!(matches!(status, 403 | 404), "{name}: {status}");
    }
}

#[test]
fn hidden_names_are_listed_when_they_are_served() {
    let server = TestServer::with(|config| config.dot_names = DotNames::Shown);
    server.put("d/.hidden", "hidden");
    server.put("d/shown", "shown");
    assert_eq!(names(&server, "/d/?format=json"), [".hidden", "shown"]);
    assert_eq!(server.get("/d/.hidden", "").body, b"hidden");
}

#[test]
fn pages_are_sorted_and_filtered() {
    let server = TestServer::start();
    for (name, content) in [
        ("b.txt", "22"),
        ("a.txt", "333"),
        ("C.bin", "1"),
        ("dir/x", ""),
    ] {
        server.put(&format!("d/{name}"), content);
    }
    let order = |query: &str| links(&text(&listing(&server, &format!("/d/?{query}"), BROWSER)));
    assert_eq!(order("sort=size").last().map(String::as_str), Some("a.txt"));
    assert_eq!(
        order("sort=size&order=desc")
            .into_iter()
            .find(|name| name != "dir/")
            .as_deref(),
        Some("a.txt")
    );
    let ascending = order("sort=name");
    let mut descending = order("sort=name&order=desc");
    assert_ne!(ascending, descending);
    descending.sort();
    let mut sorted = ascending;
    sorted.sort();
    assert_eq!(sorted, descending);
    assert_eq!(sorted, ["C.bin", "a.txt", "b.txt", "dir/"]);
    let mut filtered = order("q=TXT");
    filtered.sort();
    assert_eq!(filtered, ["a.txt", "b.txt"]);
    let nothing = text(&listing(&server, "/d/?q=nothing", BROWSER));
    assert!(nothing.contains("No name here matches the filter."));
}

#[test]
fn a_directory_without_slash_is_redirected() {
    let server = TestServer::start();
    server.put("d e/f", "f");
    let answer = server.get("/d%20e?sort=size&q=f", "");
    assert_eq!(answer.status, 301);
    assert_eq!(answer.field("location"), Some("/d%20e/?sort=size&q=f"));
    assert_eq!(server.get("//d%20e", "").field("location"), Some("/d%20e/"));
}

#[test]
fn an_index_stands_for_its_directory_unless_it_is_switched_off() {
    let server = TestServer::start();
    server.put("d/index.html", "<p>index");
    let answer = server.get("/d/", "");
    assert_eq!(answer.body, b"<p>index");
    assert_eq!(
        answer.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(answer.field("etag").is_some());
    let part = server.get("/d/", "Range: bytes=0-2\r\n");
    assert_eq!(
        (part.status, part.body.as_slice()),
        (206, b"<p>".as_slice())
    );
    // A directory of that name is none.
    fs::create_dir_all(server.root().join("e/index.html")).expect("directories");
    assert!(text(&listing(&server, "/e/", BROWSER)).contains("index.html/"));

    let server = TestServer::with(|config| config.index = IndexChoice::Ignore);
    server.put("d/index.html", "<p>index");
    assert_eq!(names(&server, "/d/?format=json"), ["index.html"]);
    assert_eq!(server.get("/d/index.html", "").body, b"<p>index");
}

#[test]
fn without_listings_a_directory_is_not_found() {
    let server = TestServer::with(|config| config.listing = ListingChoice::Refuse);
    server.put("d/file", "file");
    server.put("e/index.html", "<p>index");
    for target in ["/", "/d/", "/d/?format=json"] {
        assert_eq!(server.get(target, "").status, 404, "{target}");
    }
    assert_eq!(server.get("/d/file", "").body, b"file");
    assert_eq!(server.get("/e/", "").body, b"<p>index");
}

/// RFC 9112 section 7.1: HTTP/1.0 has no chunks, so the close ends the body.
#[test]
fn http_1_0_gets_a_listing_until_the_close() {
    let server = TestServer::start();
    server.put("d/a", "a");
    let received =
        server.exchange("GET /d/?format=ndjson HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = Answer::parse(&received);
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(text(&answer).lines().count(), 1);
}

#[test]
fn the_connection_goes_on_behind_a_listing() {
    let server = TestServer::start();
    server.put("d/a", "a");
    let request = "GET /d/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /d/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let received = server.exchange([request, request, last].concat());
    let received = String::from_utf8_lossy(&received);
    assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(received.matches("\r\n0\r\n\r\n").count(), 2);
    assert!(received.ends_with("\r\n\r\na"));
}

#[test]
fn a_page_holds_what_a_strict_policy_allows() {
    let server = TestServer::start();
    server.put("d/a", "a");
    let answer = listing(&server, "/d/", BROWSER);
    let policy = answer.field("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = text(&answer);
    // Nothing comes from elsewhere, and nothing runs that the policy would have to excuse.
    for absent in [" onclick=", " style=", "<link", " src="] {
        assert!(!page.contains(absent), "{absent}");
    }
}

#[test]
fn twenty_thousand_names_are_all_there_in_every_form() {
    const NAMES: usize = 20_000;
    let server = TestServer::start();
    let directory = server.root().join("many");
    fs::create_dir(&directory).expect("a directory");
    let expected: BTreeSet<String> = (0..NAMES).map(|n| format!("file-{n:05}.bin")).collect();
    for name in &expected {
        File::create(directory.join(name)).expect("a file");
    }
    for (target, marks) in [("/many/?format=json", 2), ("/many/?format=ndjson", 0)] {
        let body = text(&listing(&server, target, ""));
        assert_eq!(body.lines().count(), NAMES + marks, "{target}");
    }
    let listed: BTreeSet<_> = names(&server, "/many/?format=json").into_iter().collect();
    assert_eq!(listed, expected);
    // Page by page, in order, none twice, and each page says of how many it is a part.
    let mut next = Some("/many/".to_owned());
    let mut seen = Vec::new();
    let mut pages = 0;
    while let Some(target) = next.take() {
        let page = text(&listing(&server, &target, BROWSER));
        assert!(page.contains("20,000 entries"), "{target}");
        seen.extend(links(&page));
        next = next_page(&page).map(|query| format!("/many/{query}"));
        pages += 1;
    }
    assert_eq!(pages, 20);
    assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
    let found = text(&listing(&server, "/many/?q=1999", BROWSER));
    assert_eq!(links(&found).len(), 12);
}

#[test]
fn programs_get_all_names_at_once_and_each_link_once() {
    const NAMES: usize = 2_500;
    let server = TestServer::start();
    server.put("d/<b> & c/x", "");
    for number in 0..NAMES {
        File::create(server.root().join(format!("d/{number}"))).expect("a file");
    }
    for (target, fields) in [
        ("/d/", ""),
        ("/d/", "Accept: */*\r\n"),
        ("/d/?q=", "Accept: */*\r\n"),
    ] {
        let index = text(&listing(&server, target, fields));
        let mut links: Vec<&str> = index
            .split("href=\"")
            .skip(1)
            .map(|rest| &rest[..rest.find('"').expect("a quote")])
            .collect();
        links.sort_unstable();
        let mut expected: Vec<String> = (0..NAMES).map(|number| number.to_string()).collect();
        expected.extend(["../".to_owned(), "%3Cb%3E%20%26%20c/".to_owned()]);
        expected.sort_unstable();
        assert_eq!(links, expected, "{target} {fields}");
    }
    // The links of all pages lead to each file and each page once.
    let page = text(&listing(&server, "/d/", BROWSER));
    for link in page.split("href=\"").skip(1) {
        let link = &link[..link.find('"').expect("a quote")];
        assert!(!link.contains("sort=") || link.contains("after="), "{link}");
        assert!(
            !link.contains("download") && !link.contains("format="),
            "{link}"
        );
    }
    // The buttons in their place.
    let largest = text(&listing(&server, "/d/?sort=-size", "Accept: */*\r\n"));
    assert!(largest.contains("aria-sort=\"descending\""));
}

/// The `Accept` field of a browser.
const BROWSER: &str = "Accept: text/html,*/*;q=0.8\r\n";

/// Fetches a listing, and puts its chunks together.
#[track_caller]
fn listing(server: &TestServer, target: &str, fields: &str) -> Answer {
    let mut answer = server.get(target, fields);
    assert_eq!(answer.status, 200, "{target}");
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    let mut body = Vec::new();
    let mut rest = answer.body.as_slice();
    loop {
        let line = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .expect("a size");
        let size = usize::from_str_radix(str::from_utf8(&rest[..line]).expect("ASCII"), 16)
            .expect("a size");
        let data = &rest[line + 2..];
        body.extend_from_slice(&data[..size]);
        assert_eq!(&data[size..size + 2], b"\r\n");
        rest = &data[size + 2..];
        if size == 0 {
            break;
        }
    }
    assert!(rest.is_empty(), "nothing behind the last chunk");
    answer.body = body;
    answer
}

fn head(server: &TestServer, target: &str, fields: &str) -> Answer {
    let request = format!("HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    Answer::parse(&server.exchange(request))
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("UTF-8")
}

fn names(server: &TestServer, target: &str) -> Vec<String> {
    let entries: Vec<Value> =
        serde_json::from_slice(&listing(server, target, "").body).expect("JSON");
    let name = |entry: &Value| entry["name"].as_str().expect("a name").to_owned();
    let mut names: Vec<_> = entries.iter().map(name).collect();
    names.sort();
    names
}

/// What the names of a page lead to, in the page's order, but for the way up.
fn links(page: &str) -> Vec<String> {
    let rows = page.split("<td class=\"name\"><a href=\"").skip(1);
    rows.map(|row| row[..row.find('"').expect("a quote")].to_owned())
        .map(|link| link.replace("&amp;", "&"))
        .filter(|link| link != "../")
        .collect()
}

fn next_page(page: &str) -> Option<String> {
    let link = page.split("rel=\"next\" href=\"").nth(1)?;
    Some(link[..link.find('"')?].replace("&amp;", "&"))
}

const NAMES: [&[u8]; 22] = [
    b"plain.txt",
    b"a space",
    b" leading",
    b"trailing ",
    b"<script>alert(1)<",
    b"\"><img src=x onerror=alert(1)>",
    b"it's \"quoted\"",
    b"&amp;",
    b"100%",
    b"%41",
    b"a?b#c",
    b"a;b=c",
    b"a+b",
    b"a\\b",
    b"javascript:alert(1)",
    b"-rf",
    "\u{fc}\u{df}\u{4e2d}\u{6587}".as_bytes(),
    "\u{202e}gpj.exe".as_bytes(),
    "e\u{301}".as_bytes(),
    b"line\nend",
    b"not utf-8 \xff\xfe",
    b"\x01\x1b[31m",
];

#[test]
fn a_directory_with_an_index_is_still_data() {
    let server = TestServer::start();
    server.put("d/index.html", "<p>an index");
    server.put("d/file", "1");
    assert_eq!(names(&server, "/d/?format=json"), ["file", "index.html"]);
    for (target, fields) in [
        ("/d/?format=ndjson", ""),
        ("/d/", "Accept: application/json\r\n"),
        ("/d/", "Accept: application/x-ndjson\r\n"),
    ] {
        let listing = server.get(target, fields).body;
        assert!(
            String::from_utf8_lossy(&listing).contains("\"file\""),
            "{target} {fields}"
        );
    }
    assert_eq!(server.get("/d/", "Accept: */*\r\n").body, b"<p>an index");
}
