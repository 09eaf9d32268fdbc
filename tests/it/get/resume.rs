//! Killed, interrupted, started twice: the next run goes on, and never from what is not so.

use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{
    Act, Client, Gate, Request, Served, Server, assert_same, finish, wait, wait_until,
};

/// Serves `file` at `piece` bytes every few milliseconds on every connection.
fn slow(file: &Served, piece: usize) -> Server {
    let file = file.clone();
    Server::start(move |request| {
        let pause = Duration::from_millis(5);
        vec![Act::Drip {
            bytes: file.answer(request),
            piece,
            pause,
        }]
    })
}

/// Holds the second half of every answer back until `gate` opens.
fn held(file: &Served, gate: &Gate) -> Server {
    let (file, gate) = (file.clone(), gate.clone());
    Server::start(move |request| {
        let answer = file.answer(request);
        let (first, second) = answer.split_at(answer.len() / 2);
        vec![
            Act::Send(first.to_vec()),
            Act::Hold(gate.clone()),
            Act::Send(second.to_vec()),
        ]
    })
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn killed_a_hundred_times_it_still_ends_whole() {
    let (file, client) = (Served::new(1, 2 << 20), Client::new());
    let server = slow(&file, 16 << 10);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut kills, mut wholes) = (0, 0);
    while kills < 100 {
        let segments = ["1", "3", "auto"][kills % 3];
        let arguments = ["--segments", segments, &server.url("/f")];
        let mut child = client.command(&arguments).spawn().unwrap();
        // From before its first system call to the moment of the rename.
        std::thread::sleep(Duration::from_millis(random.u64(0..300)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if client.path("f").exists() {
            // Once more from the start, until all kills have been had.
            assert_same(&client.path("f"), &file.bytes);
            std::fs::remove_file(client.path("f")).unwrap();
            wholes += 1;
        }
    }
    client.get(&[&server.url("/f")]).assert_status(0);
    client.assert_whole("f", &file.bytes);
    let resumed = server
        .requests()
        .iter()
        .filter(|request| request.range().is_some())
        .count();
    println!("{kills} kills, {wholes} times whole before the last run, {resumed} ranges");
}

/// One server of each kind, behind the paths of one address.
fn of_all_kinds(file: &Served) -> Server {
    let file = file.clone();
    let weak = Served {
        etag: Some("W/\"1\"".to_owned()),
        ..file.clone()
    };
    let dated = Served {
        etag: None,
        ..file.clone()
    };
    Server::start(move |request| {
        let drip = |bytes: Vec<u8>| Act::Drip {
            bytes,
            piece: 32 << 10,
            pause: Duration::from_millis(1),
        };
        let ends = |bytes: &[u8], head: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
            vec![Act::Send(head), drip(bytes.to_vec()), Act::Close]
        };
        match request.target.as_str() {
            "/weak" => vec![drip(weak.answer(request))],
            "/dated" => vec![drip(dated.answer(request))],
            "/noranges" => vec![drip(file.whole())],
            "/close" => ends(&file.bytes, "Connection: close\r\n"),
            "/chunked" => {
                let mut body = Vec::new();
                for chunk in file.bytes.chunks(50_000) {
                    body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    body.extend_from_slice(chunk);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n\r\n");
                ends(&body, "Transfer-Encoding: chunked\r\nConnection: close\r\n")
            }
            "/breaks" => {
                let answer = file.answer(request);
                let end = answer.len().min(400_000);
                vec![drip(answer[..end].to_vec()), Act::Close]
            }
            _ => vec![drip(file.answer(request))],
        }
    })
}

/// Some minutes: `HAUL_TEST_KILLS=1000 cargo test --test it -- --ignored killed_at_random_over`.
#[test]
#[ignore = "240 kills take a minute or two"]
fn killed_at_random_over_all_kinds_of_servers_it_ends_whole_and_keeps_what_was_on_disk() {
    let file = Served::new(1, 2 << 20);
    let server = of_all_kinds(&file);
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut kills, mut wholes) = (0, 0);
    let told = std::env::var("HAUL_TEST_KILLS").ok();
    let most: usize = told.map_or(240, |count| count.parse().unwrap());
    let paths = [
        "f", "weak", "dated", "noranges", "close", "chunked", "breaks", "sum",
    ];
    for path in paths {
        let client = Client::new();
        let url = server.url(&format!("/{path}"));
        let mut claimed = 0;
        // Each run calls itself by the number of what was on disk before it.
        let mut on_disk: Vec<Vec<(u64, u64)>> = Vec::new();
        for round in 0..most.div_ceil(paths.len()) {
            let segments = ["1", "3", "auto"][round % 3];
            let name = on_disk.len().to_string();
            on_disk.push(match client.path("f.part").exists() {
                true => extents(&client, "f.part.state"),
                false => Vec::new(),
            });
            let mut arguments = vec!["-o", "f", "--segments", segments, "-A", &name, &url];
            if matches!(path, "sum" | "weak") {
                arguments.extend(["--blake3", &sum]);
            }
            let mut child = client.command(&arguments).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.u64(0..250)));
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            if client.path("f").exists() {
                assert_same(&client.path("f"), &file.bytes);
                std::fs::remove_file(client.path("f")).unwrap();
                (wholes, claimed) = (wholes + 1, 0);
                continue;
            }
            // Bytes on disk after one run are kept by all later runs.
            let now = claims(&client);
            assert!(
                now >= claimed,
                "{path}: {now} bytes where {claimed} had been"
            );
            claimed = now;
        }
        let mut arguments = vec!["-o", "f", "--segments", "1", &url];
        if matches!(path, "sum" | "weak") {
            arguments.extend(["--blake3", &sum]);
        }
        let before = server.requests().len();
        client.get(&arguments).assert_status(0);
        client.assert_whole("f", &file.bytes);
        if !matches!(path, "noranges" | "close" | "chunked") {
            assert_nothing_is_asked_for_twice(&server.requests(), &url, &on_disk);
        }
        if matches!(path, "f" | "weak" | "dated" | "sum") && claimed > 0 {
            let asked: u64 = server.requests()[before..]
                .iter()
                .filter_map(|request| request.range())
                .map(|(start, end)| end.unwrap_or(file.len()) - start)
                .sum();
            assert!(
                asked <= file.len() - claimed,
                "{path}: {asked} asked, {claimed} here"
            );
        }
    }
    println!("{kills} kills, {wholes} times whole before the last run");
}

/// Asserts that no run requested a byte that was on disk before it.
fn assert_nothing_is_asked_for_twice(requests: &[Request], url: &str, on_disk: &[Vec<(u64, u64)>]) {
    let of_this = requests.iter().filter(|it| url.ends_with(&it.target));
    for request in of_this {
        let run = request.field("user-agent").and_then(|it| it.parse().ok());
        let Some(there) = run.and_then(|run: usize| on_disk.get(run)) else {
            continue;
        };
        let (start, end) = request.range().unwrap_or((0, None));
        let end = end.unwrap_or(u64::MAX);
        for &(first, last) in there {
            assert!(end <= first || last <= start, "{request:?} with {there:?}");
        }
    }
}

/// The most bytes that a state in the directory claims.
fn claims(client: &Client) -> u64 {
    let claimed = |name| {
        let extents = extents(client, name);
        extents.iter().map(|(start, end)| end - start).sum()
    };
    let names = ["f.part.state", "f.part-new.part.state"];
    names.into_iter().map(claimed).max().unwrap_or(0)
}

/// What a state claims; nothing where there is none.
fn extents(client: &Client, name: &str) -> Vec<(u64, u64)> {
    let state = std::fs::read(client.path(name)).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
    let extents = state["done"].as_array().cloned().unwrap_or_default();
    let bound = |extent: &serde_json::Value, index: usize| extent[index].as_u64().unwrap();
    let extents = extents.iter();
    extents
        .map(|extent| (bound(extent, 0), bound(extent, 1)))
        .collect()
}

#[test]
fn killed_after_its_name_is_final_it_leaves_nothing_that_misleads() {
    let (old, new, client) = (
        Served::new(1, 100_000),
        Served::new(2, 100_000),
        Client::new(),
    );
    let server = Server::of(old);
    client.get(&[&server.url("/f")]).assert_status(0);
    // As if the kill had come between the rename and the removal of the state.
    let state = serde_json::json!({
        "version": 1,
        "url": server.url("/f"),
        "identity": {"length": 100_000, "validator": {"etag": "\"1\""}, "last_modified": null},
        "done": [[0, 100_000]],
    });
    std::fs::write(client.path("f.part.state"), state.to_string()).unwrap();
    let server = Server::of(new.clone());
    client.get(&["--force", &server.url("/f")]).assert_status(0);
    client.assert_whole("f", &new.bytes);
}

#[test]
fn an_interrupted_download_goes_on() {
    let (file, client, gate) = (Served::new(1, 8 << 20), Client::new(), Gate::default());
    let server = held(&file, &gate);
    let arguments = ["--segments", "2", &server.url("/f")];
    let child = client.command(&arguments).spawn().unwrap();
    wait_until(|| server.requests().len() >= 2 && client.path("f.part.state").exists());
    signal(&child, Signal::SIGINT);
    finish(child)
        .assert_status(130)
        .assert_says("the same command goes on from there");
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    let asked = server.requests().len();
    gate.open();
    client.get(&arguments).assert_status(0);
    client.assert_whole("f", &file.bytes);
    // Where nothing had come by then, it begins with a plain request.
    let requests = server.requests();
    let mut ranges = requests[asked..]
        .iter()
        .filter(|it| it.field("range").is_some());
    assert!(ranges.all(|request| request.field("if-range") == Some("\"1\"")));
}

#[test]
fn a_part_of_another_file_is_not_gone_on_with() {
    let (one, two, client) = (
        Served::new(1, 1 << 20),
        Served::new(2, 1 << 20),
        Client::new(),
    );
    let broken = Server::start(move |request| {
        let answer = one.answer(request);
        vec![Act::Send(answer[..answer.len() / 2].to_vec()), Act::Close]
    });
    client
        .get(&["--retries", "0", "--segments", "1", &broken.url("/f")])
        .assert_status(5);
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    let server = Server::of(two.clone());
    client
        .get(&[&server.url("/f")])
        .assert_status(5)
        .assert_says("--restart");
    assert_eq!(client.names(), ["f.part", "f.part.state"]);
    client
        .get(&["--restart", &server.url("/f")])
        .assert_status(0);
    client.assert_whole("f", &two.bytes);
}

#[test]
fn a_part_is_gone_on_with_by_a_later_run_and_only_the_rest_is_asked_for() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let served = file.clone();
    let server = Server::start(move |request| match request.number {
        0 => {
            let answer = served.answer(request);
            vec![Act::Send(answer[..answer.len() / 2].to_vec()), Act::Close]
        }
        _ => vec![Act::Send(served.answer(request))],
    });
    client
        .get(&["--retries", "0", "--segments", "1", &server.url("/f")])
        .assert_status(5);
    let ran = client.get(&["--json", "--segments", "1", &server.url("/f")]);
    ran.assert_status(0);
    client.assert_whole("f", &file.bytes);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let start = requests[1].range().unwrap().0;
    assert!(start > 500_000 && start < 530_000, "{start}");
    assert_eq!(ran.events("started")[0]["resumed"].as_u64(), Some(start));
    assert_eq!(
        ran.events("finished")[0]["received"].as_u64(),
        Some((1 << 20) - start)
    );
}

#[test]
fn what_a_killed_run_had_whole_is_only_given_its_name() {
    let (file, client) = (Served::new(1, 1000), Client::new());
    let address = Server::of(file.clone()).url("/f");
    std::fs::write(client.path("f.part"), file.bytes.as_slice()).unwrap();
    let state = serde_json::json!({
        "version": 1,
        "url": address,
        "identity": {"length": 1000, "validator": {"etag": "\"1\""}, "last_modified": null},
        "done": [[0, 1000]],
    });
    std::fs::write(client.path("f.part.state"), state.to_string()).unwrap();
    // The server is gone; nothing more is needed of it.
    client.get(&[&address]).assert_status(0);
    client.assert_whole("f", &file.bytes);
}

#[test]
fn two_at_once_do_not_mix() {
    let (file, client, gate) = (Served::new(1, 4 << 20), Client::new(), Gate::default());
    let server = held(&file, &gate);
    let arguments = ["--segments", "1", &server.url("/f")];
    let mut first = client.command(&arguments).spawn().unwrap();
    wait_until(|| client.path("f.part.state").exists());
    client
        .get(&arguments)
        .assert_status(6)
        .assert_says("another haul get");
    gate.open();
    assert_eq!(wait(&mut first), Some(0));
    client.assert_whole("f", &file.bytes);
}
