//! What people and scripts see: bars, lines, JSON, questions, help, completions, manual pages.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};

use super::support::{Act, Client, Served, Server, finish, wait};

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
fn mistakes_are_usage() {
    let client = Client::new();
    for arguments in [
        &["https://example.org/x"][..],
        &["ftp://example.org/x"],
        &["--segments", "0", "host/x"],
        &["--no-such-flag"],
        &["-o", "x", "host/a", "host/b"],
        &["--retry-wait", "soon", "host/x"],
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

/// Runs `haul get` on a terminal of `columns`; types `typed`; returns the status and the screen.
fn on_terminal(
    client: &Client,
    arguments: &[&str],
    columns: u16,
    typed: &str,
) -> (Option<i32>, String) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
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
    let reader = thread::spawn(move || {
        let (mut screen, mut more) = (Vec::new(), [0; 4096]);
        // A terminal without its last program gives EIO.
        while let Ok(count @ 1..) = master.read(&mut more) {
            screen.extend_from_slice(&more[..count]);
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
    let (status, screen) = on_terminal(&client, &[], 80, &format!("\n{port}\nnotes.txt\n"));
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
        let (file, client) = (Served::new(1, 4 << 20), Client::new());
        let server = Server::start(move |request| {
            let pause = std::time::Duration::from_millis(10);
            vec![Act::Drip {
                bytes: file.answer(request),
                piece: 64 << 10,
                pause,
            }]
        });
        let url = server.url("/a-rather-long-name-for-a-file.bin");
        let (status, screen) = on_terminal(&client, &["--segments", "2", &url], columns, "");
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
