//! Several connections, several servers, one file.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::support::{Act, Client, Gate, Request, Served, Server, cut, finish};

const LENGTH: usize = 8 << 20;

/// Answers at a pace that lets the other connections have their share.
fn paced(file: &Served, request: &Request) -> Vec<Act> {
    let bytes = file.answer(request);
    vec![Act::Drip {
        bytes,
        piece: 256 << 10,
        pause: Duration::from_millis(10),
    }]
}

#[test]
fn four_segments_share_a_file() {
    for receive in ["splice", "copy"] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let sum = blake3::hash(&file.bytes).to_hex().to_string();
        let served = file.clone();
        let server = Server::start(move |request| paced(&served, request));
        let url = server.url("/f");
        let ran = client.get(&[
            "--segments",
            "4",
            "--receive",
            receive,
            "--blake3",
            &sum,
            &url,
        ]);
        ran.assert_status(0).assert_says("verified");
        client.assert_whole("f", &file.bytes);
        let requests = server.requests();
        assert!(requests.len() >= 4, "{}", requests.len());
        assert!(
            requests[1..]
                .iter()
                .all(|request| request.field("if-range") == Some("\"1\""))
        );
    }
}

#[test]
fn connections_that_break_at_once_break_for_one_reason() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let (served, gate) = (file.clone(), Gate::default());
    let server = Server::start(move |request| {
        let answer = served.answer(request);
        match request.number {
            // A server that restarts: all it was sending ends at one time.
            0..6 => {
                if request.number == 5 {
                    gate.open();
                }
                let half = Act::Send(answer[..answer.len() / 8].to_vec());
                vec![half, Act::Hold(gate.clone()), Act::Close]
            }
            _ => vec![Act::Send(answer)],
        }
    });
    let ran = client.get(&["--segments", "6", "--retries", "1", &server.url("/f")]);
    ran.assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn ranges_that_end_early_by_themselves_are_not_asked_for_again() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let Some((start, Some(end))) = request.range() else {
            return paced(&served, request);
        };
        let range = format!("bytes {start}-{}/{LENGTH}", end - 1);
        let head = "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nTransfer-Encoding: chunked";
        let head = format!("{head}\r\nContent-Range: {range}\r\n\r\n3\r\n").into_bytes();
        let body = &served.bytes[start as usize..start as usize + 3];
        vec![Act::Send([&head, body, b"\r\n0\r\n\r\n"].concat())]
    });
    let arguments = ["-s", "4", "--retries", "0", &server.url("/f")];
    client.get(&arguments).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn another_version_in_ranges_does_not_end_the_one_that_comes_whole() {
    for status in ["206", "200"] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let (served, other) = (file.clone(), Served::new(2, LENGTH));
        let server = Server::start(move |request| match request.range() {
            None => paced(&served, request),
            Some(_) if status == "200" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5";
                vec![Act::Send(format!("{head}\r\n\r\nLogin").into_bytes())]
            }
            Some((start, end)) => vec![Act::Send(other.part(start, end.unwrap()))],
        });
        let ran = client.get(&["--segments", "4", &server.url("/f")]);
        ran.assert_status(0).assert_says("one connection it is");
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn a_server_without_ranges_gets_one_stream() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |_| {
        let bytes = served.whole();
        vec![Act::Drip {
            bytes,
            piece: 256 << 10,
            pause: Duration::from_millis(10),
        }]
    });
    client
        .get(&["--segments", "4", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_server_that_takes_one_connection_at_a_time() {
    for refusal in [
        Act::Reset,
        Act::Close,
        Act::Send(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ] {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let (served, busy) = (file.clone(), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            // The first response takes long; further requests meanwhile get 503.
            match busy.fetch_add(1, Ordering::SeqCst) {
                0 => paced(&served, request),
                1..=3 => vec![refusal.clone()],
                _ => vec![Act::Send(served.answer(request))],
            }
        });
        client
            .get(&["--segments", "4", &server.url("/f")])
            .assert_status(0);
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn segments_of_two_versions_are_never_put_together() {
    let (old, new, client) = (
        Served::new(1, LENGTH),
        Served::new(2, LENGTH),
        Client::new(),
    );
    let (first, served) = (old.clone(), new.clone());
    let server = Server::start(move |request| match request.number {
        0..=2 => paced(&old, request),
        _ => paced(&served, request),
    });
    // The fourth connection meets the new version while three receive the old one. The first, which
    // requested the whole file, may have all of it by the time that the others end.
    let ran = client.get(&["--segments", "4", &server.url("/f")]);
    if ran.status == Some(0) {
        return client.assert_whole("f", &first.bytes);
    }
    ran.assert_status(5)
        .assert_says("the file has changed on the server");
    assert!(!client.path("f").exists());
    let ran = client.get(&["--restart", &server.url("/f")]);
    ran.assert_status(0);
    client.assert_whole("f", &new.bytes);
}

#[test]
fn a_slow_segment_is_split_again() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| {
        let answer = served.answer(request);
        match request.number {
            // The second half's connection all but stops; the rest is fast.
            1 => vec![Act::Drip {
                bytes: answer,
                piece: 4 << 10,
                pause: Duration::from_millis(20),
            }],
            _ => paced(&served, request),
        }
    });
    client
        .get(&["--segments", "2", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
    // Alone, the slow one would have taken its half in two requests altogether.
    assert!(server.requests().len() > 2, "{}", server.requests().len());
}

#[test]
fn mirrors_share_the_segments() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let other = Served {
        etag: Some("\"other software\"".to_owned()),
        ..file.clone()
    };
    let (one, two) = (file.clone(), other);
    let first = Server::start(move |request| paced(&one, request));
    let mirror = Server::start(move |request| paced(&two, request));
    let arguments = [
        "--segments",
        "2",
        "--mirror",
        &mirror.url("/g"),
        &first.url("/f"),
    ];
    client.get(&arguments).assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert!(!mirror.requests().is_empty());
}

#[test]
fn a_mirror_with_another_file_is_dropped() {
    let longer = Served::new(2, LENGTH + 1);
    let unlike = Served {
        last_modified: None,
        ..Served::new(3, LENGTH)
    };
    let of_that_time = Served::new(4, LENGTH);
    let untagged = |seed| Served {
        etag: None,
        ..Served::new(seed, LENGTH)
    };
    for (file, other) in [
        (Served::new(1, LENGTH), longer),
        (Served::new(1, LENGTH), unlike),
        (Served::new(1, LENGTH), of_that_time),
        (untagged(1), untagged(5)),
    ] {
        let client = Client::new();
        let served = file.clone();
        let first = Server::start(move |request| paced(&served, request));
        let mirror = Server::of(other);
        let arguments = [
            "--segments",
            "3",
            "--mirror",
            &mirror.url("/f"),
            &first.url("/f"),
        ];
        client
            .get(&arguments)
            .assert_status(0)
            .assert_says("a mirror is dropped");
        client.assert_whole("f", &file.bytes);
    }
}

#[test]
fn a_mirror_that_fails_is_dropped() {
    let broken = Server::start(|_| {
        vec![Act::Send(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )]
    });
    let gone = Server::of(Served::new(1, 1)).url("/f");
    let words = ["a mirror is dropped", "other addresses are asked first"];
    for (mirror, word) in [broken.url("/f"), gone].iter().zip(words) {
        let (file, client) = (Served::new(1, LENGTH), Client::new());
        let served = file.clone();
        let first = Server::start(move |request| paced(&served, request));
        let arguments = ["--segments", "2", "--mirror", mirror, &first.url("/f")];
        client.get(&arguments).assert_status(0).assert_says(word);
        client.assert_whole("f", &file.bytes);
        // The first address takes the mirror's share over.
        assert!(first.requests().len() > 1);
    }
}

#[test]
fn a_mirror_that_failed_once_is_asked_again_when_the_others_fail() {
    let (file, client, gate) = (Served::new(1, LENGTH), Client::new(), Gate::default());
    let (served, asked) = (file.clone(), gate.clone());
    let mirror = Server::start(move |request| match request.number {
        0 => {
            asked.open();
            vec![Act::Send(
                b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )]
        }
        _ => vec![Act::Send(served.answer(request))],
    });
    let served = file.clone();
    let first = Server::start(move |request| match request.number {
        0 => {
            let half = Act::Send(cut(&served.whole(), 50));
            vec![half, Act::Hold(gate.clone()), Act::Close]
        }
        _ => vec![Act::Send(
            b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )],
    });
    let arguments = ["-s", "2", "--mirror", &mirror.url("/f"), &first.url("/f")];
    client.get(&arguments).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn dead_mirrors_do_not_end_a_download_that_goes_on() {
    let (file, client, gate) = (Served::new(1, LENGTH), Client::new(), Gate::default());
    let (served, asked) = (file.clone(), gate.clone());
    let dead = Server::start(move |request| {
        if request.number == 8 {
            asked.open();
        }
        vec![Act::Reset]
    });
    let first = Server::start(move |request| match request.number {
        0 => {
            let mut whole = served.whole();
            let rest = whole.split_off(LENGTH / 8);
            vec![Act::Send(whole), Act::Hold(gate.clone()), Act::Send(rest)]
        }
        _ => vec![Act::Send(served.answer(request))],
    });
    let mut arguments = vec!["-s".to_owned(), "4".into(), "--retries".into(), "3".into()];
    for number in 0..16 {
        arguments.extend(["--mirror".to_owned(), dead.url(&format!("/{number}"))]);
    }
    arguments.push(first.url("/f"));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    client.get(&arguments).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_mirror_takes_over_when_the_first_address_fails() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let gone = Server::of(file.clone()).url("/f");
    let mirror = Server::of(file.clone());
    client
        .get(&["--mirror", &mirror.url("/g"), &gone])
        .assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn a_mirror_that_looks_the_same_but_is_not_is_found_by_the_sum() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    // The same length, date and even tag; other bytes.
    let forged = Served {
        bytes: Served::new(2, LENGTH).bytes,
        ..file.clone()
    };
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let served = file.clone();
    let first = Server::start(move |request| paced(&served, request));
    let mirror = Server::start(move |request| paced(&forged, request));
    let url = (first.url("/f"), mirror.url("/f"));
    let arguments = [
        "--segments",
        "2",
        "--blake3",
        &sum,
        "--mirror",
        &url.1,
        &url.0,
    ];
    client
        .get(&arguments)
        .assert_status(0)
        .assert_says("no mirrors any more");
    client.assert_whole("f", &file.bytes);
}

#[test]
fn connections_that_are_refused_for_good_leave_the_first_one_to_it() {
    let (file, client, gate) = (Served::new(1, LENGTH), Client::new(), Gate::default());
    let (served, held) = (file.clone(), gate.clone());
    // An address that is good for one answer: what comes later is refused.
    let server = Server::start(move |request| match request.number {
        0 => {
            let answer = served.whole();
            let (first, rest) = answer.split_at(LENGTH / 8);
            vec![
                Act::Send(first.to_vec()),
                Act::Hold(held.clone()),
                Act::Send(rest.to_vec()),
            ]
        }
        _ => vec![Act::Send(served.head("403 Forbidden", 0, ""))],
    });
    let url = server.url("/f");
    let mut child = client
        .command(&["--segments", "4", "--json", &url])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).unwrap() > 0 {
            // The others have come and gone.
            if server.requests().len() >= 4 && line.contains("\"connections\":1") {
                gate.open();
            }
            line.clear();
        }
        server.requests().len()
    });
    finish(child).assert_status(0);
    client.assert_whole("f", &file.bytes);
    assert_eq!(reader.join().unwrap(), 4);
}

#[test]
fn a_mirror_is_asked_before_the_retries_are_spent() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let gone = Server::of(file.clone()).url("/f");
    let mirror = Server::of(file.clone());
    client
        .get(&["--retries", "0", "--mirror", &mirror.url("/g"), &gone])
        .assert_status(0)
        .assert_says("a mirror is next");
    client.assert_whole("f", &file.bytes);
}

#[test]
fn what_was_hashed_is_not_written_over_by_a_liar() {
    let (file, client) = (Served::new(1, LENGTH), Client::new());
    let (rest, wrong) = (Gate::default(), Gate::default());
    let (served, held, lie) = (file.clone(), rest.clone(), wrong.clone());
    let whole_answers = AtomicUsize::new(0);
    // The third quarter comes with the right bytes. The other range is nonsense, so that the first
    // answer is all there is; and that has other bytes at the end of the third quarter.
    let server = Server::start(move |request| match request.range() {
        None if whole_answers.fetch_add(1, Ordering::SeqCst) == 0 => {
            let mut answer = served.whole();
            let end = answer.len() - LENGTH / 4;
            answer[end - (128 << 10)..end].fill(0);
            let rest = answer.split_off(LENGTH / 8);
            vec![
                Act::Send(answer),
                Act::Hold(held.clone()),
                Act::Drip {
                    bytes: rest,
                    piece: 64 << 10,
                    pause: Duration::from_millis(2),
                },
            ]
        }
        // Half of what was left when the second connection came.
        Some((start, _)) if !(LENGTH / 2..LENGTH * 5 / 8).contains(&(start as usize)) => {
            vec![Act::Hold(lie.clone()), Act::Send(served.part(0, 1000))]
        }
        _ => vec![Act::Send(served.answer(request))],
    });
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let url = server.url("/f");
    let mut child = client
        .command(&["--segments", "3", "--json", "--blake3", &sum, &url])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).unwrap() > 0 {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["done"].as_u64() > Some(LENGTH as u64 / 3) {
                wrong.open();
            }
            // More than the two quarters and a half: both connections asked for what is served.
            let is_all_right = event["done"].as_u64() > Some(LENGTH as u64 / 2);
            if event["event"] == "note" || is_all_right {
                rest.open();
            }
            line.clear();
        }
    });
    finish(child).assert_status(0);
    reader.join().unwrap();
    client.assert_whole("f", &file.bytes);
}
