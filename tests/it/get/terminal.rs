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
    assert!(
        ran.events("failed")[0]["text"]
            .as_str()
            .unwrap()
            .contains("--force")
    );
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
        &["https://example.org/x"][..],
        &["ftp://example.org/x"],
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
    for columns in [20, 60, 120] {
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
            assert!(
                console::measure_text_width(&shown) <= usize::from(columns),
                "{columns}: {shown:?}"
            );
        }
    }
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
    for word in ["Exit status", "skip\\-existing", "resum"] {
        assert!(page.contains(word), "{word}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    command.arg("man").stdout(std::process::Stdio::piped());
    let ran = finish(command.spawn().unwrap());
    assert_eq!(ran.status, Some(0));
    assert!(String::from_utf8(ran.stdout).unwrap().contains("haul"));
}
