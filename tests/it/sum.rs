//! `haul sum` beside the programs whose formats it writes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::process::{haul, run};

fn sum(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = haul();
    command.current_dir(directory).arg("sum").args(arguments);
    command.stdin(Stdio::null()).output().expect("it runs")
}

/// A directory of files whose names and lengths are chosen to hurt.
fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let names: [&[u8]; 7] = [
        b"plain",
        b"two  spaces",
        b"new\nline",
        b"back\\slash",
        b"carriage\r",
        b"\xff\xfe",
        b"-dash",
    ];
    for (index, name) in names.iter().enumerate() {
        let content = vec![index as u8; index * 100_003];
        let path = directory.path().join(OsStr::from_bytes(name));
        fs::write(path, content).expect("a file");
    }
    fs::create_dir_all(directory.path().join("sub/deep")).expect("directories");
    // Several blocks, the last one short, hashed by several threads.
    let large: Vec<u8> = (0..(17 << 20) + 5).map(|at: u32| (at / 3) as u8).collect();
    fs::write(directory.path().join("sub/deep/large"), large).expect("a file");
    fs::write(directory.path().join("sub/empty"), b"").expect("a file");
    directory
}

/// What another program writes for all files of the tree; `None` if it is not installed.
fn others(program: &str, arguments: &[&str], tree: &Path) -> Option<Vec<u8>> {
    let names = Command::new("find")
        .args([".", "-type", "f", "-print0"])
        .current_dir(tree)
        .output()
        .expect("find runs");
    let mut names: Vec<&[u8]> = names.stdout.split(|byte| *byte == 0).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    let names = names.into_iter().map(OsStr::from_bytes);
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .arg("--")
        .args(names)
        .current_dir(tree)
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(output.stdout)
}

/// The lines, since what belongs to a directory's own order is not compared.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.sort();
    lines
}

/// The digests alone.
fn digests(bytes: &[u8]) -> Vec<&[u8]> {
    let plain = |line| <[u8]>::strip_prefix(line, b"\\").unwrap_or(line);
    let lines = lines(bytes).into_iter().map(plain);
    let mut digests: Vec<&[u8]> = lines.map(|line| &line[..line.len().min(64)]).collect();
    digests.sort();
    digests
}

#[test]
fn it_writes_what_coreutils_and_b3sum_write() {
    let tree = tree();
    for (algorithm, program, tag) in [
        ("sha256", "sha256sum", false),
        ("sha256", "sha256sum", true),
        ("sha512", "sha512sum", false),
        ("sha512", "sha512sum", true),
        ("blake3", "b3sum", false),
    ] {
        let tag: &[&str] = if tag { &["--tag"] } else { &[] };
        let Some(expected) = others(program, tag, tree.path()) else {
            eprintln!("skipped: there is no {program}");
            continue;
        };
        let ours = sum(tree.path(), &[&["-a", algorithm, "."], tag].concat());
        assert!(ours.status.success(), "{ours:?}");
        match program {
            // Its versions differ in what they escape, and it writes names in UTF-8 alone.
            "b3sum" => assert_eq!(digests(&ours.stdout), digests(&expected)),
            _ => assert_eq!(lines(&ours.stdout), lines(&expected), "{program} {tag:?}"),
        }
        // The same, by one thread.
        let one = sum(tree.path(), &[&["-j1", "-a", algorithm, "."], tag].concat());
        assert_eq!(one.stdout, ours.stdout);
    }
}

#[test]
fn what_it_writes_is_checked_by_it_and_by_coreutils() {
    let tree = tree();
    let kept = tempfile::tempdir().expect("a directory");
    let list = kept.path().join("sums");
    let list_name = list.to_str().expect("a name");
    for algorithm in ["sha256", "blake3"] {
        let ours = sum(tree.path(), &["-a", algorithm, "."]);
        fs::write(&list, &ours.stdout).expect("the list");
        let checked = sum(tree.path(), &["-a", algorithm, "-c", list_name]);
        assert!(checked.status.success(), "{checked:?}");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(said.matches(": OK\n").count(), 9, "{said}");
    }
    let ours = sum(tree.path(), &["."]);
    fs::write(&list, &ours.stdout).expect("the list");
    if let Ok(theirs) = Command::new("sha256sum")
        .args(["--status", "-c", list_name])
        .current_dir(tree.path())
        .status()
    {
        assert!(theirs.success());
    }

    fs::write(tree.path().join("plain"), b"another content").expect("a file");
    fs::remove_file(tree.path().join("-dash")).expect("it is removed");
    let checked = sum(tree.path(), &["--quiet", "-c", list_name]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(said, "./-dash: FAILED open or read\n./plain: FAILED\n");
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(errors.contains("1 file did not match"), "{errors}");
}

#[test]
fn a_name_that_is_not_there_costs_only_its_own_line() {
    let tree = tree();
    let ours = sum(tree.path(), &["plain", "nope", "sub/empty"]);
    assert_eq!(ours.status.code(), Some(1));
    assert_eq!(lines(&ours.stdout).len(), 3, "two lines and their end");
    let errors = String::from_utf8_lossy(&ours.stderr).into_owned();
    assert!(errors.contains("nope: No such file"), "{errors}");
}

#[test]
fn with_a_state_directory_a_changed_file_gets_its_new_digest() {
    let tree = tree();
    let state = tempfile::tempdir().expect("a directory");
    let state_name = state.path().to_str().expect("a name");
    let arguments = ["-a", "blake3", "--state", state_name, "sub"];
    let first = sum(tree.path(), &arguments);
    assert!(first.status.success(), "{first:?}");
    assert!(first.stderr.is_empty(), "{first:?}");
    assert_eq!(sum(tree.path(), &arguments).stdout, first.stdout);
    fs::write(tree.path().join("sub/deep/large"), b"changed").expect("a file");
    let third = sum(tree.path(), &arguments);
    assert_ne!(third.stdout, first.stdout);
    let without = sum(tree.path(), &["-a", "blake3", "sub"]);
    assert_eq!(third.stdout, without.stdout);
}

#[test]
fn a_list_without_a_checksum_vouches_for_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    for (name, text) in [("empty", ""), ("blank", "\n\n")] {
        let list = place.path().join(name);
        fs::write(&list, text).expect("a file");
        let output = run(haul().args(["sum", "--check"]).arg(&list));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("no line of a checksum"));
    }
}

/// What this and coreutils make of the same list: verdicts, and the exit status.
#[test]
fn a_list_with_bad_lines_is_checked_as_coreutils_check_it() {
    let tree = tree();
    let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let (bad, fine) = ("nonsense\n", format!("{good}  plain\n"));
    let kept = tempfile::tempdir().expect("a directory");
    let list = kept.path().join("sums");
    let list_name = list.to_str().expect("a name");
    let cases: [(String, &[&str]); 14] = [
        (format!("{bad}{fine}"), &[]),
        (format!("{bad}{fine}"), &["--strict"]),
        (format!("{bad}{fine}{bad}"), &["--warn", "--quiet"]),
        (bad.to_owned(), &[]),
        (format!("  {good}  sub/empty\r\n{good} *plain\n"), &[]),
        (format!("{good}\tplain\n"), &[]),
        (format!("SHA256 (plain) = {good}\n"), &["--quiet"]),
        (format!("{good}  sub\n{good}  sub/empty\n"), &[]),
        (format!("{good}  nope\n{good}  sub/empty\n"), &[]),
        (
            format!("{good}  nope\n{good}  sub/empty\n"),
            &["--ignore-missing"],
        ),
        (format!("{good}  nope\n"), &["--ignore-missing"]),
        (
            format!("\\{good}  new\\nline\n\\{good}  back\\\\slash\n"),
            &[],
        ),
        (format!("{good}  two  spaces\n"), &["--status"]),
        (format!("# a word\n\n{fine}"), &[]),
    ];
    for (text, options) in cases {
        fs::write(&list, &text).expect("the list");
        let ours = sum(tree.path(), &[&["-c", list_name], options].concat());
        let theirs = Command::new("sha256sum")
            .args(["-c", list_name])
            .args(options)
            .current_dir(tree.path())
            .output();
        let Ok(theirs) = theirs else {
            eprintln!("skipped: there is no sha256sum");
            return;
        };
        assert_eq!(
            ours.status.code(),
            theirs.status.code(),
            "{text}{options:?}"
        );
        let both = [&ours.stdout, &theirs.stdout].map(|it| String::from_utf8_lossy(it));
        assert_eq!(both[0], both[1], "{text}{options:?}");
    }
    fs::write(&list, format!("{bad}{fine}")).expect("the list");
    let ours = sum(tree.path(), &["-c", "--warn", list_name]);
    let errors = String::from_utf8_lossy(&ours.stderr).into_owned();
    assert!(
        errors.contains("line 1 is improperly formatted"),
        "{errors}"
    );
    assert!(
        errors.contains("1 line is improperly formatted"),
        "{errors}"
    );
}

#[test]
fn a_signal_ends_it_whatever_it_waits_for() {
    let place = tempfile::tempdir().expect("a directory");
    let fifo = place.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let mut child = haul().arg("sum").arg(&fifo).spawn().expect("it starts");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // A writer finds a reader only once the file is open.
    let writer = fs::File::options()
        .write(true)
        .open(&fifo)
        .expect("it reads");
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    assert_eq!(child.wait().expect("its end").code(), Some(143));
    drop(writer);
}

#[test]
fn a_list_without_an_end_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for script in [
        r#"exec "$0" sum --check /dev/zero"#,
        r#"yes | "$0" sum --check -"#,
        r#""$0" get -q -i /dev/zero"#,
    ] {
        // 1 GiB: what it reads would take more.
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -d 1048576; {script}")])
            .arg(haul().get_program())
            .current_dir(directory.path());
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code().is_some_and(|code| code > 0),
            "{script}: {said}"
        );
        assert!(said.starts_with("haul: "), "{script}: {said}");
        assert!(!said.contains("memory"), "{script}: {said}");
    }
}
