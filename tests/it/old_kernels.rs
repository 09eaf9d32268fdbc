//! The program on kernels and in containers that refuse system calls, by a seccomp filter.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::process::{Program, haul};
use crate::support::{Answer, noise, own_address};

const CALLS: [(&str, libc::c_long); 7] = [
    ("openat2", libc::SYS_openat2),
    ("preadv2", libc::SYS_preadv2),
    ("splice", libc::SYS_splice),
    ("sendfile", libc::SYS_sendfile),
    ("statx", libc::SYS_statx),
    ("copy_file_range", libc::SYS_copy_file_range),
    ("epoll_pwait2", libc::SYS_epoll_pwait2),
];

#[test]
fn every_call_may_be_refused_in_every_way() {
    for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL] {
        for (name, call) in CALLS {
            passes_without(&[call], errno, &format!("{name}: errno {errno}"));
        }
    }
}

#[test]
fn all_calls_may_be_refused_at_once() {
    for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL] {
        passes_without(
            &CALLS.map(|(_, call)| call),
            errno,
            &format!("all: {errno}"),
        );
    }
}

#[test]
fn what_is_refused_is_said_at_the_start() {
    let root = tempfile::tempdir().expect("a directory");
    for (call, said) in [
        (libc::SYS_openat2, "no openat2: files are looked up"),
        (
            libc::SYS_preadv2,
            "no preadv2: what is in memory is not known",
        ),
        (libc::SYS_sendfile, "no sendfile: bytes are copied"),
        (libc::SYS_splice, "no splice: bytes are copied"),
    ] {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let mut server = Program::start(&mut serve(root.path(), &[call], errno));
            let line = server.line("haul: this system has ");
            assert!(line.starts_with(said), "{line}");
            server.address();
        }
    }
    // Nothing is said where nothing is missing.
    let mut server = Program::start(&mut serve(
        root.path(),
        &[libc::SYS_memfd_secret],
        libc::ENOSYS,
    ));
    server.address();
    assert!(!server.said.iter().any(|line| line.contains("this system")));
}

/// Every protocol in short, and no way out of the root.
fn passes_without(calls: &[libc::c_long], errno: i32, case: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path().join("root");
    fs::create_dir_all(root.join("d/e")).expect("directories");
    fs::write(place.path().join("secret"), "secret").expect("a file");
    fs::write(root.join("small"), "0123456789").expect("a file");
    let large = noise(3 << 20, 7);
    fs::write(root.join("d/large"), &large).expect("a file");
    let link = |to: &Path, name: &str| symlink(to, root.join(name)).expect("a link");
    link(Path::new("d/large"), "inside");
    link(Path::new("../../small"), "d/e/up");
    link(&root.join("d"), "absolute");
    link(&place.path().join("secret"), "out");
    link(Path::new("../secret"), "relative");
    link(Path::new("circle"), "circle");

    let mut server = Program::start(&mut serve(&root, calls, errno));
    let address = server.address();
    let exchange = |request: String| {
        let mut client = server.connect(address);
        client.send(request);
        client.rest()
    };
    let http = |method: &str, target: &str, field: &str| {
        Answer::parse(&exchange(format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n"
        )))
    };
    assert_eq!(exchange("small\n".into()), b"0123456789", "{case}");
    assert!(exchange("d/large\n".into()) == large, "{case}");
    for name in ["/d/large", "/inside", "/absolute/large"] {
        assert!(http("GET", name, "").body == large, "{case}: {name}");
    }
    assert_eq!(http("GET", "/d/e/up", "").body, b"0123456789", "{case}");
    let part = http("GET", "/small", "Range: bytes=2-4\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]), "{case}");
    let head = http("HEAD", "/small", "");
    assert_eq!(head.field("content-length"), Some("10"), "{case}");
    let listing = http("GET", "/?format=json", "");
    assert!(
        String::from_utf8_lossy(&listing.body).contains("small"),
        "{case}"
    );
    assert_eq!(http("GET", "/d", "").status, 301, "{case}");
    assert_eq!(http("GET", "/nothing", "").status, 404, "{case}");
    for name in ["/out", "/relative", "/circle"] {
        assert_eq!(http("GET", name, "").status, 403, "{case}: {name}");
    }
    assert_eq!(http("GET", "/../secret", "").status, 400, "{case}");

    let there = place.path().join("there");
    let mut get = haul();
    get.args(["get", &format!("http://{address}/d/large"), "-o"])
        .arg(&there);
    filter(&mut get, calls, errno);
    let output = get.output().expect("it runs");
    assert!(output.status.success(), "{case}: {output:?}");
    assert!(fs::read(&there).expect("fetched") == large, "{case}");
}

fn serve(root: &Path, calls: &[libc::c_long], errno: i32) -> Command {
    let mut command = haul();
    command.args(["serve", "--listen", &own_address().to_string(), "--root"]);
    command.arg(root);
    filter(&mut command, calls, errno);
    command
}

/// Has the program find that these calls are refused.
pub fn filter(command: &mut Command, calls: &[libc::c_long], errno: i32) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("a known one");
    let refuse = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    let install = move || apply_filter(&program).map_err(std::io::Error::other);
    // SAFETY: between fork and exec only prctl(2) and seccomp(2) are called; nothing is allocated
    // unless they fail.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(install);
    }
}
