//! Odd heads of responses: malformed fields, unexpected statuses, servers without HEAD.

use super::support::{Act, Client, Request, Served, Server};

/// A server that says `head`, and `body` behind it, and closes.
fn saying(head: &'static str, body: &'static str) -> Server {
    Server::start(move |_| {
        let answer = format!("HTTP/1.1 {head}\r\n\r\n{body}");
        vec![Act::Send(answer.into_bytes()), Act::Close]
    })
}

#[test]
fn a_field_that_says_where_the_body_ends_is_never_skipped() {
    // Nine bytes of ten came: taken to end with the connection, they would be the whole file.
    for head in ["Content-Length : 10", "Content-Length\t: 10"] {
        let server = saying(
            Box::leak(format!("200 OK\r\n{head}").into_boxed_str()),
            "nine byte",
        );
        let client = Client::new();
        client
            .get(&["--retries", "1", &server.url("/f")])
            .assert_status(5)
            .assert_says("1 bytes are missing");
        assert!(!client.path("f").exists());
    }
    for head in [
        "200 OK\r\nContent-Length: 10\u{1}",
        "200 OK\r\nTransfer-Encoding: chunked\u{7f}",
        "200 OK\r\nContent-Encoding: gzip\u{1}",
    ] {
        let (server, client) = (saying(head, "a\r\nnine byte"), Client::new());
        client
            .get(&[&server.url("/f")])
            .assert_status(4)
            .assert_says("cannot be read");
        assert!(client.names().is_empty(), "{head:?}");
    }
    let chunked = saying(
        "200 OK\r\nTransfer-Encoding : chunked",
        "5\r\nhello\r\n0\r\n\r\n",
    );
    let client = Client::new();
    client.get(&[&chunked.url("/f")]).assert_status(0);
    client.assert_whole("f", b"hello");
}

#[test]
fn a_coding_hides_behind_no_second_field() {
    let head =
        "200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 5";
    let (server, client) = (saying(head, "hello"), Client::new());
    client
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("(gzip)");
    assert!(client.names().is_empty());
}

#[test]
fn a_proxy_that_cannot_reach_its_server_is_asked_again() {
    for status in [507, 509, 520, 522, 524, 530] {
        let file = Served::new(1, 1000);
        let served = file.clone();
        let server = Server::start(move |request| match request.number {
            0 => vec![Act::Send(
                format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            )],
            _ => vec![Act::Send(served.answer(request))],
        });
        let client = Client::new();
        client.get(&[&server.url("/f")]).assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn an_unrequested_protocol_switch_is_final_at_once() {
    let server = Server::start(|_| {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        vec![Act::Send(answer.to_vec()), Act::Stall]
    });
    let client = Client::new();
    client
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("unexpected answer (101)");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_name_is_had_by_get_wherever_head_fails() {
    let refuse = |status: u16| {
        vec![Act::Send(
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )]
    };
    // 0 closes without a word.
    for status in [0, 404, 406, 500, 503] {
        let file = Served::new(1, 1000);
        let served = file.clone();
        let server =
            Server::start(
                move |request: &Request| match (request.method.as_str(), status) {
                    ("HEAD", 0) => vec![Act::Close],
                    ("HEAD", status) => refuse(status),
                    _ => {
                        let more = "Content-Disposition: attachment; filename=named\r\n";
                        let mut answer = served.head("200 OK", served.len(), more);
                        answer.extend_from_slice(&served.bytes);
                        vec![Act::Send(answer)]
                    }
                },
            );
        let client = Client::new();
        client.get(&["-J", &server.url("/f")]).assert_status(0);
        client.assert_whole("named", &file.bytes);
    }
}

#[test]
fn a_redirect_out_of_http_names_the_redirecting_server() {
    for place in ["file:///etc/passwd", "ftp://127.0.0.1/x"] {
        let head = format!("302 Found\r\nContent-Length: 0\r\nLocation: {place}");
        let server = saying(Box::leak(head.into_boxed_str()), "");
        let client = Client::new();
        let url = server.url("/f");
        client
            .get(&[&url])
            .assert_status(4)
            .assert_says(&format!("{url} leads to {place}"));
    }
}

#[test]
fn a_slip_in_an_address_is_told_before_anything_is_asked() {
    let client = Client::new();
    for (arguments, words) in [
        (&["http:/127.0.0.1/f"][..], "two slashes"),
        (&["-"], "-o - is standard output"),
        (&["-i", "-"], "standard input has no URL"),
        (
            &["-O", "out.iso", "http://127.0.0.1:9/f"],
            "-O takes no name",
        ),
    ] {
        client.get(arguments).assert_status(2).assert_says(words);
    }
}

#[test]
fn a_failed_download_reports_the_kept_bytes() {
    let file = Served::new(1, 1 << 20);
    let server = Server::start(move |request| match request.number {
        0 => vec![
            Act::Send(super::support::cut(&file.whole(), 50)),
            Act::Close,
        ],
        _ => vec![Act::Send(
            b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )],
    });
    let client = Client::new();
    client
        .get(&["-s", "1", &server.url("/f")])
        .assert_status(3)
        .assert_says("bytes are kept: the same command goes on from there");
}

#[test]
fn a_retry_after_of_an_hour_is_kept_if_the_time_limit_allows() {
    let server = saying("503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0", "");
    let client = Client::new();
    client
        .get(&[&server.url("/f")])
        .assert_status(4)
        .assert_says("--retry-for can wait that long");
    client
        .get(&["--retry-for", "2h", "--max-time", "1s", &server.url("/f")])
        .assert_says("next try in");
}
