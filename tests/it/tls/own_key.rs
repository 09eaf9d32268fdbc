//! The server's own key, which nobody else may have put where it lies.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, chown};

use crate::process::{Program, haul, run};

fn serve(state: &Path, root: &Path) -> std::process::Command {
    let mut command = haul();
    command.args([
        "serve",
        "--listen-tls",
        "127.0.0.1:0",
        "--tls-self",
        "--digests",
        "off",
    ]);
    command.arg("--state").arg(state).arg("--root").arg(root);
    command
}

#[test]
fn a_key_that_another_user_may_have_put_there_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (root, state) = (
        directory.path().join("root"),
        directory.path().join("state"),
    );
    fs::create_dir(&root).expect("a directory");
    let mut program = Program::start(&mut serve(&state, &root));
    program.line("listening on ");
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    let key = state.join("tls-self.key");
    let refused = |why: &str| {
        for arguments in [&[][..], &["--check"]] {
            let output = run(serve(&state, &root).args(arguments));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{why}: {said}");
            assert!(said.contains("another user's"), "{why}: {said}");
            assert!(said.contains("--state"), "{why}: {said}");
        }
    };
    let set = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    };
    set(&key, 0o620);
    refused("others may write the key");
    set(&key, 0o600);
    set(&state, 0o777);
    refused("others may replace the key");
    fs::remove_file(&key).expect("removed");
    refused("others could replace the key once it is made");
    assert!(!key.exists());
    set(&state, 0o700);
    if Uid::effective().is_root() {
        let other = Some(Uid::from_raw(65534));
        chown(&state, other, None).expect("root may");
        refused("it is the directory of another user");
        assert!(!key.exists());
        chown(&state, Some(Uid::effective()), None).expect("root may");
    }
    let checked = run(serve(&state, &root).arg("--check"));
    assert!(checked.status.success(), "{checked:?}");
    assert!(!key.exists());
}

#[test]
fn a_key_of_the_administrator_serves_a_user_who_may_read_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("root");
    fs::create_dir(&root).expect("a directory");
    let state = directory.path().join("state");
    let mut program = Program::start(&mut serve(&state, &root));
    program.line("listening on ");
    let pin = |program: &Program| {
        let said = program.said.join("\n");
        let words = said.split_whitespace().skip_while(|word| *word != "--pin");
        words.take(2).last().expect("a pin").to_owned()
    };
    let made = pin(&program);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
    // Read-only, as where an administrator has put it there.
    for (path, mode) in [(state.join("tls-self.key"), 0o440), (state.clone(), 0o550)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }
    let checked = run(serve(&state, &root).arg("--check"));
    assert!(checked.status.success(), "{checked:?}");
    let mut program = Program::start(&mut serve(&state, &root));
    program.line("listening on ");
    assert_eq!(pin(&program), made);
    program.signal(Signal::SIGTERM);
    assert!(program.end().success());
}
