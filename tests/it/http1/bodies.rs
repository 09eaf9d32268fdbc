//! Request bodies: they are discarded, and the next request must not be taken for one.

use super::case::{Case, raw, request};

#[test]
fn bodies() {
    super::run(&cases(), |_| {});
}

pub fn cases() -> Vec<Case> {
    [lengths(), chunks(), broken_chunks()].concat()
}

fn lengths() -> Vec<Case> {
    let sized = |rule, method: &str, len: usize, body: &str| {
        request(
            rule,
            method,
            "/ten.txt",
            &format!("Content-Length: {len}\r\n"),
        )
        .with(body)
    };
    vec![
        sized("9112 6.3 GET with a body", "GET", 5, "hello").is(200).text("0123456789"),
        sized("9112 6.3 a body that looks like a request", "GET", 27, "GET /empty.txt HTTP/1.1\r\n\r\n").is(200).text("0123456789"),
        sized("9112 6.3 HEAD with a body", "HEAD", 5, "hello").is(200),
        sized("9112 6.3 POST with a body", "POST", 5, "hello").any(&[405, 501]).or_elsewhere(&[200]),
        sized("9112 6.3 an empty body", "GET", 0, "").is(200).text("0123456789"),
        sized("9112 6.3 line ends in a body", "GET", 4, "\r\n\r\n").is(200).text("0123456789"),
        sized("9112 6.3 NULs in a body", "GET", 3, "\0\0\0").is(200).text("0123456789"),
        sized("9112 6.3 a larger body", "GET", 5_000, &"x".repeat(5_000)).is(200).text("0123456789"),
        request("9112 6.3 a refused method with a body", "PUT", "/x", "Content-Length: 5\r\n").with("hello").any(&[404, 405, 501]),
        request("9112 6.3 an unknown method with a body", "FROB", "/x", "Content-Length: 5\r\n").with("hello").any(&[405, 501]),
        request("9112 6.3 a body to nothing", "GET", "/absent", "Content-Length: 5\r\n").with("hello").is(404),
        request("9112 6.3 leading zeros", "GET", "/ten.txt", "Content-Length: 005\r\n").with("hello").is(200),
        raw("9112 6.3 on 1.0", "GET /ten.txt HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello").is(200),
        raw("9110 10.1.1 100 Continue is for who waits", "GET /ten.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            .is(200).closes(),
        raw("9110 10.1.1 not on 1.0", "GET /ten.txt HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello").is(200).closes(),
    ]
}

fn chunked(rule: &'static str, body: &str) -> Case {
    request(rule, "GET", "/ten.txt", "Transfer-Encoding: chunked\r\n").with(body)
}

fn chunks() -> Vec<Case> {
    let fine = |rule, body: &str| chunked(rule, body).is(200).text("0123456789");
    vec![
        fine("9112 7.1 one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        fine("9112 7.1 no chunk", "0\r\n\r\n"),
        fine(
            "9112 7.1 several chunks",
            "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n",
        ),
        fine(
            "9112 7.1 hexadecimal in both cases",
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        ),
        fine("9112 7.1 leading zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        fine(
            "9112 7.1.1 an extension",
            "5;name=value\r\nhello\r\n0\r\n\r\n",
        ),
        fine(
            "9112 7.1.1 an extension in quotes",
            "5;name=\"a;b\"\r\nhello\r\n0;x\r\n\r\n",
        ),
        fine(
            "9112 7.1.2 trailer fields",
            "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        ),
        fine(
            "9112 7.1 line ends and sizes within data",
            "8\r\n0\r\n\r\n5\r\n\r\n0\r\n\r\n",
        ),
        request(
            "9112 7 the coding's case",
            "GET",
            "/ten.txt",
            "Transfer-Encoding: CHUNKED\r\n",
        )
        .with("0\r\n\r\n")
        .is(200),
        request(
            "9112 7 a tab before the coding",
            "GET",
            "/ten.txt",
            "Transfer-Encoding:\tchunked\r\n",
        )
        .with("0\r\n\r\n")
        .is(200),
        request(
            "9112 7 a refused method with chunks",
            "POST",
            "/ten.txt",
            "Transfer-Encoding: chunked\r\n",
        )
        .with("5\r\nhello\r\n0\r\n\r\n")
        .any(&[405, 501])
        .or_elsewhere(&[200]),
    ]
}

fn broken_chunks() -> Vec<Case> {
    // A close without reading the body is safe as well.
    let bad = |rule, body: &str| chunked(rule, body).refused().or_elsewhere(&[200]);
    vec![
        bad(
            "9112 7.1 a size that is no number",
            "x\r\nhello\r\n0\r\n\r\n",
        ),
        bad("9112 7.1 a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        bad("9112 7.1 a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        bad("9112 7.1 an empty size", "\r\nhello\r\n0\r\n\r\n"),
        bad(
            "9112 7.1 a space before the size",
            " 5\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 7.1 a size of 65 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 7.1 a size of 68 bits of zeros",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
        )
        .own(),
        bad(
            "9112 7.1 a chunk longer than its size",
            "4\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 7.1 a chunk shorter than its size",
            "6\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 2.2 a lone line feed behind a size",
            "5\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 2.2 a lone line feed behind data",
            "5\r\nhello\n0\r\n\r\n",
        ),
        bad(
            "9112 2.2 a lone carriage return behind a size",
            "5\rhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 7.1.1 a lone line feed within an extension",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "9112 7.1.1 a NUL within an extension",
            "5;a\0b\r\nhello\r\n0\r\n\r\n",
        )
        .own(),
        bad(
            "9112 7.1.2 a lone line feed in the trailer",
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
        )
        .own(),
        bad(
            "9112 7.1 a space behind the size",
            "5 \r\nhello\r\n0\r\n\r\n",
        )
        .own(),
    ]
}
