//! Walks whose end is not plain: directories without a slash, pages in place of files, listings
//! with scripts.

use super::support::{Act, Client, Request, Server};

fn ok(kind: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
    vec![Act::Send(format!("{head}\r\n{body}").into_bytes())]
}

fn moved(to: &str) -> Vec<Act> {
    let head = format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    vec![Act::Send(head.into_bytes())]
}

fn path(request: &Request) -> &str {
    request.target.split('?').next().unwrap_or_default()
}

const LISTING: &str = "<title>Index of /</title><a href='../'>up</a>";

#[test]
fn directories_without_a_slash_that_never_end_are_bounded() {
    // Each listing has a file and, without its slash, one directory more.
    let server = Server::start(|request| match path(request) {
        path if path.ends_with('/') => ok(
            "text/html",
            &format!("{LISTING}<a href=sub>sub</a><a href=f{}>f</a>", path.len()),
        ),
        path if path.ends_with("/sub") => moved(&format!("{path}/")),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-q", "-r", "-d", "here", &server.url("/")])
        .assert_status(4)
        .assert_says("more than 64 directories deep");
    assert!(client.path("here/sub/sub/f9").exists());

    let client = Client::new();
    client
        .get(&["-r", "-d", "here", "--depth", "1", &server.url("/top/")])
        .assert_status(0)
        .assert_says("deeper than --depth 1, left out");
    assert!(client.path("here/top/sub/f9").exists());
    assert!(!client.path("here/top/sub/sub").exists());
}

#[test]
fn a_directory_without_a_slash_that_leads_to_one_listed_before_is_left_out() {
    let server = Server::start(|request| match path(request) {
        "/" | "/sub/" => ok(
            "text/html",
            &format!("{LISTING}<a href=sub>sub</a><a href=f>f</a>"),
        ),
        path if path.ends_with("/sub") => moved("/sub/"),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-r", "-d", "here", &server.url("/")])
        .assert_status(0)
        .assert_says("the same directory as another one, left out");
    assert!(client.path("here/sub/f").exists());
    assert!(!client.path("here/sub/sub").exists());
}

#[test]
fn what_is_excluded_stays_so_without_its_slash() {
    let server = Server::start(|request| match path(request) {
        "/top/" => ok(
            "text/html",
            &format!("{LISTING}<a href=sub>sub</a><a href=f>f</a>"),
        ),
        "/top/sub/" => ok(
            "text/html",
            &format!("{LISTING}<a href=f>f</a><a href=g>g</a>"),
        ),
        path if path.ends_with("/sub") => moved("/top/sub/"),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-r", "--exclude", "sub/g", &server.url("/top/")])
        .assert_status(0);
    assert!(client.path("top/sub/f").exists());
    assert!(!client.path("top/sub/g").exists());
}

#[test]
fn an_empty_directory_is_empty_even_where_the_server_adds_scripts() {
    let server = Server::start(|request| match path(request) {
        "/" => ok(
            "text/html",
            &format!("{LISTING}<a href=f>f</a><a href=e/>e</a>"),
        ),
        "/e/" => ok("text/html", &format!("{LISTING}<script>sort()</script>")),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-r", "-d", "here", &server.url("/")])
        .assert_status(0)
        .assert_says("/e/: nothing in it");
    assert!(client.path("here/f").exists());
}

#[test]
fn a_key_that_marks_a_directory_is_no_file() {
    let server = Server::start(|request| match path(request) {
        "/" => ok(
            "application/xml",
            "<ListBucketResult><Contents><Key>d/</Key><Size>0</Size></Contents>\
             <Contents><Key>d/f</Key><Size>4</Size></Contents></ListBucketResult>",
        ),
        path if path.ends_with('/') => ok("application/x-directory", ""),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-r", "-d", "here", &server.url("/")])
        .assert_status(0);
    assert!(client.path("here/d/f").exists());
}

#[test]
fn a_page_in_place_of_a_file_is_no_file_of_the_tree() {
    let server = Server::start(|request| match path(request) {
        "/" => ok(
            "application/json",
            "[{\"name\": \"a.iso\", \"kind\": \"file\", \"size\": 1000, \
               \"mtime\": \"2026-01-01T00:00:00Z\"}, \
              {\"name\": \"b.html\", \"kind\": \"file\", \"size\": 1000, \
               \"mtime\": \"2026-01-01T00:00:00Z\"}]",
        ),
        _ => ok("text/html", "<html>log in"),
    });
    let client = Client::new();
    client
        .get(&["-r", "-d", "here", "--retries", "1", &server.url("/")])
        .assert_status(5)
        .assert_says("a page came instead of the file of 1000 B");
    assert!(!client.path("here/a.iso").exists());
    // A page may have changed since it was listed.
    assert!(client.path("here/b.html").exists());
}

#[test]
fn a_redirect_to_a_page_is_told() {
    let server = Server::start(|request| match path(request) {
        "/a.iso" => moved("/login"),
        _ => ok("text/html", "<html>log in"),
    });
    let client = Client::new();
    client
        .get(&[&server.url("/a.iso")])
        .assert_says("/login, which is a page (text/html)");
}

#[test]
fn globs_that_leave_nothing_are_told() {
    let server = Server::start(|request| match path(request) {
        "/" => ok("text/html", &format!("{LISTING}<a href=f>f</a>")),
        _ => ok("a/b", "file"),
    });
    let client = Client::new();
    client
        .get(&["-r", "--include", "*.iso", &server.url("/")])
        .assert_status(0)
        .assert_says("no file matches");
}
