//! A start for which the system has not enough: descriptors, threads. `--check` agrees with it.

use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::support::Client;

/// `haul serve` in a shell that has set this limit first.
fn limited(ulimit: &str, root: &Path, arguments: &[&str]) -> Command {
    let haul = haul();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit {ulimit} && exec \"$@\""), "sh"])
        .arg(haul.get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--root"])
        .arg(root)
        .args(arguments);
    command
}

/// What a start said that failed in its one line, before it announced anything; `--check` said the
/// same.
#[track_caller]
fn refused(ulimit: &str, arguments: &[&str]) -> String {
    let root = tempfile::tempdir().expect("a directory");
    let said = |output: Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    };
    let mut start = limited(ulimit, root.path(), arguments);
    let started = said(run(&mut start));
    let line = started.lines().rfind(|line| line.starts_with("haul: "));
    let line = line.expect("why it failed").to_owned();
    assert!(!started.contains("listening on"), "{started}");
    let checked = said(run(start.arg("--check")));
    assert!(checked.lines().any(|other| other == line), "{checked}");
    line
}

#[test]
fn workers_that_leave_no_descriptor_for_connections_are_refused() {
    let line = refused("-n 200", &["--workers", "60"]);
    assert!(
        line.contains("--workers") && line.contains("ulimit -n"),
        "{line}"
    );
}

#[test]
fn by_itself_it_takes_no_more_workers_than_it_has_descriptors_for() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("f"), "content").expect("written");
    // One worker has four, one connection two, and 64 are for the rest.
    let mut program = Program::start(&mut limited("-n 70", root.path(), &[]));
    let address = program.address();
    let said = program.said.join("\n");
    assert!(said.contains("with 1 workers "), "{said}");
    assert!(said.contains("for up to 1 connections"), "{said}");
    let mut client = Client::connect(address);
    client.send("f\n");
    assert_eq!(client.rest(), b"content");
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}

/// The stacks of the threads have 2 MiB each.
#[test]
fn threads_that_cannot_be_had_end_the_start_in_a_line() {
    let line = refused("-v 3000000", &["--disk-workers", "4096"]);
    assert!(line.contains("--disk-workers"), "{line}");
}

#[test]
fn numbers_of_threads_have_a_bound_that_is_told() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("haul.toml");
    std::fs::write(&file, "workers = 1000000000\n").expect("written");
    let config = file.to_str().expect("UTF-8");
    let sum = run(haul().args(["sum", "-j", "1025", config]));
    let said = String::from_utf8_lossy(&sum.stderr).into_owned();
    assert!(said.contains("1024"), "{said}");
    for (arguments, bound) in [
        (["--workers", "20000"], "1024"),
        (["--disk-workers", "4097"], "4096"),
        (["--config", config], "1024"),
    ] {
        let output = run(haul()
            .args(["serve", "--listen", "0", "--check"])
            .args(arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}: {said}");
        assert!(said.contains(bound), "{arguments:?}: {said}");
    }
}

#[test]
fn more_passed_sockets_than_there_can_be_are_refused_at_once() {
    let output = run(haul().args(["serve"]).env("LISTEN_FDS", "2147483647"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("LISTEN_FDS") && said.contains("limit"),
        "{said}"
    );
}
