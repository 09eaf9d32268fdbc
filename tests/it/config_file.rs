//! `haul serve --config` and `--check`: options from a file, and whether a start would work.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::process::{Program, haul, run};
use crate::support::{Answer, Client, own_address};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("root")).expect("made");
        std::fs::write(directory.path().join("root/f"), "content").expect("written");
        let place = Self { directory };
        place.configure("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the file: the root, and `options`.
    fn configure(&self, options: &str) {
        let root = self.path("root");
        let text = format!("root = '{}'\n{options}", root.display());
        std::fs::write(self.path("haul.toml"), text).expect("written");
    }

    fn serve(&self) -> Command {
        let mut command = haul();
        command
            .args(["serve", "--config"])
            .arg(self.path("haul.toml"));
        command.env("XDG_STATE_HOME", self.directory.path());
        command
    }
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    let (file, address) = (own_address(), own_address());
    place.configure(&format!(
        "listen = '{file}'\nworkers = 2\ndisk-workers = 9\nhidden = true\n"
    ));
    std::fs::write(place.path("root/.f"), "hidden").expect("written");
    let mut command = place.serve();
    command.args(["--listen", &address.to_string()]);
    let mut program = Program::start(command.env("HAUL_DISK_WORKERS", "3"));
    let found = program.address();
    assert_eq!(found.ip(), address.ip());
    let all = program.said.join("\n");
    assert!(all.contains("with 2 workers and 3 disk workers"), "{all}");
    let answer = Client::connect(found).ask("GET /.f HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(Answer::parse(&answer).body, b"hidden");
}

#[test]
fn a_faulty_file_is_one_line_that_says_where() {
    let place = Place::new();
    let file = place.path("haul.toml").display().to_string();
    for (options, expected) in [
        (
            "lisen = '80'",
            ":2: there is no option `lisen`; the nearest is `listen`",
        ),
        (
            "rate = 'much'",
            ": invalid value 'much' for '--rate <SIZE>': `much` is not a size; \
                           write 65536, 64KiB or 10MB",
        ),
        (
            "etag = 'x'",
            ": invalid value 'x' for '--etag <CHOICE>' [possible values: inode, \
                        mtime-size]",
        ),
        (
            "check = true",
            ":2: there is no option `check`; the nearest is `cache-control`",
        ),
    ] {
        place.configure(options);
        let (status, said) = said(&mut place.serve());
        assert_eq!(status, Some(2), "{said}");
        assert_eq!(said.trim_end(), format!("error: {file}{expected}"));
    }
    let (status, said) = said(haul().args(["serve", "--config", "/nowhere/x.toml"]));
    assert_eq!(status, Some(2));
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn sighup_loads_limits_and_names_what_counts_later() {
    let place = Place::new();
    let content = vec![7; 8 << 20];
    std::fs::write(place.path("root/large"), &content).expect("written");
    let address = own_address();
    place.configure(&format!("listen = '{address}'\ntotal-rate = 1000\n"));
    let mut program = Program::start(&mut place.serve());
    let address = program.address();
    let mut client = Client::connect(address);
    // At the rate of the start it would take two hours.
    client.send("large\n");
    place.configure("total-rate = 'much'\n");
    program.signal(Signal::SIGHUP);
    let refused = program.line("haul: ");
    assert!(
        refused.ends_with("the settings stay as they were"),
        "{refused}"
    );
    place.configure("client-rate = '1GB'\nworkers = 7\n");
    program.signal(Signal::SIGHUP);
    program.line("rates and limits loaded anew");
    let later = program.line("haul: ");
    assert!(
        later.ends_with("`listen`, `workers` counts at the next start"),
        "{later}"
    );
    assert!(client.rest() == content, "under way as it was read");
}

#[test]
fn check_says_what_is_in_the_way_of_a_start_and_changes_nothing() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|it| (it, taken)).expect("bound");
    place.configure(&format!(
        "listen = '{}'\naccess-log = '{}'\n",
        taken.0,
        place.path("log").display()
    ));
    let (status, said_of_good) = said(place.serve().arg("--check"));
    assert_eq!(status, Some(0), "{said_of_good}");
    assert!(said_of_good.contains("in use"), "{said_of_good}");
    assert!(!place.path("log").exists());
    let lines = |arguments: &[&str]| {
        let mut command = place.serve();
        let (status, said) = said(command.arg("--check").args(arguments));
        assert_eq!(status, Some(1), "{said}");
        said
    };
    let bad = lines(&[
        "--root",
        "/nowhere",
        "--htpasswd",
        "/nowhere/h",
        "--access-log",
        "/nowhere/l",
        "--listen",
        "203.0.113.1:80",
        "--listen-tls",
        "0",
        "--tls-cert",
        "/nowhere/c",
        "--tls-key",
        "/nowhere/k",
    ]);
    let faults: Vec<_> = bad
        .lines()
        .filter(|line| line.contains("/nowhere") || line.contains("203.0.113.1"))
        .collect();
    assert_eq!(faults.len(), 4, "{bad}");
    assert!(bad.contains("access log"), "{bad}");
    assert!(!Path::new("/nowhere").exists());
}
