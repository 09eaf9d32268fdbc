//! What people and scripts see: bars, lines, JSON, questions, help, completions, manual pages.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::support::{Act, Client, Gate, Served, Server, finish, wait};

#[test]
fn scripts_get_events() {
    let (file, client) = (Served::new(1, 1 << 20), Client::new());
    let server = Server::of(file);
    let ran = client.get(&["--json", &server.url("/f")]);
    ran.assert_status(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.events("started")[0]["length"].as_u64(), Some(1 << 20));
    let finished = &ran.events("finished")[0];
    assert_eq!(finished["bytes"].as_u64(), Some(1 << 20));
    assert_eq!(finished["received"].as_u64(), Some(1 << 20));
    assert_eq!(finished["name"], "f");
    assert_eq!(finished["retries"].as_u64(), Some(0));
    let ran = client.get(&["--json", &server.url("/f")]);
    ran.assert_status(6);
    let (failed, ended) = (&ran.events("failed")[0], &ran.events("ended")[0]);
    assert_eq!(failed["reason"], "local_file");
    assert_eq!(failed["exit_status"], 6);
    assert_eq!(ended["exit_status"], 6);
    assert_eq!(ended["totals"]["failed"], 1);
    assert!(
        ran.events("failed")[0]["text"]
            .as_str()
            .unwrap()
            .contains("--force")
    );
}

#[test]
fn scripts_get_reasons_totals_and_an_index_for_each_file() {
    let client = Client::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/bad" => vec![Act::Send(
            b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )],
        _ => vec![Act::Send(Served::new(1, 1000).answer(request))],
    });
    let urls = [server.url("/a"), server.url("/bad"), server.url("/c")];
    let ran = client.get(&["--json", &urls[0], &urls[1], &urls[2]]);
    ran.assert_status(3);
    let failed = &ran.events("failed")[0];
    assert_eq!(failed["reason"], "not_found");
    assert_eq!(failed["status"], 404);
    let ended = &ran.events("ended")[0];
    assert_eq!(ended["exit_status"], 3);
    assert_eq!(ended["totals"]["finished"], 2);
    assert_eq!(ended["totals"]["bytes"], 2000);
    let finished = ran.events("finished");
    let mut files: Vec<_> = finished
        .iter()
        .chain([failed])
        .map(|it| it["file"].as_u64())
        .collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 3);
}

#[test]
fn a_terminal_that_cannot_draw_shows_failures_all_the_same() {
    for term in [Some("dumb"), None] {
        let client = Client::new();
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let mut command = client.command(&["--retries", "0", "http://127.0.0.1:1/f"]);
        command.env_remove("TERM").stderr(slave);
        if let Some(term) = term {
            command.env("TERM", term);
        }
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut master = File::from(master);
        let (mut screen, mut more) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = master.read(&mut more) {
            screen.extend_from_slice(&more[..count]);
        }
        assert_eq!(wait(&mut child), Some(4));
        assert!(
            String::from_utf8_lossy(&screen).contains("cannot connect"),
            "{term:?}"
        );
    }
}

#[test]
fn bytes_go_to_a_terminal_only_by_force() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    for (force, status) in [(&[][..], 2), (&["--force"], 0)] {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let url = server.url("/f");
        let arguments: Vec<_> = ["-o", "-", &url]
            .into_iter()
            .chain(force.iter().copied())
            .collect();
        let mut command = client.command(&arguments);
        command.stdout(slave);
        let child = command.spawn().unwrap();
        drop(command);
        let mut master = File::from(master);
        let reader = thread::spawn(move || {
            let mut more = [0; 4096];
            while let Ok(1..) = master.read(&mut more) {}
        });
        finish(child).assert_status(status);
        reader.join().unwrap();
    }
}

#[test]
fn what_fingers_are_used_to_is_understood() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    let url = server.url("/f");
    let habits: [&[&str]; 8] = [
        &["-c"],
        &["-C", "-"],
        &["-L"],
        &["-O"],
        &["--limit-rate", "10M"],
        &["-j", "2"],
        &["-x", "2"],
        &["--tries", "3"],
    ];
    for habit in habits {
        let arguments: Vec<_> = ["-f", &url]
            .into_iter()
            .chain(habit.iter().copied())
            .collect();
        client.get(&arguments).assert_status(0);
    }
    let mut command = client.command(&["-f", &url]);
    command.env("HAUL_GET_DIRECTORY", "by-variable");
    finish(command.spawn().unwrap()).assert_status(0);
    assert!(client.path("by-variable/f").exists());
}

#[test]
fn variables_stand_for_options() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    std::fs::write(client.path("netrc"), "default login a password b").unwrap();
    let url = server.url("/f");
    let with = |name: &str, value: &str| {
        let mut command = client.command(&["-f", &url]);
        command.env("NETRC", client.path("netrc")).env(name, value);
        finish(command.spawn().unwrap())
    };
    for (name, value, told) in [
        ("HAUL_GET_USER", "me:secret", "Basic bWU6c2VjcmV0"),
        ("HAUL_GET_NETRC", "true", "Basic YTpi"),
    ] {
        with(name, value).assert_status(0);
        let request = server.requests().pop().unwrap();
        assert_eq!(request.field("authorization"), Some(told), "{name}");
    }
    with("HAUL_GET_USER_AGENT", "me/1").assert_status(0);
    let request = server.requests().pop().unwrap();
    assert_eq!(request.field("user-agent"), Some("me/1"));
    for name in [
        "CONNECT_TIMEOUT",
        "DEPTH",
        "EXISTING",
        "MAX_TIME",
        "MIN_RATE",
        "MIN_RATE_WINDOW",
        "PARALLEL",
        "RATE",
        "RESUME",
        "RETRIES",
        "RETRY_FOR",
        "RETRY_WAIT",
        "SEGMENTS",
        "STALL_TIMEOUT",
    ] {
        // What makes no sense shows that it is read, unless the command line says otherwise.
        let ran = with(&format!("HAUL_GET_{name}"), "nonsense");
        assert!(
            ran.status == Some(2) || name == "RETRY_WAIT",
            "{name}: {ran:?}"
        );
    }
}

#[test]
fn sums_of_five_kinds_and_lists_from_anywhere() {
    let client = Client::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/SUMS" => vec![Act::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n5d41402abc4b2a76b9719d911017c592  f\n\n"
                .to_vec(),
        )],
        _ => vec![Act::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        )],
    });
    let (url, sums) = (server.url("/f"), server.url("/SUMS"));
    const SHA512: &str = "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    let cases: [&[&str]; 5] = [
        &["--md5", "5d41402abc4b2a76b9719d911017c592"],
        &["--sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"],
        &["--sha512", SHA512],
        &[
            "--blake3",
            "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
        ],
        &["--checksum", &sums],
    ];
    for case in cases {
        let arguments: Vec<_> = ["-f", &url]
            .into_iter()
            .chain(case.iter().copied())
            .collect();
        client
            .get(&arguments)
            .assert_status(0)
            .assert_says("verified");
    }
    client
        .get(&["-f", "--sha1", &"0".repeat(40), &url])
        .assert_status(7);
}

#[test]
fn quiet_is_quiet_but_for_failures() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    let ran = client.get(&["-q", &server.url("/f")]);
    ran.assert_status(0);
    assert_eq!((ran.stderr.as_str(), ran.stdout.len()), ("", 0));
    client
        .get(&["-q", &server.url("/f")])
        .assert_status(6)
        .assert_says("--force");
}

#[test]
fn logs_get_plain_lines() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1 << 20));
    let ran = client.get(&[&server.url("/f")]);
    ran.assert_status(0).assert_says("haul: f: 1.0 MiB in ");
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}

#[test]
fn a_name_that_is_not_utf8_does_not_silence_the_events() {
    let client = Client::new();
    let server = Server::of(Served::new(1, 1000));
    let name = OsStr::from_bytes(b"f\xff");
    let url = server.url("/f");
    let mut command = client.command(&["--json", &url, "-o"]);
    let ran = finish(command.arg(name).spawn().unwrap());
    ran.assert_status(0);
    assert_eq!(ran.events("finished")[0]["name"], "f\u{fffd}");
    assert!(client.path("").join(name).exists());
}

#[test]
fn a_wait_for_a_name_is_told() {
    let client = Client::new();
    let file = Served::new(1, 1000);
    let server = Server::start(move |request| match request.number {
        0 => vec![Act::Send(file.head("503 Busy", 0, "")), Act::Close],
        _ if request.method == "HEAD" => vec![Act::Send(file.head("200 OK", file.len(), ""))],
        _ => vec![Act::Send(file.answer(request))],
    });
    client
        .get(&["--remote-name", &server.url("/f")])
        .assert_status(0)
        .assert_says("(503); next try in");
}

#[test]
fn mistakes_are_usage() {
    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let client = Client::new();
    for arguments in [
        &["ftp://example.org/x"][..],
        &["--segments", "0", "host/x"],
        &["--no-such-flag"],
        &["-o", "x", "host/a", "host/b"],
        &["--retry-wait", "soon", "host/x"],
        &["--connect-timeout", "0", "host/x"],
        &["--stall-timeout", "0s", "host/x"],
        &["--stall-timeout", "1e19", "host/x"],
        &["--rate", "0", "host/x"],
        &["--sha256", SUM, "host/x", "host/y"],
        &["--blake3", SUM, "--recursive", "host/x"],
        &[],
    ] {
        client.get(arguments).assert_status(2);
    }
    client
        .get(&["--retries", "0", "127.0.0.1:1/"])
        .assert_status(2)
        .assert_says("--recursive");
    client
        .get(&["-o", "dir/", "127.0.0.1:1/f"])
        .assert_status(2)
        .assert_says("-d dir/");
    assert!(client.names().is_empty());
}

/// Runs `haul get` on a terminal of `columns`; types `typed`; opens `gate` once there is a percentage
/// on the screen; returns the status and the screen.
fn on_terminal(
    client: &Client,
    arguments: &[&str],
    columns: u16,
    typed: &str,
    gate: &Gate,
) -> (Option<i32>, String) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    // Without the echo, which would come in the middle of anything.
    let mut settings = tcgetattr(&slave).unwrap();
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&slave, SetArg::TCSANOW, &settings).unwrap();
    let mut command = client.command(arguments);
    command
        .env("TERM", "xterm")
        .stdin(slave.try_clone().unwrap())
        .stderr(slave);
    let mut child = command.spawn().unwrap();
    // The command holds the slave's ends; the master ends only when they are gone.
    drop(command);
    let mut master = File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    let gate = gate.clone();
    let reader = thread::spawn(move || {
        let (mut screen, mut more) = (Vec::new(), [0; 4096]);
        // A terminal without its last program gives EIO.
        while let Ok(count @ 1..) = master.read(&mut more) {
            screen.extend_from_slice(&more[..count]);
            if screen.contains(&b'%') {
                gate.open();
            }
        }
        String::from_utf8_lossy(&screen).into_owned()
    });
    let status = wait(&mut child);
    (status, reader.join().unwrap())
}

#[test]
fn without_a_url_it_asks_as_the_tutorial_does() {
    let client = Client::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(super::support::LONGEST))
            .unwrap();
        let mut name = Vec::new();
        stream.read_to_end(&mut name).unwrap();
        stream.write_all(b"hello").unwrap();
        name
    });
    let (status, screen) = on_terminal(
        &client,
        &[],
        80,
        &format!("\n{port}\nnotes.txt\n"),
        &Gate::default(),
    );
    assert_eq!(status, Some(0), "{screen}");
    assert_eq!(server.join().unwrap(), b"notes.txt");
    for question in ["server [127.0.0.1]: ", "port [7788]: ", "file name: "] {
        assert!(screen.contains(question), "{screen}");
    }
    client.assert_whole("notes.txt", b"hello");
}

#[test]
fn bars_fit_narrow_terminals() {
    for columns in [20, 40, 60, 120] {
        let (file, client, gate) = (Served::new(1, 4 << 20), Client::new(), Gate::default());
        let held = gate.clone();
        let server = Server::start(move |request| {
            let answer = file.answer(request);
            let (first, second) = answer.split_at(answer.len() / 2);
            let hold = Act::Hold(held.clone());
            vec![Act::Send(first.to_vec()), hold, Act::Send(second.to_vec())]
        });
        let url = server.url("/a-rather-long-name-for-a-file.bin");
        let (status, screen) = on_terminal(&client, &["--segments", "2", &url], columns, "", &gate);
        assert_eq!(status, Some(0), "{screen}");
        assert!(screen.contains('%'), "{screen:?}");
        for line in screen.split(['\r', '\n']).filter(|line| line.contains('%')) {
            let shown = console::strip_ansi_codes(line);
            assert!(shown.trim_start().starts_with("a-"), "no name: {shown:?}");
            assert!(
                console::measure_text_width(&shown) <= usize::from(columns),
                "{columns}: {shown:?}"
            );
        }
    }
}

#[test]
fn hashing_is_shown_and_counts_of_zero_are_not() {
    let (file, client) = (Served::new(1, 24 << 20), Client::new());
    let server = Server::of(file.clone());
    let (url, wrong) = (server.url("/f"), "0".repeat(64));
    client.get(&["--sha256", &wrong, &url]).assert_status(7);
    // All of it is here: what takes time is the hashing.
    let gate = Gate::default();
    let arguments = ["--blake3", &wrong, &url];
    let (status, screen) = on_terminal(&client, &arguments, 40, "", &gate);
    assert_eq!(status, Some(7), "{screen}");
    assert!(screen.contains("% hashed"), "{screen:?}");
    let sum = blake3::hash(&file.bytes).to_hex().to_string();
    let ran = client.get(&["--blake3", &sum, &url]);
    ran.assert_status(0).assert_says("verified");
    for zero in [" 0 B", " 0 retries", " 0 failed", "0.0 s"] {
        assert!(!ran.stderr.contains(zero), "{}", ran.stderr);
    }
    // And that of a file that is there.
    let arguments = ["--existing", "skip", "--blake3", &sum, &url];
    let (status, screen) = on_terminal(&client, &arguments, 40, "", &gate);
    assert_eq!(status, Some(0), "{screen}");
    assert!(screen.contains("% hashed"), "{screen:?}");
}

#[test]
fn completions_for_every_shell_know_every_flag() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        let output = command.args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["get", "skip-existing", "completions", "man"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_for_every_command() {
    let client = Client::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    let output = command
        .args(["man", "--out"])
        .arg(client.path("man1"))
        .output()
        .unwrap();
    assert!(output.status.success());
    for page in ["haul.1", "haul-get.1", "haul-completions.1", "haul-man.1"] {
        assert!(client.path("man1").join(page).exists(), "{page}");
    }
    let page = std::fs::read_to_string(client.path("man1/haul-get.1")).unwrap();
    for word in [
        "Exit status",
        "skip\\-existing",
        "resum",
        ".SH \"EXIT STATUS\"",
        ".SH \"FILES\"",
        ".SH \"EXAMPLES\"",
        ".SH \"ENVIRONMENT\"",
    ] {
        assert!(page.contains(word), "{word}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    command.arg("man").stdout(std::process::Stdio::piped());
    let ran = finish(command.spawn().unwrap());
    assert_eq!(ran.status, Some(0));
    assert!(String::from_utf8(ran.stdout).unwrap().contains("haul"));
}
