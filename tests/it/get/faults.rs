//! Servers that break, stall, contradict themselves and change files: the file is right, or there
//! is none and the exit status says why.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use super::support::{Act, Client, Request, Served, Server, cut};

const LENGTH: usize = 3 << 20;

/// A server that does `fault` with its first answer and behaves from then on.
fn faulty_once(
    file: &Served,
    fault: impl Fn(Vec<u8>) -> Vec<Act> + Send + Sync + 'static,
) -> Server {
    let file = file.clone();
    Server::start(move |request| match request.number {
        0 => fault(file.answer(request)),
        _ => vec![Act::Send(file.answer(request))],
    })
}

/// Asserts that the one request after the fault was for the rest, under the file's tag.
#[track_caller]
fn assert_resumed(server: &Server) -> Request {
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    let (start, end) = requests[1].range().expect("a range");
    assert!(start > 0 && end == Some(LENGTH as u64), "{start}-{end:?}");
    assert_eq!(requests[1].field("if-range"), Some("\"1\""));
    requests[1].clone()
}

/// Stacks of a gibibyte in an address space of so many: some threads start, others do not.
#[test]
fn without_another_thread_it_goes_on_with_fewer_or_says_so() {
    let file = Served::new(8, 3 << 20);
    let server = Server::of(file.clone());
    let statuses: Vec<_> = (0..10)
        .map(|stacks| {
            let client = Client::new();
            let limit = ((stacks + 1) << 20).to_string();
            let mut command = std::process::Command::new("sh");
            command
                .current_dir(client.directory.path())
                .args(["-c", "ulimit -v $0; exec \"$1\" get -q -s 4 \"$2\"", &limit])
                .arg(env!("CARGO_BIN_EXE_haul"))
                .arg(server.url("/f"))
                .env("RUST_MIN_STACK", (1 << 30).to_string())
                .env_remove("http_proxy")
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            let ran = super::support::finish(command.spawn().unwrap());
            match ran.status {
                Some(0) => super::support::assert_same(&client.path("f"), &file.bytes),
                _ => {
                    assert!(matches!(ran.status, Some(4 | 6)), "{:?}", ran.status);
                    ran.assert_says("cannot start a thread");
                    // What is here is no hindrance.
                    client.get(&[&server.url("/f")]).assert_status(0);
                    client.assert_whole("f", &file.bytes);
                }
            }
            ran.status
        })
        .collect();
    assert_eq!(statuses.first(), Some(&Some(6)), "{statuses:?}");
}

#[test]
fn a_connection_that_closes_is_resumed() {
    for receive in ["splice", "copy"] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let server = faulty_once(&file, |answer| {
            vec![Act::Send(cut(&answer, 50)), Act::Close]
        });
        client
            .get(&["--segments", "1", "--receive", receive, &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &file.bytes);
        assert_resumed(&server);
    }
}

#[test]
fn a_connection_that_is_reset_is_resumed() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    // A reset may overtake bytes on their way, all of them even: only the result is certain.
    let server = faulty_once(&file, |answer| {
        vec![Act::Send(cut(&answer, 50)), Act::Reset]
    });
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_connection_that_stalls_is_given_up_and_resumed() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let server = faulty_once(&file, |answer| {
        vec![Act::Send(cut(&answer, 50)), Act::Stall]
    });
    client
        .get(&[
            "--stall-timeout",
            "1s",
            "--segments",
            "1",
            &server.url("/f"),
        ])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert!(server.requests().len() > 1);
}

#[test]
fn a_line_that_breaks_all_the_time_still_gets_there() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let answer = served.answer(request);
        let end = answer.len().min(300_000);
        vec![Act::Send(answer[..end].to_vec()), Act::Close]
    });
    client
        .get(&["--retries", "1", "--segments", "1", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn corrupt_bytes_are_found_by_the_sum() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let served = file;
    let server = Server::start(move |request| {
        let mut answer = served.answer(request);
        let middle = answer.len() - LENGTH / 2;
        answer[middle] ^= 1;
        vec![Act::Send(answer)]
    });
    client
        .get(&["--blake3", &sum, &server.url("/f")])
        .assert_status(7)
        .assert_says("blake3");
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
}

#[test]
fn a_length_that_is_too_long_ends_in_an_error() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file;
    let server = Server::start(move |request| match request.range() {
        None => {
            let mut answer = served.head("200 OK", served.len() + 1000, "");
            answer.extend_from_slice(&served.bytes);
            vec![Act::Send(answer), Act::Close]
        }
        Some(_) => vec![Act::Send(served.answer(request))],
    });
    client
        .get(&["--retries", "3", &server.url("/f")])
        .assert_status(5);
    assert!(!client.path("f").exists());
}

#[test]
fn bytes_behind_the_promised_length_are_left_out_with_a_word() {
    for closing in ["Connection: close\r\n", ""] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let served = file.clone();
        let server = Server::start(move |_| {
            let mut answer = served.head("200 OK", served.len(), closing);
            answer.extend_from_slice(&served.bytes);
            answer.extend_from_slice(b"\r\n");
            vec![Act::Send(answer), Act::Close]
        });
        let ran = client.get(&["--segments", "1", &server.url("/f")]);
        ran.assert_status(0);
        if !closing.is_empty() {
            ran.assert_says("more bytes than it had promised");
        }
        client.assert_whole("f", &file.bytes);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn lengths_that_contradict_each_other_end_in_an_error() {
    let client = Client::new();
    let server = Server::start(|_| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
        vec![Act::Send(answer.to_vec())]
    });
    client
        .get(&["--retries", "1", &server.url("/f")])
        .assert_status(4)
        .assert_says("Content-Length");
    assert!(client.names().is_empty());
}

/// The part file still begins with these bytes.
#[track_caller]
fn assert_kept(client: &Client, bytes: &[u8]) {
    let kept = std::fs::read(client.path("f.part")).unwrap();
    assert!(kept.starts_with(bytes));
    assert!(!client.path("f").exists());
}

/// The first answer is the old file and breaks; `then` answers the rest of the requests.
fn changes(
    then: impl Fn(&Served, &Request) -> Vec<u8> + Send + Sync + 'static,
) -> (Client, Served) {
    let (old, new, client) = (
        Served::new(1, LENGTH),
        Served::new(2, LENGTH),
        Client::new(),
    );
    let (served, before) = (new.clone(), old.clone());
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&before.whole(), 50)), Act::Close],
        _ => vec![Act::Send(then(&served, request))],
    });
    let arguments = ["--segments", "1", &server.url("/f")];
    let ran = client.get(&arguments);
    ran.assert_status(5).assert_says("--restart");
    assert_kept(&client, &old.bytes[..LENGTH / 3]);
    client
        .get(&[&arguments[..], &["--restart"]].concat())
        .assert_status(0);
    client.assert_whole("f", &new.bytes);
    (client, new)
}

#[test]
fn a_file_that_changes_keeps_what_came_and_is_fetched_anew_by_restart() {
    changes(Served::answer);
}

#[test]
fn a_file_that_changes_on_a_server_without_if_range_keeps_what_came() {
    changes(|new, request| match request.range() {
        Some((start, _)) => new.part(start, new.len()),
        None => new.whole(),
    });
}

#[test]
fn a_range_without_a_validator_is_not_used() {
    changes(|new, request| match request.range() {
        Some((start, _)) => Served {
            etag: None,
            ..new.clone()
        }
        .part(start, new.len()),
        None => new.whole(),
    });
}

#[test]
fn a_file_that_shrinks_below_the_part_keeps_what_came() {
    let (old, new, client) = (Served::new(1, LENGTH), Served::new(2, 1000), Client::new());
    let (served, before) = (new.clone(), old.clone());
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(cut(&before.whole(), 50)), Act::Close],
        // 416 before If-Range is looked at, as some do.
        _ if request.range().is_some() => {
            vec![Act::Send(served.head(
                "416 Range Not Satisfiable",
                0,
                "Content-Range: bytes */1000\r\n",
            ))]
        }
        _ => vec![Act::Send(served.whole())],
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(5)
        .assert_says("--restart");
    assert_kept(&client, &old.bytes[..LENGTH / 3]);
    client
        .get(&["--restart", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &new.bytes);
}

#[test]
fn a_file_that_never_holds_still_ends_in_an_error() {
    let client = Client::new();
    let server = Server::start(|request| {
        let version = Served::new(request.number as u64, LENGTH);
        vec![Act::Send(cut(&version.whole(), 50)), Act::Close]
    });
    let ran = client.get(&["--segments", "1", "--retries", "100", &server.url("/f")]);
    ran.assert_status(5).assert_says("changed");
    assert!(!client.path("f").exists());
}

/// The first answer breaks; every range request is answered by `lie`, the rest properly.
fn lies(lie: impl Fn(&Served, (u64, u64)) -> Vec<u8> + Send + Sync + 'static) {
    for segments in ["1", "4"] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let served = file.clone();
        let lie = &lie;
        // The handler outlives this loop's borrow only on paper: the server is dropped in it.
        let answers: Vec<Vec<u8>> = vec![lie(&served, (LENGTH as u64 / 2, LENGTH as u64))];
        let server = Server::start(move |request| match (request.number, request.range()) {
            (0, _) => vec![Act::Send(cut(&served.whole(), 50)), Act::Close],
            (_, Some(_)) => vec![Act::Send(answers[0].clone())],
            _ => vec![Act::Send(served.whole())],
        });
        client
            .get(&["--segments", segments, &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn two_hundred_to_a_range_starts_over() {
    lies(|file, _| file.whole());
}

#[test]
fn the_wrong_range_is_not_used() {
    lies(|file, _| file.part(17, 1017));
    lies(|file, _| file.part(0, file.len()));
}

#[test]
fn a_range_without_content_range_is_not_used() {
    lies(|file, (start, end)| {
        let mut answer = file.head("206 Partial Content", end - start, "");
        answer.extend_from_slice(&file.bytes[start as usize..]);
        answer
    });
}

#[test]
fn several_parts_in_one_answer_are_not_used() {
    lies(|file, (start, end)| {
        let mut body = b"--B\r\nContent-Type: a/b\r\n\r\n".to_vec();
        body.extend_from_slice(&file.bytes[start as usize..end as usize]);
        body.truncate((end - start) as usize);
        let range = format!("bytes {start}-{}/{}", end - 1, file.len());
        let more =
            format!("Content-Range: {range}\r\nContent-Type: multipart/byteranges; boundary=B\r\n");
        let mut answer = file.head("206 Partial Content", end - start, &more);
        answer.extend_from_slice(&body);
        answer
    });
}

#[test]
fn four_sixteen_inside_the_file_starts_over() {
    lies(|file, _| {
        let range = format!("Content-Range: bytes */{}\r\n", file.len());
        file.head("416 Range Not Satisfiable", 0, &range)
    });
}

#[test]
fn a_range_of_another_length_is_not_used() {
    lies(|file, (start, end)| {
        let range = format!(
            "Content-Range: bytes {start}-{}/{}\r\n",
            end - 1,
            file.len()
        );
        let mut answer = file.head("206 Partial Content", end - start - 7, &range);
        answer.extend_from_slice(&file.bytes[start as usize..end as usize - 7]);
        answer
    });
}

#[test]
fn retry_after_is_waited_for() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy"
                .to_vec(),
        )],
        _ => vec![Act::Send(served.answer(request))],
    });
    let ran = client.get(&["--json", &server.url("/f")]);
    ran.assert_status(0);
    client.assert_whole("f", &file.bytes);
    let retry = ran.events("retry").pop().expect("a retry event");
    assert_eq!(retry["wait"].as_f64(), Some(1.0));
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let client = Client::new();
    let server = Server::start(|_| {
        vec![Act::Send(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )]
    });
    client
        .get(&["--retries", "2", &server.url("/f")])
        .assert_status(4)
        .assert_says("after 2 retries");
    assert_eq!(server.requests().len(), 3);
    assert!(client.names().is_empty());
}

#[test]
fn endless_heads_are_refused() {
    let client = Client::new();
    let server = Server::start(|_| {
        let mut acts = vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec())];
        let filler = format!("X-Filler: {}\r\n", "x".repeat(2000)).repeat(40);
        acts.extend(std::iter::repeat_n(Act::Send(filler.into_bytes()), 100));
        acts
    });
    client
        .get(&["--retries", "1", &server.url("/f")])
        .assert_status(4)
        .assert_says("never ends");
    assert!(client.names().is_empty());
}

#[test]
fn a_head_that_drips_is_given_up() {
    let client = Client::new();
    let server = Server::start(|_| {
        let bytes = b"x".repeat(10_000);
        let head = Act::Send(b"HTTP/1.1 200 OK\r\nX-Filler: ".to_vec());
        vec![
            head,
            Act::Drip {
                bytes,
                piece: 1,
                pause: Duration::from_millis(20),
            },
        ]
    });
    let ran = client.get(&[
        "--retries",
        "0",
        "--stall-timeout",
        "500ms",
        &server.url("/f"),
    ]);
    ran.assert_status(4);
    assert!(client.names().is_empty());
}

#[test]
fn what_is_not_http_is_refused() {
    for rubbish in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"",
        b"\0\0\0\0",
        b"HTTP/2.0 200 OK\r\n\r\n",
    ] {
        let client = Client::new();
        let server = Server::start(move |_| vec![Act::Send(rubbish.to_vec()), Act::Close]);
        client
            .get(&["--retries", "1", &server.url("/f")])
            .assert_status(4);
        assert!(client.names().is_empty());
    }
}

#[test]
fn without_a_strong_validator_it_starts_over() {
    let client = Client::new();
    let file = Served {
        etag: Some("W/\"1\"".to_owned()),
        ..Served::new(1, LENGTH)
    };
    let server = faulty_once(&file, |answer| {
        vec![Act::Send(cut(&answer, 50)), Act::Close]
    });
    client
        .get(&["--segments", "4", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.range().is_none())
    );
}

#[test]
fn a_date_that_is_old_enough_validates() {
    let client = Client::new();
    let file = Served {
        etag: None,
        ..Served::new(1, LENGTH)
    };
    let server = faulty_once(&file, |answer| {
        vec![Act::Send(cut(&answer, 50)), Act::Close]
    });
    client
        .get(&["--segments", "1", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    let requests = server.requests();
    assert_eq!(requests[1].field("if-range"), file.last_modified.as_deref());
}

#[test]
fn what_the_server_does_not_have_leaves_nothing() {
    for (status, expected) in [
        ("404 Not Found", 3),
        ("410 Gone", 3),
        ("403 Forbidden", 3),
        ("501 No", 4),
    ] {
        let client = Client::new();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        let server = Server::start(move |_| vec![Act::Send(answer.clone().into_bytes())]);
        client.get(&[&server.url("/f")]).assert_status(expected);
        assert!(client.names().is_empty());
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_port_without_a_listener() {
    let client = Client::new();
    let address = Server::of(Served::new(1, 1)).url("/f");
    client
        .get(&["--retries", "1", &address])
        .assert_status(4)
        .assert_says("cannot connect");
    // A mistyped address is reported soon, unless more retries are set.
    let ran = client.get(&[&address]);
    ran.assert_says("given up after 3 retries");
    let ran = client.get(&["--retries", "5", &address]);
    ran.assert_says("given up after 5 retries");
    assert!(client.names().is_empty());
}

#[test]
fn a_server_that_was_there_for_another_file_is_waited_for() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let answer = file.whole();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        stream.write_all(&answer).unwrap();
    });
    let (first, second) = (format!("{root}/f"), format!("{root}/g"));
    client
        .get(&["-P", "1", "--retry-wait", "1ms", &first, &second])
        .assert_status(4)
        .assert_says("given up after 10 retries");
    server.join().unwrap();
    client.assert_whole("f", &file.bytes);
}
