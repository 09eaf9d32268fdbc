//! The clients that people have: curl, wget, nc.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::run;
use crate::support::transport::leaves_out;
use crate::support::{TestServer, noise};

const LEN: usize = 64 << 20;

#[test]
fn curl_gets_files_whole_in_ranges_and_resumed() {
    if leaves_out("their certificates are in tests of their own") {
        return;
    }
    let Some((server, content, directory)) = prepare("curl") else {
        return;
    };
    let out = directory.path().join("out");
    let url = format!("http://{}/dir/big%20file.bin", server.address());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ]);
        let output = run(command.args(arguments).arg("--output").arg(&out).arg(&url));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    curl(&[]);
    must_hold(&out, &content);
    curl(&["--http1.0"]);
    must_hold(&out, &content);
    curl(&["--range", "1000-20000000"]);
    must_hold(&out, &content[1_000..=20_000_000]);
    fs::write(&out, &content[..12_345_678]).expect("a part");
    curl(&["--continue-at", "-"]);
    must_hold(&out, &content);
    let mut missing = Command::new("curl");
    missing.args(["--silent", "--fail", "--max-time", "60", "--noproxy", "*"]);
    let output = run(missing.arg(format!("http://{}/missing", server.address())));
    assert_eq!(output.status.code(), Some(22));
}

#[test]
fn wget_gets_files_whole_and_resumed() {
    if leaves_out("their certificates are in tests of their own") {
        return;
    }
    let Some((server, content, directory)) = prepare("wget") else {
        return;
    };
    let out = directory.path().join("out");
    let url = format!("http://{}/dir/big%20file.bin", server.address());
    let wget = |arguments: &[&str]| {
        let mut command = Command::new("wget");
        command.args(["--quiet", "--tries=1", "--timeout=60", "--no-proxy"]);
        let output = run(command.args(arguments).arg("-O").arg(&out).arg(&url));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    wget(&[]);
    must_hold(&out, &content);
    fs::write(&out, &content[..12_345_678]).expect("a part");
    wget(&["--continue"]);
    must_hold(&out, &content);
}

#[test]
fn nc_gets_files_by_their_names() {
    if leaves_out("their certificates are in tests of their own") {
        return;
    }
    let Some((server, content, directory)) = prepare("nc") else {
        return;
    };
    let out = directory.path().join("out");
    let request = directory.path().join("request");
    for mark in ["", "\n", "\r\n"] {
        fs::write(&request, format!("dir/big file.bin{mark}")).expect("written");
        let mut command = Command::new("sh");
        // With its output in a file, and its input at an end: what `printf name | nc` amounts to.
        command
            .args(["-c", "exec nc \"$1\" \"$2\" <\"$3\" >\"$4\"", "sh"])
            .arg(server.address().ip().to_string())
            .arg(server.address().port().to_string())
            .args([&request, &out]);
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{mark:?}: {said}");
        must_hold(&out, &content);
    }
}

/// A server with a large file, if the program is installed.
fn prepare(program: &str) -> Option<(TestServer, Vec<u8>, tempfile::TempDir)> {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    }
    let server = TestServer::start();
    let content = noise(LEN + 17, 1);
    server.put("dir/big file.bin", &content);
    let directory = tempfile::tempdir().expect("a directory");
    Some((server, content, directory))
}

#[track_caller]
fn must_hold(path: &Path, content: &[u8]) {
    let bytes = fs::read(path).expect("the file");
    assert_eq!(bytes.len(), content.len());
    assert!(bytes == content, "other bytes");
}
