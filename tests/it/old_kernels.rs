//! The program on kernels and in containers that refuse system calls, by a seccomp filter.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
#[cfg(target_arch = "x86_64")]
use {
    nix::sys::ptrace::{self, Options},
    nix::sys::signal::Signal,
    nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    nix::unistd::Pid,
    std::sync::Arc,
    std::sync::atomic::{AtomicUsize, Ordering},
};

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

#[test]
fn flags_may_be_unknown() {
    let unknown = [
        ("preadv2", libc::SYS_preadv2, 5, libc::EOPNOTSUPP),
        ("preadv2", libc::SYS_preadv2, 5, libc::EINVAL),
        ("renameat2", libc::SYS_renameat2, 4, libc::EINVAL),
    ];
    for (name, call, argument, errno) in unknown {
        let any = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0);
        let rule = SeccompRule::new(vec![any.expect("an argument")]).expect("a rule");
        let rules = BTreeMap::from([(call, vec![rule])]);
        let refuse = |command: &mut Command| {
            install(command, &rules, SeccompAction::Errno(errno as u32));
        };
        let start = |command: &mut Command| {
            refuse(command);
            Program::start(command)
        };
        passes(&start, &refuse, &format!("flags of {name}: errno {errno}"));
    }
}

/// Linux 5.6 to 5.11: a filter cannot imitate it, since the flag is in memory.
#[test]
#[cfg(target_arch = "x86_64")]
fn openat2_may_not_know_the_name_cache() {
    let calls = Arc::new(AtomicUsize::new(0));
    let start = |command: &mut Command| {
        let rules = BTreeMap::from([(libc::SYS_openat2, Vec::new())]);
        install(command, &rules, SeccompAction::Trace(0));
        let command = std::mem::replace(command, Command::new("true"));
        start_without_cached(command, Arc::clone(&calls))
    };
    passes(&start, &|_| {}, "no RESOLVE_CACHED");
    // The call was made once, and not again for each look-up.
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// Starts a program whose calls of openat2(2) with `RESOLVE_CACHED` fail with `EINVAL`, and counts
/// those.
#[cfg(target_arch = "x86_64")]
fn start_without_cached(mut command: Command, calls: Arc<AtomicUsize>) -> Program {
    let (sender, started) = std::sync::mpsc::channel();
    // Only the thread that has started it may trace it.
    std::thread::spawn(move || {
        // SAFETY: between fork and exec only ptrace(2) is called.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| Ok(ptrace::traceme()?));
        }
        let program = Program::start(&mut command);
        let first = Pid::from_raw(program.id());
        let _ = sender.send(program);
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while let Ok(status) = waitpid(None, Some(flags)) {
            let (thread, signal) = match status {
                WaitStatus::Stopped(thread, Signal::SIGTRAP) if thread == first => {
                    let options = Options::PTRACE_O_TRACESECCOMP
                        | Options::PTRACE_O_TRACECLONE
                        | Options::PTRACE_O_EXITKILL;
                    let _ = ptrace::setoptions(thread, options);
                    (thread, None)
                }
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => (thread, None),
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::PtraceEvent(thread, _, event) => {
                    if event == libc::PTRACE_EVENT_SECCOMP && refuse_cached(thread).is_ok() {
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    (thread, None)
                }
                _ => continue,
            };
            let _ = ptrace::cont(thread, signal);
        }
    });
    started.recv().expect("it starts")
}

/// Has the call of openat2(2) before which the thread stands fail, if it is for cached names only.
#[cfg(target_arch = "x86_64")]
fn refuse_cached(thread: Pid) -> nix::Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    // `resolve`, the third number of `struct open_how`.
    let resolve = ptrace::read(thread, (registers.rdx + 16) as ptrace::AddressType)?;
    if resolve.cast_unsigned() & libc::RESOLVE_CACHED == 0 {
        return Err(nix::errno::Errno::EAGAIN);
    }
    // No call at all, and its result.
    registers.orig_rax = u64::MAX;
    registers.rax = i64::from(-libc::EINVAL).cast_unsigned();
    ptrace::setregs(thread, registers)
}

/// A file system that fails for one name has no whole listing.
#[test]
fn a_listing_does_not_end_as_a_whole_one_where_names_cannot_be_looked_at() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("name"), "content").expect("a file");
    let mut command = serve_plain(root.path());
    let no_follow = (3, libc::AT_SYMLINK_NOFOLLOW as u64);
    filter_if(&mut command, libc::SYS_newfstatat, no_follow, libc::EIO);
    let mut server = Program::start(&mut command);
    let address = server.address();
    for query in ["", "?sort=size", "?sort=time", "?filter=n", "?format=json"] {
        let mut client = server.connect(address);
        client.send(format!(
            "GET /{query} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        ));
        let (answer, end) = client.try_rest();
        let text = String::from_utf8_lossy(&answer);
        let is_whole = end.is_ok() && text.ends_with("0\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 5") || !is_whole,
            "{query}: {text}"
        );
    }
}

fn passes_without(calls: &[libc::c_long], errno: i32, case: &str) {
    let refuse = |command: &mut Command| filter(command, calls, errno);
    let start = |command: &mut Command| {
        refuse(command);
        Program::start(command)
    };
    passes(&start, &refuse, case);
}

/// Every protocol in short, and no way out of the root. `start` starts the server, `refuse` has the
/// client find the same.
fn passes(start: &dyn Fn(&mut Command) -> Program, refuse: &dyn Fn(&mut Command), case: &str) {
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

    let mut server = start(&mut serve_plain(&root));
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
    refuse(&mut get);
    let output = get.output().expect("it runs");
    assert!(output.status.success(), "{case}: {output:?}");
    assert!(fs::read(&there).expect("fetched") == large, "{case}");
}

fn serve(root: &Path, calls: &[libc::c_long], errno: i32) -> Command {
    let mut command = serve_plain(root);
    filter(&mut command, calls, errno);
    command
}

fn serve_plain(root: &Path) -> Command {
    let mut command = haul();
    command.args(["serve", "--listen", &own_address().to_string(), "--root"]);
    command.arg(root);
    command
}

/// Has the program find that these calls are refused.
pub fn filter(command: &mut Command, calls: &[libc::c_long], errno: i32) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    install(command, &rules, SeccompAction::Errno(errno as u32));
}

/// Has the calls of which the argument of this number has this value fail.
pub fn filter_if(
    command: &mut Command,
    call: libc::c_long,
    (argument, value): (u8, u64),
    errno: i32,
) {
    let is = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value);
    let rule = SeccompRule::new(vec![is.expect("an argument")]).expect("a rule");
    let rules = BTreeMap::from([(call, vec![rule])]);
    install(command, &rules, SeccompAction::Errno(errno as u32));
}

/// Has the calls for which a rule holds meet this action.
fn install(command: &mut Command, rules: &BTreeMap<i64, Vec<SeccompRule>>, action: SeccompAction) {
    let arch = std::env::consts::ARCH.try_into().expect("a known one");
    let filter = SeccompFilter::new(rules.clone(), SeccompAction::Allow, action, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    let install = move || apply_filter(&program).map_err(std::io::Error::other);
    // SAFETY: between fork and exec only prctl(2) and seccomp(2) are called; nothing is allocated
    // unless they fail.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(install);
    }
}
