//! Files that the operator names and the server reads whole: passwords, keys, certificates, options.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::tls::support::Authority;

/// A sparse file that is larger than any of them may be.
fn make_endless(path: &Path) {
    let file = File::create(path).expect("made");
    file.set_len(LARGE).expect("sparse");
}

/// Far more than is read of a file, and what a test's machine has room for if all is.
const LARGE: u64 = 256 << 20;

const KEY: &str = "0123456789abcdef0123456789abcdef\n";

fn user() -> String {
    format!("anna:{}\n", bcrypt::hash("s3cret", 4).expect("hashed"))
}

/// `haul serve` with a certificate, whose files are at these paths.
fn serve(certificate: &Path, key: &Path) -> Command {
    let mut command = haul();
    command.args(["serve", "--listen-tls", "127.0.0.1:0", "--tls-cert"]);
    command.arg(certificate).arg("--tls-key").arg(key);
    command
}

/// The command lines that read the file at `large`, each with the place where it is named.
fn readers(large: &Path, authority: &Authority) -> Vec<(&'static str, Command)> {
    let good = authority.identity("good", &["localhost"]);
    let with = |option: &str| {
        let mut command = haul();
        command.args(["serve", "--listen", "127.0.0.1:0", option]);
        command.arg(large);
        command
    };
    let mut issuers = serve(&good.certificate, &good.key);
    issuers.arg("--tls-client-ca").arg(large);
    vec![
        ("--htpasswd", with("--htpasswd")),
        ("--link-key", with("--link-key")),
        ("--config", with("--config")),
        ("TLS", serve(large, &good.key)),
        ("TLS", serve(&good.certificate, large)),
        ("TLS", issuers),
    ]
}

#[test]
fn a_file_without_an_end_is_one_line_at_the_start_and_the_check() {
    let authority = Authority::new();
    let root = tempfile::tempdir().expect("a directory");
    let large = authority.path("large");
    make_endless(&large);
    for check in [&[][..], &["--check"]] {
        for (option, mut command) in readers(&large, &authority) {
            let output = run(command.args(check).arg("--root").arg(root.path()));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{option}: {said}");
            assert_eq!(said.lines().count(), 1, "{option}: {said}");
            let path = large.display().to_string();
            assert!(said.contains(option) && said.contains(&path), "{said}");
            assert!(said.contains("it has more than "), "{option}: {said}");
        }
    }
}

#[test]
fn the_own_key_and_the_key_of_links_are_read_no_further() {
    let state = tempfile::tempdir().expect("a directory");
    let root = tempfile::tempdir().expect("a directory");
    make_endless(&state.path().join("tls-self.key"));
    let mut command = haul();
    command.args(["serve", "--listen-tls", "127.0.0.1:0", "--tls-self"]);
    command.arg("--state").arg(state.path());
    let own = run(command.arg("--root").arg(root.path()));
    let large = state.path().join("large");
    make_endless(&large);
    let mut command = haul();
    command.args(["link", "--expires", "1h", "f", "--key"]);
    let link = run(command.arg(&large));
    for output in [own, link] {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("it has more than "), "{said}");
    }
}

#[test]
fn a_pipe_that_is_written_for_ever_is_left() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("users");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let writing = {
        let pipe = pipe.clone();
        std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(pipe).expect("it is read");
            let piece = vec![b'#'; 1 << 20];
            (0..LARGE >> 20).all(|_| pipe.write_all(&piece).is_ok())
        })
    };
    let mut command = haul();
    command.args(["serve", "--listen", "127.0.0.1:0", "--htpasswd"]);
    let output = run(command.arg(&pipe).arg("--root").arg(root.path()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it has more than "), "{said}");
    assert!(!writing.join().expect("no panic"), "all of it was read");
}

#[test]
fn a_file_that_has_grown_by_a_reload_leaves_what_was_read_before() {
    let authority = Authority::new();
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("f"), "content").expect("written");
    let good = authority.identity("good", &["localhost"]);
    let put = |name: &str, text: &str| -> PathBuf {
        let path = authority.path(name);
        fs::write(&path, text).expect("written");
        path
    };
    let users = put("users", &user());
    let keys = put("keys", KEY);
    let options = put("haul.toml", "client-rate = '1GB'\n");
    let mut command = serve(&good.certificate, &good.key);
    command.arg("--htpasswd").arg(&users);
    command.arg("--link-key").arg(&keys);
    command.arg("--config").arg(&options);
    let mut program = Program::start(command.arg("--root").arg(root.path()));
    program.line("listening on ");
    for path in [&users, &keys, &options, &good.certificate] {
        make_endless(path);
    }
    program.signal(Signal::SIGHUP);
    for (path, end) in [
        (&users, "what was read before stays"),
        (&keys, "what was read before stays"),
        (&good.certificate, "it has more than 4.0 MiB"),
        (&options, "the settings stay as they were"),
    ] {
        let said = program.line("haul: ");
        let path = path.display().to_string();
        assert!(said.contains(&path) && said.ends_with(end), "{said}");
        assert!(said.contains("it has more than "), "{said}");
    }
    fs::write(&users, user()).expect("written");
    fs::write(&keys, KEY).expect("written");
    fs::write(&options, "").expect("written");
    let renewed = authority.identity("good", &["localhost"]);
    assert_eq!(renewed.certificate, good.certificate);
    program.signal(Signal::SIGHUP);
    program.line("certificates loaded anew");
    program.line("rates and limits loaded anew");
}
