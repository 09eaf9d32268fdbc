//! What a file is labelled with, in which coding it is sent, and what errors say.

use std::time::Instant;

use haul::server::config::{CacheRule, Cors, Field};

use super::case::{Case, Taken, get, head, request, take_answer};
use crate::support::{PATIENCE, TestServer};

#[test]
fn content() {
    super::run(&cases(), |_| {});
}

#[test]
fn fields_of_the_operators_own() {
    super::run(&policy_cases(), |config| {
        config.http.cors = Cors::AnyOrigin;
        for field in ["X-Robots-Tag: none", "X-Second: 2"] {
            config
                .http
                .fields
                .push(Field::parse(field).expect("a field"));
        }
        for rule in ["*.css=max-age=60", "packed*=no-store", "*=public"] {
            let rule = CacheRule::parse(rule).expect("a rule");
            config.http.cache_control.push(rule);
        }
    });
}

pub fn cases() -> Vec<Case> {
    let mut cases = [types(), downloads(), codings(), errors()].concat();
    for case in &mut cases {
        *case = case.clone().own();
    }
    cases
}

fn types() -> Vec<Case> {
    let typed = |target: &str, media: &'static str| {
        get("9110 8.3 the type by the name", target, "")
            .is(200)
            .has("content-type", media)
            .has("x-content-type-options", "nosniff")
            .has("server", "haul")
    };
    vec![
        typed("/ten.txt", "text/plain; charset=utf-8"),
        typed("/page.html", "text/html; charset=utf-8"),
        typed("/style.css", "text/css; charset=utf-8"),
        typed("/script.js", "text/javascript; charset=utf-8"),
        typed("/data.json", "application/json"),
        typed("/image.png", "image/png"),
        typed("/film.mp4", "video/mp4"),
        typed("/song.wav", "audio/wav"),
        typed("/archive.tar.gz", "application/gzip"),
        typed("/noext", "application/octet-stream"),
        typed("/folder/", "text/html; charset=utf-8"),
        get("9110 8.3 of a part", "/film.mp4", "Range: bytes=0-1\r\n")
            .is(206)
            .has("content-type", "video/mp4"),
        head("9110 9.3.2 of a HEAD", "/film.mp4", "")
            .is(200)
            .has("content-type", "video/mp4"),
        get("9110 8.8.2 Last-Modified", "/ten.txt", "")
            .is(200)
            .has("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT"),
    ]
}

fn downloads() -> Vec<Case> {
    let named = |rule, target: &str, value: &'static str| {
        get(rule, target, "")
            .is(200)
            .has("content-disposition", value)
    };
    vec![
        get("6266 4 (9110 8) not asked for", "/ten.txt", "")
            .is(200)
            .lacks("content-disposition"),
        named(
            "6266 4 (9110 8) asked for",
            "/ten.txt?download",
            "attachment; filename=\"ten.txt\"",
        ),
        named(
            "6266 4 (9110 8) with a value",
            "/ten.txt?download=1",
            "attachment; filename=\"ten.txt\"",
        ),
        named(
            "6266 4.3 (9110 8) a space",
            "/a%20b.txt?download",
            "attachment; filename=\"a b.txt\"",
        ),
        named(
            "8187 3.2 (9110 8) an umlaut",
            "/%C3%BC.txt?download",
            "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt",
        ),
        named(
            "8187 3.2 (9110 8) a percent sign",
            "/100%25.txt?download",
            "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt",
        ),
        named(
            "6266 4.3 (9110 8) without the directories",
            "/plain/a.txt?download",
            "attachment; filename=\"a.txt\"",
        ),
        get(
            "6266 4 (9110 8) a part of it",
            "/ten.txt?download",
            "Range: bytes=1-2\r\n",
        )
        .is(206)
        .has("content-disposition", "attachment; filename=\"ten.txt\"")
        .text("12"),
    ]
}

fn codings() -> Vec<Case> {
    let asked = |rule, value: &str| {
        get(rule, "/packed.js", &format!("Accept-Encoding: {value}\r\n"))
            .is(200)
            .has("vary", "Accept-Encoding")
            .has("content-type", "text/javascript; charset=utf-8")
    };
    let coded = |rule, value: &str, coding, body: &str| {
        asked(rule, value)
            .has("content-encoding", coding)
            .text(body)
    };
    let plain = |rule, value: &str| {
        asked(rule, value)
            .lacks("content-encoding")
            .text("0123456789abcdef")
    };
    let (gzip, brotli, zstd) = ("GZIP-bytes", "BROTLI-bytes", "ZSTD-bytes");
    vec![
        get("9110 12.5.3 not said", "/packed.js", "")
            .is(200)
            .has("vary", "Accept-Encoding")
            .lacks("content-encoding")
            .text("0123456789abcdef"),
        coded("9110 12.5.3 gzip", "gzip", "gzip", gzip),
        coded("9110 8.4.1.3 x-gzip", "x-gzip", "gzip", gzip),
        coded("9110 12.5.3 br", "br", "br", brotli),
        coded("9110 12.5.3 zstd", "zstd", "zstd", zstd),
        coded("9110 8.4.1 the coding's case", "GZip", "gzip", gzip),
        coded(
            "9110 12.4.2 the best of several",
            "gzip;q=0.5, br;q=0.9, zstd;q=0.1",
            "br",
            brotli,
        ),
        coded(
            "9110 12.4.2 of equals the densest",
            "gzip, br, zstd",
            "zstd",
            zstd,
        ),
        coded(
            "9110 12.4.2 one of them refused",
            "zstd;q=0, gzip;q=0.5",
            "gzip",
            gzip,
        ),
        coded("9110 12.5.3 an asterisk", "*", "zstd", zstd),
        coded(
            "9110 12.5.3 an asterisk but for one",
            "zstd;q=0, *",
            "br",
            brotli,
        ),
        plain("9110 12.5.3 identity", "identity"),
        plain("9110 12.5.3 nothing", ""),
        plain("9110 12.4.2 all refused", "gzip;q=0, br;q=0, zstd;q=0"),
        plain(
            "9110 12.4.2 identity is liked better",
            "identity;q=1, gzip;q=0.5",
        ),
        plain("9110 12.5.3 an unknown coding", "deflate"),
        plain("9110 12.4.2 a quality that is no number", "gzip;q=x"),
        get(
            "9110 12.5.3 over two lines",
            "/packed.js",
            "Accept-Encoding: identity;q=0.5\r\nAccept-Encoding: gzip\r\n",
        )
        .is(200)
        .has("content-encoding", "gzip")
        .text(gzip),
        get(
            "9110 14.2 a part of the bytes without coding",
            "/packed.js",
            "Accept-Encoding: br\r\nRange: bytes=0-5\r\n",
        )
        .is(206)
        .has("content-range", "bytes 0-5/16")
        .lacks("content-encoding")
        .has("vary", "Accept-Encoding")
        .text("012345"),
        get(
            "9110 14.2 several parts of the bytes without coding",
            "/packed.js",
            "Accept-Encoding: gzip\r\nRange: bytes=0-1,5-6\r\n",
        )
        .is(206)
        .parts(&[("bytes 0-1/16", "01"), ("bytes 5-6/16", "56")]),
        get(
            "9110 15.5.17 the length without coding",
            "/packed.js",
            "Accept-Encoding: gzip\r\nRange: bytes=16-\r\n",
        )
        .is(416)
        .has("content-range", "bytes */16"),
        head("9110 9.3.2 HEAD", "/packed.js", "Accept-Encoding: gzip\r\n")
            .is(200)
            .has("content-length", "10")
            .has("content-encoding", "gzip"),
        get(
            "9110 12.5.5 Vary is for what varies",
            "/ten.txt",
            "Accept-Encoding: gzip\r\n",
        )
        .is(200)
        .lacks("vary")
        .lacks("content-encoding"),
        get(
            "9110 12.5.3 the sibling itself",
            "/packed.js.gz",
            "Accept-Encoding: gzip\r\n",
        )
        .is(200)
        .lacks("content-encoding")
        .text(gzip),
    ]
}

fn errors() -> Vec<Case> {
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    vec![
        get("9110 15.5 a line for programs", "/absent", "").is(404).has("content-type", "text/plain; charset=utf-8")
            .text("404 Not found: no such file. Check the spelling, upper and lower case included, or look one directory up.\n"),
        get("9110 15.5 a line for those that take anything", "/absent", "Accept: */*\r\n").is(404)
            .has("content-type", "text/plain; charset=utf-8"),
        get("9110 15.5 a page for people", "/absent", browser).is(404)
            .has("content-type", "text/html; charset=utf-8").has("x-content-type-options", "nosniff"),
        get("9110 15.5 a page for a range", "/ten.txt", &format!("{browser}Range: bytes=50-\r\n")).is(416)
            .has("content-type", "text/html; charset=utf-8").has("content-range", "bytes */10"),
        request("9110 15.5.6 a page for a method", "POST", "/ten.txt", browser).is(405)
            .has("content-type", "text/html; charset=utf-8").has("allow", "GET, HEAD, OPTIONS"),
        head("9110 9.3.2 an error without content", "/absent", browser).is(404).has("content-type", "text/html; charset=utf-8"),
        get("9110 15.5 a page for a precondition", "/ten.txt", &format!("{browser}If-Match: \"x\"\r\n")).is(412)
            .has("content-type", "text/html; charset=utf-8").lacks("etag"),
    ]
}

/// For the server with another policy.
fn policy_cases() -> Vec<Case> {
    let everywhere = |case: Case| {
        case.has("x-robots-tag", "none")
            .has("x-second", "2")
            .has("access-control-allow-origin", "*")
    };
    vec![
        everywhere(get(": fields on 200", "/ten.txt", "").is(200)).has("cache-control", "public"),
        everywhere(get(": fields on 206", "/ten.txt", "Range: bytes=0-1\r\n").is(206)).has("cache-control", "public"),
        everywhere(get(": fields on 304", "/style.css", "If-None-Match: *\r\n").is(304)).has("cache-control", "max-age=60"),
        everywhere(get(": fields on 404", "/absent", "").is(404)).has("cache-control", "no-cache"),
        everywhere(get(": fields on 301", "/folder", "").is(301)),
        everywhere(get(": fields on 416", "/ten.txt", "Range: bytes=50-\r\n").is(416)),
        get(": the first rule that matches", "/style.css", "").is(200).has("cache-control", "max-age=60"),
        get(": the rule of the content's own name", "/packed.js", "Accept-Encoding: gzip\r\n").is(200)
            .has("cache-control", "no-store").has("content-encoding", "gzip"),
        get(": a rule for the index", "/folder/", "").is(200).has("cache-control", "public"),
        request(": a preflight", "OPTIONS", "/ten.txt", "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range\r\n")
            .is(204).has("access-control-allow-origin", "*").has("access-control-allow-methods", "GET, HEAD, OPTIONS"),
        get(": what scripts may read", "/ten.txt", "Origin: https://a.example\r\n").is(200)
            .has("access-control-expose-headers", "Accept-Ranges, Content-Encoding, Content-Range, ETag, Repr-Digest, Repr-Digest-BLAKE3"),
    ]
}

/// RFC 9110 section 8.8.2.1: an origin server must not send a date later than its own clock's.
#[test]
fn last_modified_is_never_in_the_future() {
    let server = super::server(|_| {});
    let answer = fetch(&server, "/future.txt", "");
    assert_eq!(answer.values("last-modified"), answer.values("date"));
}

/// RFC 9110 section 8.8.3: a tag that two contents may share has to say so.
#[test]
fn the_tag_of_a_file_from_the_future_is_strong_once_it_has_settled() {
    let server = super::server(|_| {});
    // Two contents may share an mtime that was set; their ctimes differ.
    let tag = fetch(&server, "/future.txt", "").values("etag")[0].to_owned();
    assert!(tag.starts_with('"'), "{tag}");
    let part = fetch(
        &server,
        "/future.txt",
        &format!("Range: bytes=0-3\r\nIf-Range: {tag}\r\n"),
    );
    assert_eq!(part.status, 206, "a strong tag joins parts");
    let known = fetch(&server, "/future.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(known.status, 304);
    let matched = fetch(&server, "/future.txt", &format!("If-Match: {tag}\r\n"));
    assert_eq!(matched.status, 200);
}

/// RFC 9110 section 8.8.3.3: every coding has a different tag.
#[test]
fn codings_have_tags_of_their_own() {
    let server = super::server(|_| {});
    let tag = |coding: &str| {
        fetch(
            &server,
            "/packed.js",
            &format!("Accept-Encoding: {coding}\r\n"),
        )
        .values("etag")[0]
            .to_owned()
    };
    let tags = [tag("identity"), tag("gzip"), tag("br"), tag("zstd")];
    for (index, one) in tags.iter().enumerate() {
        assert!(one.starts_with('"'), "{one}");
        assert!(
            tags.iter().skip(index + 1).all(|other| other != one),
            "{tags:?}"
        );
    }
    let revalidated = format!("Accept-Encoding: gzip\r\nIf-None-Match: {}\r\n", tags[1]);
    assert_eq!(fetch(&server, "/packed.js", &revalidated).status, 304);
    let other_coding = format!("Accept-Encoding: br\r\nIf-None-Match: {}\r\n", tags[1]);
    assert_eq!(fetch(&server, "/packed.js", &other_coding).status, 200);
}

/// A file that changes has another tag at once, and parts of the old one are not joined to it.
#[test]
fn a_change_makes_another_tag() {
    let server = super::server(|_| {});
    let old = fetch(&server, "/ten.txt", "").values("etag")[0].to_owned();
    server.put("ten.txt", b"9876543210");
    let resumed = format!("Range: bytes=5-\r\nIf-Range: {old}\r\n");
    // A worker may cache a file for a moment.
    let begun = Instant::now();
    let answer = loop {
        assert!(begun.elapsed() < PATIENCE, "the old tag stays");
        let answer = fetch(&server, "/ten.txt", &resumed);
        if answer.values("etag") != [old.as_str()] {
            break answer;
        }
    };
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, b"9876543210");
}

/// A look-up of a disk worker for one request must not serve a different one: neither a sibling for
/// the file itself, nor an index for its directory.
#[test]
fn what_was_found_for_one_request_is_not_taken_for_another() {
    let server = super::server(|config| config.workers = std::num::NonZeroUsize::MIN);
    for _ in 0..2 {
        let coded = fetch(&server, "/packed.js", "Accept-Encoding: gzip\r\n");
        assert_eq!(coded.body, b"GZIP-bytes");
        let plain = fetch(&server, "/packed.js", "");
        assert_eq!(plain.body, b"0123456789abcdef");
        assert_eq!(fetch(&server, "/folder/", "").status, 200);
        assert_eq!(fetch(&server, "/folder", "").status, 301);
    }
}

fn fetch(server: &TestServer, target: &str, fields: &str) -> Taken {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    let received = server.exchange(request);
    let (answer, rest) = take_answer(&received, false).expect("an answer");
    assert!(rest.is_empty());
    answer
}
