//! Request lines, targets, hosts, methods and connections.

use super::case::{Case, get, head, raw, request, second};

#[test]
fn messages() {
    super::run(&cases(), |_| {});
}

pub fn cases() -> Vec<Case> {
    [hosts(), targets(), methods(), versions(), connections()].concat()
}

fn hosts() -> Vec<Case> {
    let host = |rule, lines: &str| raw(rule, format!("GET /ten.txt HTTP/1.1\r\n{lines}\r\n"));
    let fine = |rule, lines: &str| host(rule, lines).is(200).text("0123456789");
    let bad = |rule, lines: &str| host(rule, lines).refused();
    vec![
        bad("9112 3.2 no Host on 1.1", ""),
        bad("9112 3.2 two Hosts", "Host: x\r\nHost: y\r\n"),
        bad("9112 3.2 the same Host twice", "Host: x\r\nHost: x\r\n"),
        bad("9112 3.2 a Host with white space", "Host: a b\r\n"),
        bad("9112 3.2 a Host with a path", "Host: a/b\r\n"),
        bad("9110 4.2.4 a Host with user information", "Host: u@a\r\n"),
        bad("9110 7.2 a port that is no number", "Host: a:b\r\n"),
        bad("9110 7.2 two ports", "Host: a:1:2\r\n"),
        bad("9110 7.2 an open bracket", "Host: [::1\r\n"),
        fine("9110 7.2 an empty Host", "Host:\r\n").own(),
        fine("9110 7.2 a name and a port", "Host: example.org:8080\r\n"),
        fine("9110 7.2 an IPv4 address", "Host: 127.0.0.1\r\n"),
        fine(
            "9110 7.2 an IPv6 address and a port",
            "Host: [::1]:8080\r\n",
        ),
        fine("9110 5.1 the field name's case", "hOsT: x\r\n"),
        fine("9112 5.1 no white space behind the colon", "Host:x\r\n"),
        fine("9112 5.1 white space around the value", "Host: \t x \t\r\n"),
        raw("9112 3.2 no Host on 1.0", "GET /ten.txt HTTP/1.0\r\n\r\n")
            .is(200)
            .text("0123456789")
            .closes(),
        raw(
            "9112 3.2 two Hosts on 1.0",
            "GET /ten.txt HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        )
        .refused(),
    ]
}

fn targets() -> Vec<Case> {
    let fine = |rule, target: &str, body: &str| get(rule, target, "").is(200).text(body);
    vec![
        fine("9112 3.2.1 origin form", "/ten.txt", "0123456789"),
        fine(
            "9112 3.2.1 a query that means nothing",
            "/ten.txt?a=b&c",
            "0123456789",
        ),
        fine("9112 3.2.2 absolute form", "http://x/ten.txt", "0123456789"),
        fine(
            "9112 3.2.2 absolute form with a port and a query",
            "http://x:80/ten.txt?a",
            "0123456789",
        ),
        fine(
            "9110 4.2.3 the scheme's case",
            "HTTP://x/ten.txt",
            "0123456789",
        ),
        fine(
            "9112 3.2.2 absolute form outweighs Host",
            "http://other.example/ten.txt",
            "0123456789",
        )
        .own(),
        get(
            "9112 3.2.2 absolute form without path",
            "http://x/folder/",
            "",
        )
        .is(200)
        .text("<p>an index"),
        raw(
            "9112 3.2.2 absolute form still needs Host",
            "GET http://x/ten.txt HTTP/1.1\r\n\r\n",
        )
        .refused(),
        get("9112 3.2 a path without slash", "ten.txt", "").refused(),
        get(
            "9112 3.2.2 an absolute form without host",
            "http:///ten.txt",
            "",
        )
        .refused(),
        get(
            "9110 4.2.4 an absolute form with user information",
            "http://u:p@x/ten.txt",
            "",
        )
        .refused()
        .own(),
        get("9112 3.2.4 an asterisk for GET", "*", "").refused(),
        get("9110 4.1 a fragment", "/ten.txt#part", "")
            .refused()
            .own(),
        get("9110 4.2 another scheme", "ftp://x/ten.txt", "")
            .refused()
            .own(),
        fine("9110 4.2.3 an encoded space", "/a%20b.txt", "a space"),
        fine("9110 4.2.3 encoded UTF-8", "/%C3%BC.txt", "an umlaut"),
        fine(
            "9110 4.2.3 hexadecimal digits in lower case",
            "/%c3%bc.txt",
            "an umlaut",
        ),
        fine(
            "9110 4.2.3 an encoded percent sign",
            "/100%25.txt",
            "a percent sign",
        ),
        fine("9110 4.2.3 a plus is a plus", "/a+b.txt", "a plus"),
        fine(
            "9110 4.2.3 marks that need no encoding",
            "/a;b,c=d&e.txt",
            "marks",
        ),
        fine(
            "9110 4.2.3 encoded unreserved letters",
            "/%74%65%6e.txt",
            "0123456789",
        ),
        fine(
            "9110 4.2.3 an encoded question mark",
            "/what%3F.txt",
            "a question",
        ),
        fine(
            "9110 4.2.3 an encoded number sign",
            "/%231.txt",
            "a number sign",
        ),
        get("9110 4.2.3 decoded once only", "/100%2525.txt", "").is(404),
        get("9110 4.2.3 a percent sign without digits", "/100%.txt", "")
            .is(400)
            .own(),
        get("9110 4.2.3 a percent sign with half of them", "/a%4", "")
            .is(400)
            .own(),
        get("9110 4.2.3 an encoded NUL", "/ten.txt%00", "")
            .is(400)
            .own(),
        get("9110 17.3 dot-dot", "/../ten.txt", "").is(400).own(),
        get("9110 17.3 encoded dot-dot", "/%2e%2e/ten.txt", "")
            .is(400)
            .own(),
        get(
            "9110 17.3 an encoded slash before dot-dot",
            "/plain%2f../ten.txt",
            "",
        )
        .is(404)
        .own(),
        get("9110 17.3 an encoded slash", "/plain%2Fa.txt", "").is(404),
        fine(
            "9110 4.2.3 dot-dot within",
            "/plain/../ten.txt",
            "0123456789",
        ),
        fine(
            "9110 4.2.3 encoded dot-dot within",
            "/plain/%2e%2E/ten.txt",
            "0123456789",
        ),
        fine(
            "9110 4.2.3 slashes and dots",
            "//plain///..////ten.txt",
            "0123456789",
        ),
        fine(
            "9110 4.2.3 dot-dot in an absent directory",
            "/absent/../ten.txt",
            "0123456789",
        ),
        get("9110 17.3 dot-dot within", "/plain/../../etc/passwd", "").any(&[400, 403, 404]),
        get(
            "9110 17.3 encoded dot-dot out of the root",
            "/%2e%2e/%2e%2e/etc/passwd",
            "",
        )
        .any(&[400, 403, 404])
        .own(),
        fine("9110 4.2.3 a dot component", "/./ten.txt", "0123456789"),
        fine("9110 4.2.3 empty components", "//ten.txt", "0123456789"),
        get("9110 17.3 a name that begins with a dot", "/.hidden", "")
            .is(404)
            .own(),
        get("9110 15.5.5 nothing there", "/absent.txt", "").is(404),
        get("9110 15.5.5 a file with a slash behind", "/ten.txt/", "").is(404),
        get("9110 15.5.5 a file as a directory", "/ten.txt/x", "").is(404),
        get("9110 15.4.2 a directory without slash", "/folder", "")
            .is(301)
            .has("location", "/folder/")
            .own(),
        get("9110 15.4.2 the query stays", "/folder?sort=size", "")
            .is(301)
            .has("location", "/folder/?sort=size")
            .own(),
        get(
            "9110 15.4.2 a redirect stays on this server",
            "//folder",
            "",
        )
        .is(301)
        .has("location", "/folder/")
        .own(),
        head(
            "9110 15.4.2 HEAD of a directory without slash",
            "/folder",
            "",
        )
        .is(301),
        fine(": the index of a directory", "/folder/", "<p>an index"),
    ]
}

fn methods() -> Vec<Case> {
    let known = |rule, method| {
        request(rule, method, "/ten.txt", "")
            .is(405)
            .has("allow", "GET, HEAD, OPTIONS")
            .own()
    };
    vec![
        head("9110 9.3.2 HEAD", "/ten.txt", "")
            .is(200)
            .has("content-length", "10")
            .has("etag", "$ETAG"),
        head("9110 9.3.2 HEAD of nothing", "/absent", "").is(404),
        request("9110 9.3.7 OPTIONS", "OPTIONS", "/ten.txt", "")
            .is(204)
            .has("allow", "GET, HEAD, OPTIONS")
            .own(),
        request("9110 9.3.7 OPTIONS of the server", "OPTIONS", "*", "")
            .is(204)
            .has("allow", "GET, HEAD, OPTIONS")
            .own(),
        request(
            "9112 3.2.4 OPTIONS of the server is well-formed",
            "OPTIONS",
            "*",
            "",
        )
        .any(&[200, 204, 405]),
        request(
            "9110 9.3.7 OPTIONS with a body",
            "OPTIONS",
            "*",
            "Content-Length: 2\r\n",
        )
        .own()
        .with("{}")
        .is(204),
        known("9110 15.5.6 PUT", "PUT"),
        known("9110 15.5.6 POST", "POST"),
        known("9110 15.5.6 DELETE", "DELETE"),
        known("9110 15.5.6 PATCH", "PATCH"),
        known("9110 15.5.6 TRACE", "TRACE"),
        known("9110 15.5.6 PROPFIND", "PROPFIND"),
        request("9110 15.5.6 Allow is there", "DELETE", "/ten.txt", "").any(&[405, 501]),
        request("9110 9.3.6 CONNECT", "CONNECT", "example.org:443", "")
            .any(&[405, 501])
            .own(),
        request("9110 15.6.2 an unknown method", "FROB", "/ten.txt", "")
            .is(501)
            .own(),
        request(
            "9110 9.1 an unknown method is refused",
            "FROB",
            "/ten.txt",
            "",
        )
        .any(&[405, 501]),
        request("9110 9.1 methods have a case", "get", "/ten.txt", "")
            .is(501)
            .own(),
        request(
            "9110 9.1 a method of every token character",
            "A!#$%&'*+-.^_`|~9",
            "/ten.txt",
            "",
        )
        .is(501)
        .own(),
        request(
            "9110 9.3.8 TRACE does not reflect",
            "TRACE",
            "/ten.txt",
            "Cookie: secret\r\n",
        )
        .any(&[405, 501]),
        request("9110 15.5.6 of nothing", "PUT", "/absent", "").any(&[404, 405, 501]),
    ]
}

fn versions() -> Vec<Case> {
    let line = |rule, line: &str| raw(rule, format!("{line}\r\nHost: x\r\n\r\n"));
    let later = |rule, line: &str| second(rule, format!("{line}\r\nHost: x\r\n\r\n"));
    vec![
        raw(
            "9113 3.4 the preface of HTTP/2 (9110 15.6.6)",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        .is(505)
        .closes()
        .own(),
        line("9110 15.6.6 version 2.0", "GET /ten.txt HTTP/2.0")
            .is(505)
            .closes(),
        line("9110 15.6.6 version 3.0", "GET /ten.txt HTTP/3.0")
            .is(505)
            .closes(),
        line("9110 15.6.6 version 0.9", "GET /ten.txt HTTP/0.9")
            .is(505)
            .closes()
            .own(),
        line(
            "9110 2.5 version 1.2 is served as 1.1",
            "GET /ten.txt HTTP/1.2",
        )
        .is(200)
        .text("0123456789"),
        line("9110 2.5 version 1.9", "GET /ten.txt HTTP/1.9")
            .is(200)
            .text("0123456789"),
        later("9112 2.3 two digits", "GET /ten.txt HTTP/1.10")
            .refused()
            .own(),
        later("9112 2.3 lower case", "GET /ten.txt http/1.1").refused(),
        later("9112 2.3 no minor version", "GET /ten.txt HTTP/1").refused(),
        later("9112 2.3 a letter", "GET /ten.txt HTTP/1.x").refused(),
        later("9112 3 no version", "GET /ten.txt").refused(),
        later("9112 3 no target", "GET").refused(),
        later(
            "9112 3 a space behind the version",
            "GET /ten.txt HTTP/1.1 ",
        )
        .refused()
        .own(),
        line("9112 3 two spaces", "GET  /ten.txt HTTP/1.1")
            .refused()
            .own(),
        line("9112 3 a space in the target", "GET /a b.txt HTTP/1.1").refused(),
        later("9112 3 a space in front", " GET /ten.txt HTTP/1.1").refused(),
        later("9112 3 a tab", "GET\t/ten.txt HTTP/1.1")
            .refused()
            .own(),
        later("9112 3 a method that is no token", "G@T /ten.txt HTTP/1.1").refused(),
        later(
            "9112 3 a control character in the target",
            "GET /t\x01en.txt HTTP/1.1",
        )
        .refused()
        .own(),
        raw(
            "9112 2.2 empty lines in front",
            "\r\n\r\nGET /ten.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .is(200)
        .text("0123456789"),
        second(
            "9112 2.2 empty lines between requests",
            "\r\n\r\nGET /empty.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .is(200)
        .text(""),
        raw(
            "9112 2.2 lone line feeds throughout",
            "GET /ten.txt HTTP/1.1\nHost: x\n\n",
        )
        .is(200)
        .text("0123456789"),
    ]
}

fn connections() -> Vec<Case> {
    let ten = "0123456789";
    let old = |rule, fields: &str| {
        raw(rule, format!("GET /ten.txt HTTP/1.0\r\n{fields}\r\n"))
            .is(200)
            .text(ten)
    };
    vec![
        get("9112 9.3 1.1 goes on", "/ten.txt", "").is(200).lacks("connection").text(ten).own(),
        get("9112 9.3 1.1 goes on, whatever it says", "/ten.txt", "").is(200).text(ten),
        get("9112 9.6 close", "/ten.txt", "Connection: close\r\n").is(200).has("connection", "close").text(ten).closes(),
        get("9110 7.6.1 the option's case", "/ten.txt", "Connection: CLOSE\r\n").is(200).text(ten).closes(),
        get("9110 7.6.1 close in a list", "/ten.txt", "Connection: te, close\r\n").is(200).text(ten).closes(),
        get("9110 5.3 close on a second line", "/ten.txt", "Connection: te\r\nConnection: close\r\n").is(200).text(ten).closes(),
        get("9112 9.3 close outweighs keep-alive", "/ten.txt", "Connection: keep-alive, close\r\n").is(200).text(ten).closes(),
        get("9110 7.6.1 an unknown option", "/ten.txt", "Connection: disclose\r\n").is(200).text(ten),
        old("9112 9.3 1.0 closes", "").closes(),
        old("9112 9.3 1.0 goes on when asked", "Connection: keep-alive\r\n").has("connection", "keep-alive"),
        old("9112 9.3 1.0 with both closes", "Connection: keep-alive, close\r\n").closes(),
        raw("9112 9.3 1.0 HEAD closes", "HEAD /ten.txt HTTP/1.0\r\n\r\n").is(200).has("content-length", "10").closes(),
        get("9112 9.3 an error does not end a connection", "/absent", "").is(404),
        get("9112 9.3 nor does a 416", "/ten.txt", "Range: bytes=50-\r\n").is(416),
        second("9112 9.3.2 pipelined", "GET /empty.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /a+b.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            .is(200).text("").is(200).text("a plus"),
        second("9112 9.3.2 pipelined, the middle one refused", "FROB / HTTP/1.1\r\nHost: x\r\n\r\nGET /a+b.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            .any(&[405, 501]).is(200).text("a plus"),
        second("9112 9.6 nothing behind a close", "GET /empty.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /a+b.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            .is(200).closes(),
        get("9110 10.1.1 Expect without a body", "/ten.txt", "Expect: 100-continue\r\n").is(200).text(ten),
        get("9110 10.1.1 an unknown expectation", "/ten.txt", "Expect: 200-miracle\r\n").is(417).own(),
        get("9110 7.8 an upgrade is declined", "/ten.txt", "Connection: upgrade\r\nUpgrade: h2c\r\n").is(200).text(ten),
    ]
}
