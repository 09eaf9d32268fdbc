//! `haul top`: what it prints; its screen is looked at by hand.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Program, haul, run};
use crate::support::{Client, PATIENCE, own_address};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn it_prints_who_gets_what() {
    let root = tempfile::tempdir().expect("a directory");
    let large = std::fs::File::create(root.path().join("a b")).expect("a file");
    large.set_len(64 << 20).expect("a length");
    let admin = format!("unix:{}", root.path().join("admin").display());
    let mut program = Program::start(
        haul()
            .args(["serve", "--listen", &own_address().to_string(), "--root"])
            .arg(root.path())
            .args(["--admin", &admin]),
    );
    let mut client = Client::with_small_window(program.address());
    client.send("GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n");
    let begun = Instant::now();
    let shown = loop {
        let output = run(haul().args(["top", "--once", &admin]));
        assert!(output.status.success());
        let shown = text(output.stdout);
        if shown.contains("/a b") {
            break shown;
        }
        assert!(begun.elapsed() < PATIENCE, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(shown.contains("serving"), "{shown}");
    assert!(shown.contains("127."), "{shown}");
    let output = run(haul()
        .args(["top", "--once", "--json"])
        .env("HAUL_ADMIN", &admin));
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let intended = status["transfers"][0]["intended"].as_u64();
    assert!(intended > Some(64 << 20), "with the head: {intended:?}");
}

#[test]
fn what_does_not_answer_is_said_in_a_line() {
    for (address, status) in [("unix:/nowhere/admin", 1), ("nowhere:", 2), ("unix:", 2)] {
        let output = run(haul().args(["top", "--once", address]));
        assert_eq!(output.status.code(), Some(status), "{address}");
        let said = text(output.stderr);
        let first = said.lines().next().unwrap_or_default();
        assert!(
            first.contains(address) || first.contains("unix:PATH"),
            "{said}"
        );
    }
    let output = run(haul().args(["top", "--once", "unix:/nowhere/admin"]));
    assert_eq!(text(output.stderr).lines().count(), 1);
}
