//! How the program starts: what it says, what it refuses, where its settings come from.

use std::net::{SocketAddr, TcpListener};

use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::support::{Client, noise, own_address};

#[test]
fn it_says_what_it_serves_and_where() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().canonicalize().expect("there");
    let mut program = Program::start(haul().args([
        "serve",
        "--root",
        path.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "0",
        "--workers",
        "3",
    ]));
    let (first, second) = (program.address(), program.address());
    assert_ne!(first, second);
    for address in [first, second] {
        assert!(address.ip().is_loopback());
        // Ready is ready, and the address is one to click on.
        let _ = Client::connect(address);
        let url = format!("http://{address}/");
        assert!(
            program.said.iter().any(|line| line.contains(&url)),
            "{:?}",
            program.said
        );
    }
    let all = program.said.join("\n");
    assert!(all.contains(path.to_str().expect("UTF-8")), "{all}");
    assert!(all.contains("3 workers"), "{all}");
    assert!(
        all.contains("--listen 0.0.0.0:"),
        "how to open it to the network: {all}"
    );
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    let listening = |line: &&String| line.starts_with("listening on ");
    assert_eq!(program.said.iter().filter(listening).count(), 2);
}

#[test]
fn what_it_says_of_tls_is_true_of_tls() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().to_str().expect("UTF-8");
    let mut program = Program::start(haul().args([
        "serve",
        directory,
        "--state",
        &format!("{directory}/.state"),
        "--tls-self",
        "--listen-tls",
        "127.0.0.1:0",
    ]));
    let address: SocketAddr = program.line("listening on ").parse().expect("an address");
    let all = program.said.join("\n");
    let port = address.port();
    assert!(
        all.contains(&format!("network: --listen-tls 0.0.0.0:{port}")),
        "{all}"
    );
    let fetch = all.lines().find(|line| line.contains("haul get --pin "));
    let url = format!(" https://{address}/FILE");
    assert!(fetch.is_some_and(|line| line.ends_with(&url)), "{all}");
}

#[test]
fn it_listens_on_ipv6_and_ipv4_side_by_side() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: no IPv6 here");
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen", "[::1]:0", "--root"])
            .arg(root.path()),
    );
    let address = program.address();
    assert!(address.is_ipv6());
    assert!(
        program
            .said
            .iter()
            .any(|line| line.ends_with(&format!("listening on [::1]:{}", address.port())))
    );
    let mut client = Client::connect(address);
    client.send("f\n");
    assert_eq!(client.rest(), b"content");
    drop(program);
    // One port of both families; it may have been taken since it was found to be free.
    let both = (0..50).find_map(|_| {
        let port = TcpListener::bind("[::]:0").ok()?.local_addr().ok()?.port();
        let both = [format!("[::]:{port}"), format!("0.0.0.0:{port}")];
        let mut command = haul();
        command.args(["serve", "--listen", &both[0], "--listen", &both[1]]);
        let mut program = Program::start(command.arg("--root").arg(root.path()));
        for address in both {
            let said = program.try_line("listening on ")?;
            assert_eq!(said, address);
        }
        Some((program, port))
    });
    let (_program, port) = both.expect("one port that is free in both families");
    for address in ["[::1]", "127.0.0.1"] {
        let address: SocketAddr = format!("{address}:{port}").parse().expect("an address");
        let mut client = Client::connect(address);
        client.send("f\n");
        assert_eq!(client.rest(), b"content");
    }
}

#[test]
fn what_it_cannot_have_is_named_with_a_way_out() {
    let missing = run(haul().args(["serve", "--listen", "0", "--root", "/nowhere/at/all"]));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(
        said.contains("/nowhere/at/all") && said.contains("--root"),
        "{said}"
    );

    let file = tempfile::NamedTempFile::new().expect("a file");
    let no_directory = run(haul()
        .args(["serve", "--listen", "0", "--root"])
        .arg(file.path()));
    let said = String::from_utf8_lossy(&no_directory.stderr).into_owned();
    assert_eq!(no_directory.status.code(), Some(1), "{said}");
    let parent = file.path().parent().expect("a directory").display();
    assert!(
        said.contains(&format!("serve its directory, {parent}")),
        "{said}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let in_use = run(haul().args(["serve", "--listen", &address]));
    let said = String::from_utf8_lossy(&in_use.stderr).into_owned();
    assert_eq!(in_use.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&address) && said.contains("--listen"),
        "{said}"
    );
    assert!(!said.contains("listening on"), "{said}");

    let log = run(haul().args(["serve", "--listen", "0", "--access-log", "/nowhere/at/all"]));
    let said = String::from_utf8_lossy(&log.stderr).into_owned();
    assert_eq!(log.status.code(), Some(1), "{said}");
    assert!(said.contains("--access-log"), "{said}");
}

#[test]
fn values_that_mean_nothing_are_errors_of_usage() {
    for arguments in [
        ["--listen", "nowhere"],
        ["--listen", "1:2:3"],
        ["--listen", "127.0.0.1:99999"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["--quantum", "0"],
        ["--quantum", "2Q"],
        ["--drain-timeout", "soon"],
        ["--name-grace", "0s"],
        ["--max-connections", "0"],
        ["--transmit", "teleport"],
        ["--log", "everything"],
        ["--no-such-flag", "x"],
    ] {
        let output = run(haul().arg("serve").args(arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(arguments[0]), "{arguments:?}: {said}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(haul().args(["serve", "--help"]));
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).expect("UTF-8");
    for part in [
        "Examples:",
        "--root",
        "--listen",
        "HAUL_ROOT",
        "127.0.0.1:7788",
        "--name-grace",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let version = run(haul().arg("--version"));
    assert!(version.status.success());
    assert!(version.stdout.starts_with(b"haul "));
}

#[test]
fn every_setting_can_come_from_the_environment_and_a_flag_beats_it() {
    let (root, other) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let content = noise(100_000, 1);
    std::fs::write(root.path().join(".f"), &content).expect("written");
    std::fs::write(other.path().join(".f"), "other").expect("written");
    let log = other.path().join("log");
    let settings = |command: &mut std::process::Command| {
        command
            .env("HAUL_ROOT", root.path())
            .env("HAUL_LISTEN", "127.0.0.1:0,127.0.0.1:0")
            .env("HAUL_WORKERS", "1")
            .env("HAUL_DISK_WORKERS", "5")
            .env("HAUL_HIDDEN", "true")
            .env("HAUL_TRANSMIT", "copy")
            .env("HAUL_QUANTUM", "64KiB")
            .env("HAUL_MAX_CONNECTIONS", "17")
            .env("HAUL_NAME_GRACE", "50ms")
            .env("HAUL_GRACE", "1s")
            .env("HAUL_ACCESS_LOG", &log);
    };
    let mut command = haul();
    settings(&mut command);
    let mut program = Program::start(command.arg("serve"));
    for _ in 0..2 {
        let address = program.address();
        let mut client = program.connect(address);
        client.send(".f");
        assert!(client.rest() == content);
    }
    let all = program.said.join("\n");
    assert!(
        all.contains("1 workers") && all.contains("5 disk workers"),
        "{all}"
    );
    assert!(all.contains("17 connections"), "{all}");
    program.signal(Signal::SIGINT);
    assert!(program.end().success());
    let lines = std::fs::read_to_string(&log).expect("the log");
    assert_eq!(lines.lines().count(), 2, "{lines}");

    let mut command = haul();
    settings(&mut command);
    let mut program = Program::start(command.arg("serve").arg("--root").arg(other.path()));
    let mut client = Client::connect(program.address());
    client.send(".f\n");
    assert_eq!(client.rest(), b"other");

    // Short for --root, so it beats the environment, too.
    let mut command = haul();
    settings(&mut command);
    let mut program = Program::start(command.arg("serve").arg(other.path()));
    let mut client = Client::connect(program.address());
    client.send(".f\n");
    assert_eq!(client.rest(), b"other");
    let both = run(haul().args(["serve", "/a", "--root", "/b"]));
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn flags_in_the_environment_are_words_for_yes_and_no() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join(".hidden"), "seen").expect("written");
    for (value, seen) in [
        ("1", true),
        ("yes", true),
        ("on", true),
        ("true", true),
        ("0", false),
        ("no", false),
        ("off", false),
        ("", false),
    ] {
        let mut command = haul();
        command.args(["serve", "--listen", &own_address().to_string(), "--root"]);
        // An empty variable of any other kind is none.
        command
            .arg(root.path())
            .env("HAUL_HIDDEN", value)
            .env("HAUL_RATE", "");
        let mut program = Program::start(&mut command);
        let address = program.address();
        let content: &[u8] = if seen { b"seen" } else { b"" };
        assert_eq!(
            program.connect(address).ask(".hidden\n"),
            content,
            "{value:?}"
        );
    }
}

#[test]
fn the_former_names_of_options_and_sizes_without_measure_are_taken() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    let most = u64::MAX.to_string();
    let former = [
        "--grace=1s",
        "--head=5s",
        "--first-byte=5s",
        "--send-stall=5s",
        "--max-bulk=3",
        "--idle=1000000000000000",
    ];
    let sizes = [
        "--max-request-line",
        "--max-head",
        "--max-body",
        "--quantum",
    ]
    .iter()
    .flat_map(|name| [*name, &most]);
    let mut program = Program::serve(
        sizes
            .chain(former)
            .map(std::ffi::OsStr::new)
            .chain(["--root".as_ref(), root.path().as_os_str()]),
    );
    let address = program.address();
    let mut client = program.connect(address);
    for _ in 0..2 {
        client.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().body, b"content");
    }
}
