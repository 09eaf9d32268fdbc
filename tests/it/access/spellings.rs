//! Ways to spell a protected path that are to open nothing.

use super::*;

/// Spellings of protected paths, which must be answered like missing ones.
const SPELLINGS: &[&str] = &[
    "/private/f",
    "//private/f",
    "///private///f",
    "/./private/f",
    "/private/./f",
    "/private//f",
    "/private/f/",
    "/private/f//",
    "/private/f/.",
    "/private/f/./",
    "/open/../private/f",
    "/open/./../private/f",
    "/open//../private/f",
    "/x/y/../../private/f",
    "/private/../private/f",
    "/private/x/../f",
    "/private/d/../f",
    "/private/d/..//f",
    "/%70rivate/f",
    "/%50rivate/f",
    "/pri%76ate/f",
    "/private/%66",
    "/%70%72%69%76%61%74%65/%66",
    "/%2e/private/f",
    "/%2E%2f/private/f",
    "/open/%2e%2e/private/f",
    "/open/%2E%2E/private/f",
    "/open/.%2e/private/f",
    "/open/%2e./private/f",
    "/private%2ff",
    "/private%2Ff",
    "/open%2f..%2fprivate%2ff",
    "/%2fprivate/f",
    "/private%252ff",
    "/%2570rivate/f",
    "/private/%2566",
    "/private/f%00",
    "/private%00/f",
    "/private/f%00.txt",
    "/private/f?",
    "/private/f?x=/open/f",
    "/private/f?download",
    "/private/f?sig=x",
    "/private/f;x",
    "/private;x=y/f",
    "/private/f;.txt",
    "/PRIVATE/f",
    "/Private/f",
    "/private/F",
    "/private/f%20",
    "/private/f.",
    "/private./f",
    "/private%20/f",
    "/private\\f",
    "/open\\..\\private\\f",
    "/private%5cf",
    "/..;/private/f",
    "/open/..;/private/f",
    "/private",
    "/private/",
    "/private/?format=json",
    "/private/?format=ndjson",
    "/private/.",
    "/private/d/..",
    "/private/index.html",
    "http://x/private/f",
    "http://x//private/f",
    "HTTP://X:80/private/f",
    "https://x/private/f",
    "http://x/open/../private/f",
    "http://private/f/../private/f",
    "/%c0%ae%c0%ae/private/f",
    "/open/%c0%ae%c0%ae/private/f",
    "/\u{ff50}rivate/f",
    "/private/%e2%80%8bf",
];

#[test]
fn no_spelling_of_a_protected_path_gets_around_it() {
    assert!(SPELLINGS.len() >= 60);
    for globs in [
        &["private/**"][..],
        &["/private"],
        &["private/*", "private"],
        &["*/f", "private*"],
        &["./private"],
        &["/private//./"],
        &["private//f", "private/.", "/./private/*/"],
        &["/"],
        &["."],
    ] {
        let (server, _secrets) = with_user(globs);
        server.put("private/f", "SECRET");
        server.put("private/d/f", "SECRET");
        server.put("private/index.html", "SECRET");
        server.put("open/f", "x");
        for spelling in SPELLINGS {
            for method in ["GET", "HEAD"] {
                let request =
                    format!("{method} {spelling} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                let answer = Answer::parse(&server.exchange(request));
                assert!(
                    matches!(answer.status, 400 | 401 | 403 | 404),
                    "{globs:?}: {method} {spelling} is {}",
                    answer.status
                );
                assert!(
                    !answer.body.windows(6).any(|it| it == b"SECRET"),
                    "{spelling}"
                );
            }
            let name = spelling.trim_start_matches("http://x");
            assert!(
                !server.by_name(name).windows(6).any(|it| it == b"SECRET"),
                "{name}"
            );
        }
    }
}

#[test]
fn spellings_of_what_is_protected_tell_nothing_of_what_is_there() {
    let (server, _secrets) = with_user(&["private/**"]);
    server.put("private/f", "SECRET");
    let (there, missing) = ("/private/f", "/private/g");
    for spelling in SPELLINGS.iter().filter(|it| it.contains("private/f")) {
        let ask = |target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            Answer::parse(&server.exchange(request))
        };
        assert_alike(&ask(spelling), &ask(&spelling.replace(there, missing)));
    }
}
