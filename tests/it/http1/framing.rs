//! Ambiguous ends of a request, the basis of request smuggling (RFC 9112 section 11.2). All of it
//! is refused, and the connection ends.

use super::case::{Case, raw, request, second};

#[test]
fn framing() {
    super::run(&cases(), |_| {});
}

pub fn cases() -> Vec<Case> {
    [lengths(), codings(), fields(), bytes()].concat()
}

/// A POST to a name, whose method alone would be answered by 405.
fn bad(rule: &'static str, fields: &str, body: &str) -> Case {
    request(rule, "GET", "/ten.txt", fields)
        .with(body)
        .refused()
}

fn lengths() -> Vec<Case> {
    vec![
        bad(
            "9112 6.3 differing Content-Lengths",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "hello",
        ),
        bad(
            "9112 6.3 equal Content-Lengths",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "hello",
        )
        .own(),
        bad(
            "9112 6.3 a list of equal lengths",
            "Content-Length: 5, 5\r\n",
            "hello",
        )
        .own(),
        bad(
            "9112 6.3 a list of differing lengths",
            "Content-Length: 5, 6\r\n",
            "hello",
        ),
        bad("9110 8.6 a plus sign", "Content-Length: +5\r\n", "hello"),
        bad("9110 8.6 a minus sign", "Content-Length: -5\r\n", "hello"),
        bad("9110 8.6 hexadecimal", "Content-Length: 0x5\r\n", "hello"),
        bad(
            "9110 8.6 white space within",
            "Content-Length: 1 0\r\n",
            "hello",
        ),
        bad("9110 8.6 an empty length", "Content-Length:\r\n", "hello"),
        bad("9110 8.6 a fraction", "Content-Length: 5.0\r\n", "hello"),
        bad("9110 8.6 an exponent", "Content-Length: 5e0\r\n", "hello"),
        bad("9110 8.6 quotes", "Content-Length: \"5\"\r\n", "hello"),
        bad("9110 8.6 letters", "Content-Length: five\r\n", "hello"),
        request(
            "9110 8.6 more than 64 bits hold",
            "GET",
            "/ten.txt",
            "Content-Length: 18446744073709551621\r\n",
        )
        .with("hello")
        .any(&[400, 413])
        .closes(),
        request(
            "9110 15.5.14 more than is thrown away",
            "GET",
            "/ten.txt",
            "Content-Length: 9223372036854775807\r\n",
        )
        .with("hello")
        .any(&[400, 413])
        .closes(),
        bad(
            "9112 6.3 an underscore for the hyphen",
            "Content_Length: 5\r\n",
            "hello",
        )
        .own(),
        bad(
            "9112 6.3 a length of nothing, and one",
            "Content-Length: 0\r\nContent-Length: 5\r\n",
            "hello",
        ),
    ]
}

fn codings() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    vec![
        bad("9112 6.1 length before coding", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", body),
        bad("9112 6.1 coding before length", "Transfer-Encoding: chunked\r\nContent-Length: 15\r\n", body),
        bad("9112 6.1 a length that would hide a request", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
        bad("9112 6.1 a length of 0 and a coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", body),
        bad("9112 6.1 chunked twice", "Transfer-Encoding: chunked, chunked\r\n", body).or_elsewhere(&[501]),
        bad("9112 6.1 chunked in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body),
        bad("9112 6.3 chunked not last", "Transfer-Encoding: chunked, identity\r\n", body).or_elsewhere(&[501]),
        request("9112 6.3 identity is gone", "GET", "/ten.txt", "Transfer-Encoding: identity\r\n").with(body)
            .any(&[400, 501]).closes(),
        request("9112 6.3 an unknown coding alone", "GET", "/ten.txt", "Transfer-Encoding: xchunked\r\n").with(body)
            .any(&[400, 501]).closes(),
        bad("9112 6.3 a coding in quotes", "Transfer-Encoding: \"chunked\"\r\n", body).own(),
        bad("9112 6.3 a vertical tab before the coding", "Transfer-Encoding: \x0bchunked\r\n", body).or_elsewhere(&[501]),
        bad("9112 6.3 an unknown second line", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", body).own(),
        bad("9112 6.3 an empty coding", "Transfer-Encoding:\r\n", body).own(),
        bad("9112 6.3 a parameter", "Transfer-Encoding: chunked;q=1\r\n", body).own(),
        bad("9112 6.3 an underscore for the hyphen", "Transfer_Encoding: chunked\r\n", body).own(),
        request("9112 6.1 gzip, then chunked", "GET", "/ten.txt", "Transfer-Encoding: gzip, chunked\r\n").with(body)
            .any(&[400, 501]).closes(),
        raw("9112 6.1 a coding on 1.0", format!("GET /ten.txt HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).refused(),
    ]
}

fn fields() -> Vec<Case> {
    let body = "hello";
    vec![
        bad(
            "9112 5.1 a space before the colon",
            "Content-Length : 5\r\n",
            body,
        ),
        bad(
            "9112 5.1 a tab before the colon",
            "Content-Length\t: 5\r\n",
            body,
        ),
        bad(
            "9112 5.1 a space before the coding's colon",
            "Transfer-Encoding : chunked\r\n",
            "0\r\n\r\n",
        ),
        bad("9112 5.2 a folded line", "X: a\r\n b\r\n", ""),
        bad("9112 5.2 a line folded by a tab", "X: a\r\n\tb\r\n", ""),
        bad(
            "9112 5.2 a folded coding",
            "Transfer-Encoding:\r\n chunked\r\n",
            "0\r\n\r\n",
        ),
        bad(
            "9112 5.2 a folded line of white space alone",
            "X: a\r\n \r\n",
            "",
        ),
        raw(
            "9112 2.2 white space before the first field",
            "GET /ten.txt HTTP/1.1\r\n Host: x\r\n\r\n",
        )
        .refused(),
        raw(
            "9112 2.2 a first field of white space",
            "GET /ten.txt HTTP/1.1\r\n \r\nHost: x\r\n\r\n",
        )
        .refused(),
        bad("9110 5.1 a space within a name", "X Y: a\r\n", ""),
        bad("9110 5.1 no name", ": a\r\n", ""),
        bad("9110 5.1 no colon", "X\r\n", ""),
        bad("9110 5.1 a name in quotes", "\"X\": a\r\n", ""),
        bad("9110 5.1 a name in brackets", "X[0]: a\r\n", "").own(),
        bad("9110 5.1 a name with a slash", "X/Y: a\r\n", "").own(),
        bad(
            "9110 5.1 a name with a letter beyond ASCII",
            "X\u{fc}: a\r\n",
            "",
        )
        .own(),
        request(
            "9110 5.5 a value beyond ASCII",
            "GET",
            "/ten.txt",
            "X: \u{fc}\r\n",
        )
        .is(200)
        .text("0123456789"),
        request("9110 5.5 an empty value", "GET", "/ten.txt", "X:\r\n")
            .is(200)
            .text("0123456789"),
        request(
            "9110 5.5 a tab within a value",
            "GET",
            "/ten.txt",
            "X: a\tb\r\n",
        )
        .is(200)
        .text("0123456789"),
        request(
            "9110 5.6.2 a name of every token character",
            "GET",
            "/ten.txt",
            "a!#$%&'*+-.^_`|~9: x\r\n",
        )
        .is(200)
        .text("0123456789")
        .own(),
        request(
            "9110 5.1 a field that is no framing",
            "GET",
            "/ten.txt",
            "Content-Lengths: 5\r\n",
        )
        .is(200)
        .text("0123456789"),
    ]
}

fn bytes() -> Vec<Case> {
    let refused = |rule, bytes: &[u8]| raw(rule, bytes).refused();
    vec![
        refused("9112 2.2 a carriage return within a value", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"),
        refused("9112 2.2 a carriage return for a line end", b"GET /ten.txt HTTP/1.1\r\nHost: x\rX: a\r\n\r\n"),
        refused("9112 2.2 a carriage return before a field", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\n\rX: a\r\n\r\n"),
        refused("9112 2.2 two carriage returns", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\r\n\r\n").own(),
        refused("9112 2.2 a carriage return within a name", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX\rY: a\r\n\r\n"),
        refused("9110 5.5 a NUL within a value", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
        refused("9110 5.5 a NUL at the end of a value", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: a\0\r\n\r\n"),
        refused("9110 5.1 a NUL within a name", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n"),
        refused("9110 5.5 a control character within a value", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n").own(),
        refused("9110 5.5 a DEL within a value", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\nX: a\x7fb\r\n\r\n").own(),
        refused("9112 3 a NUL within the target", b"GET /ten.txt\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
        refused("9112 2.2 one line with a lone line feed", b"GET /ten.txt HTTP/1.1\r\nHost: x\nX: a\r\n\r\n").own(),
        refused("9112 2.2 an end of lone line feeds", b"GET /ten.txt HTTP/1.1\r\nHost: x\r\n\n").own(),
        second("9112 2.2 rubbish for a second request", b"\x16\x03\x01\r\n\r\n").refused(),
        second("9112 9.3.2 a body that was not announced", b"hello\r\nGET /ten.txt HTTP/1.1\r\nHost: x\r\n\r\n").refused(),
        second("9112 3.2 no Host in a second request", b"GET /ten.txt HTTP/1.1\r\n\r\n").refused(),
        second("9112 11.2 a request behind a refused one is not answered",
            b"GET /a+b.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /ten.txt HTTP/1.1\r\nHost: x\r\n\r\n").refused(),
    ]
}
