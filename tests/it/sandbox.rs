//! The calls that the kernel refuses a running server. Its own threads make them under ptrace(2),
//! so that the program holds no code for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_long};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::TcpCongestion;
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cold::Mount;
use crate::old_kernels::filter;
use crate::process::{Program, haul, run};
use crate::support::{PATIENCE, own_address};

/// What a call returns, or its errno below zero.
type Returned = i64;

#[test]
fn a_key_or_log_that_is_a_pipe_leaves_the_sandbox() {
    let root = tempfile::tempdir().expect("a directory");
    let mut shell = std::process::Command::new("bash");
    let script = "key=$(\"$0\" link --new-key)
        exec \"$0\" serve --listen 127.0.0.1:0 --sandbox require --root \"$1\" \
            --link-key <(echo \"$key\") --access-log >(cat >&2)";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_haul")]);
    let mut server = Program::start(shell.arg(root.path()));
    server.line("sandbox: landlock holds");
    server.line("listening on ");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_worker_can_do_nothing_but_serve() {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path().join("beneath/root");
    fs::create_dir_all(&root).expect("directories");
    fs::write(root.join("file"), "content").expect("a file");
    fs::write(place.path().join("secret"), "secret").expect("a file");
    // One worker: the others would run the code of the one that is stopped.
    let mut server = Program::serve([
        "--workers=1".as_ref(),
        "--sandbox=require".as_ref(),
        "--root".as_ref(),
        root.as_os_str(),
    ]);
    server.line("sandbox: landlock holds");
    let address = server.address();
    let serves = || {
        let mut client = server.connect(address);
        client.send("file\n");
        assert_eq!(client.rest(), b"content");
    };
    serves();
    let worker = Debugged::attach(server.id(), "haul-hot");

    let (own, read) = (c_long::from(server.id()), libc::O_RDONLY);
    let here = libc::AT_FDCWD;
    let make = libc::O_WRONLY | libc::O_CREAT;
    let open = |path: &Path, flags: i32| {
        worker.call(
            libc::SYS_openat,
            [here.into(), STRING, flags.into(), 0o600, 0],
            path,
        )
    };
    // What is served can be read: so the calls are really made.
    assert!(open(&root.join("file"), read) >= 0);
    for path in [
        &place.path().join("secret"),
        Path::new("/etc/passwd"),
        Path::new("/"),
        Path::new("/proc/1/status"),
    ] {
        assert_eq!(
            open(path, read),
            refused(libc::EACCES),
            "{}",
            path.display()
        );
    }
    for path in [
        root.join("new"),
        root.join("file"),
        place.path().join("new"),
    ] {
        assert_eq!(
            open(&path, make),
            refused(libc::EACCES),
            "{}",
            path.display()
        );
    }
    assert_eq!(worker.call(libc::SYS_getpid, [0; 5], ""), own);
    let inet = libc::AF_INET.into();
    let stream = libc::SOCK_STREAM.into();
    let executable = libc::PROT_READ | libc::PROT_EXEC;
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let parent = c_long::from(std::process::id());
    for (name, call, arguments) in [
        ("execve", libc::SYS_execve, [STRING, 0, 0, 0, 0]),
        (
            "execveat",
            libc::SYS_execveat,
            [here.into(), STRING, 0, 0, 0],
        ),
        ("fork", libc::SYS_fork, [0; 5]),
        ("vfork", libc::SYS_vfork, [0; 5]),
        ("clone", libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0]),
        ("socket", libc::SYS_socket, [inet, stream, 0, 0, 0]),
        (
            "ptrace",
            libc::SYS_ptrace,
            [libc::PTRACE_SEIZE.into(), parent, 0, 0, 0],
        ),
        ("kill", libc::SYS_kill, [parent, 0, 0, 0, 0]),
        ("tgkill", libc::SYS_tgkill, [parent, parent, 0, 0, 0]),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            [parent, 0, 0, 0, 0],
        ),
        (
            "mmap",
            libc::SYS_mmap,
            [0, 4096, executable.into(), anonymous.into(), -1],
        ),
        ("mount", libc::SYS_mount, [STRING, STRING, STRING, 0, 0]),
        ("chroot", libc::SYS_chroot, [STRING, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [0; 5]),
        ("bpf", libc::SYS_bpf, [0; 5]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
        (
            "symlinkat",
            libc::SYS_symlinkat,
            [STRING, here.into(), STRING, 0, 0],
        ),
        (
            "prctl",
            libc::SYS_prctl,
            [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0],
        ),
        (
            "unshare",
            libc::SYS_unshare,
            [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0],
        ),
        ("memfd_create", libc::SYS_memfd_create, [STRING, 0, 0, 0, 0]),
        (
            "process_vm_writev",
            libc::SYS_process_vm_writev,
            [parent, 0, 0, 0, 0],
        ),
        (
            "a stream to a daemon",
            libc::SYS_socket,
            [libc::AF_UNIX.into(), stream, 0, 0, 0],
        ),
        (
            "packets to a daemon",
            libc::SYS_socket,
            [
                libc::AF_UNIX.into(),
                (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).into(),
                0,
                0,
                0,
            ],
        ),
        (
            "frames",
            libc::SYS_socket,
            [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0, 0],
        ),
        (
            "netlink",
            libc::SYS_socket,
            [libc::AF_NETLINK.into(), libc::SOCK_DGRAM.into(), 0, 0, 0],
        ),
        ("bind", libc::SYS_bind, [0, STRING, 16, 0, 0]),
        ("listen", libc::SYS_listen, [0, 1, 0, 0, 0]),
        (
            "typing into a terminal",
            libc::SYS_ioctl,
            [0, libc::TIOCSTI as c_long, STRING, 0, 0],
        ),
        (
            "pasting into a console",
            libc::SYS_ioctl,
            [0, libc::TIOCLINUX as c_long, STRING, 0, 0],
        ),
        (
            "signals by descriptor",
            libc::SYS_fcntl,
            [0, libc::F_SETOWN.into(), parent, 0, 0],
        ),
        ("prlimit64", libc::SYS_prlimit64, [parent, 0, 0, 0, 0]),
        ("setpriority", libc::SYS_setpriority, [0, parent, 19, 0, 0]),
        ("ioprio_set", libc::SYS_ioprio_set, [1, parent, 0, 0, 0]),
        (
            "sched_setscheduler",
            libc::SYS_sched_setscheduler,
            [parent, 0, STRING, 0, 0],
        ),
        (
            "a namespace of its own",
            libc::SYS_clone,
            [(libc::CLONE_THREAD | libc::CLONE_NEWNS).into(), 0, 0, 0, 0],
        ),
        ("setns", libc::SYS_setns, [0, 0, 0, 0, 0]),
        (
            "pivot_root",
            libc::SYS_pivot_root,
            [STRING, STRING, 0, 0, 0],
        ),
        (
            "open_by_handle_at",
            libc::SYS_open_by_handle_at,
            [0, STRING, 0, 0, 0],
        ),
        (
            "name_to_handle_at",
            libc::SYS_name_to_handle_at,
            [here.into(), STRING, 0, 0, 0],
        ),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        (
            "perf_event_open",
            libc::SYS_perf_event_open,
            [STRING, 0, 0, 0, 0],
        ),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0, 0]),
        ("add_key", libc::SYS_add_key, [STRING, STRING, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [parent, 0, 0, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0]),
        ("kcmp", libc::SYS_kcmp, [own, parent, 0, 0, 0]),
        (
            "personality",
            libc::SYS_personality,
            [0x0040_0000, 0, 0, 0, 0],
        ),
        ("init_module", libc::SYS_init_module, [0, 0, 0, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0, 0]),
        ("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0]),
        (
            "mprotect",
            libc::SYS_mprotect,
            [0, 4096, executable.into(), 0, 0],
        ),
        (
            "linkat",
            libc::SYS_linkat,
            [here.into(), STRING, here.into(), STRING, 0],
        ),
        ("truncate", libc::SYS_truncate, [STRING, 0, 0, 0, 0]),
        (
            "setxattr",
            libc::SYS_setxattr,
            [STRING, STRING, STRING, 0, 0],
        ),
        ("seccomp", libc::SYS_seccomp, [0, 0, 0, 0, 0]),
        (
            "rt_sigqueueinfo",
            libc::SYS_rt_sigqueueinfo,
            [parent, 0, STRING, 0, 0],
        ),
    ] {
        assert_eq!(
            worker.call(call, arguments, "/bin/true"),
            refused(libc::EPERM),
            "{name}"
        );
    }
    drop(worker);
    serves();
}

#[test]
fn logs_are_rotated_and_roots_replaced_within_the_sandbox() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    for name in ["1", "2", "elsewhere/3"] {
        fs::create_dir_all(path("roots").join(name)).expect("directories");
        fs::write(path("roots").join(name).join("version"), name).expect("a file");
    }
    fs::create_dir(path("logs")).expect("a directory");
    symlink("1", path("roots/current")).expect("a link");
    let mut server = Program::serve([
        "--root".as_ref(),
        path("roots/current").as_os_str(),
        "--access-log".as_ref(),
        path("logs/log").as_os_str(),
    ]);
    let address = server.address();
    let version = || {
        let mut client = server.connect(address);
        client.send("version\n");
        client.rest()
    };
    let switch_to = |to: &str| {
        symlink(to, path("roots/next")).expect("a link");
        fs::rename(path("roots/next"), path("roots/current")).expect("switched");
    };
    assert_eq!(version(), b"1");
    switch_to("2");
    wait_until("the new root is served", || version() == b"2");
    fs::rename(path("logs/log"), path("logs/log.1")).expect("moved");
    server.signal(Signal::SIGHUP);
    wait_until("a new log", || path("logs/log").exists());
    assert_eq!(version(), b"2");
    wait_until("its lines", || {
        fs::read(path("logs/log")).is_ok_and(|log| !log.is_empty())
    });
}

#[test]
fn a_log_that_is_removed_gives_its_room_back() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("root")).expect("a directory");
    fs::write(path("root/file"), "content").expect("a file");
    let Some(mount) = Mount::new(&path("logs"), "tmpfs", "size=64k") else {
        return;
    };
    symlink("logs/log", path("link")).expect("a link");
    for log in ["logs/log", "link"] {
        let mut server = Program::serve([
            "--root".as_ref(),
            path("root").as_os_str(),
            "--access-log".as_ref(),
            path(log).as_os_str(),
        ]);
        let address = server.address();
        let ask = |name: &str| {
            let mut client = server.connect(address);
            client.send(format!(
                "GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ));
            client.rest();
        };
        let free = || statvfs(&path("logs")).expect("a file system").blocks_free();
        wait_until("a full disk", || {
            ask(&"x".repeat(1_000));
            free() == 0
        });
        // Lines of which no byte is written.
        (0..9).for_each(|_| ask(&"x".repeat(1_000)));
        fs::remove_file(path("logs/log")).expect("removed");
        server.signal(Signal::SIGHUP);
        wait_until("room", || free() > 0);
        wait_until("the lines that were lost, and new ones", || {
            ask("file");
            let log = fs::read_to_string(path("logs/log")).unwrap_or_default();
            log.contains(" access log lines were lost\n") && log.contains("GET /file ")
        });
        drop(server);
        fs::remove_file(path("logs/log")).expect("removed");
    }
    drop(mount);
}

#[test]
fn a_root_that_the_sandbox_does_not_cover_is_said_and_not_served() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name);
    for name in ["a/1", "b/2"] {
        fs::create_dir_all(path(name)).expect("directories");
        fs::write(path(name).join("version"), name).expect("a file");
    }
    fs::create_dir(path("links")).expect("a directory");
    symlink(path("a/1"), path("links/current")).expect("a link");
    let mut server = Program::serve(["--root".as_ref(), path("links/current").as_os_str()]);
    let address = server.address();
    symlink(path("b/2"), path("links/next")).expect("a link");
    fs::rename(path("links/next"), path("links/current")).expect("switched");
    server.line("haul: the sandbox does not cover what is now at ");
    let mut client = server.connect(address);
    client.send("version\n");
    assert_eq!(client.rest(), b"a/1");
}

#[test]
fn connections_of_this_host_are_not_paced_within_the_sandbox() {
    let listener = TcpListener::bind(own_address()).expect("a port");
    let Ok(()) = setsockopt(&listener, TcpCongestion, &OsString::from("bbr")) else {
        return println!("no BBR here, or not for this user");
    };
    let root = tempfile::tempdir().expect("a directory");
    // A copy that a child inherits.
    let copy = fcntl(&listener, FcntlArg::F_DUPFD(200)).expect("a descriptor");
    let mut server = Program::start(
        haul()
            .args(["serve", "--sandbox", "require", "--root"])
            .arg(root.path())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDS_FIRST_FD", copy.to_string()),
    );
    server.address();
    // Both have the same socket.
    wait_until("no pacing", || {
        getsockopt(&listener, TcpCongestion).expect("a name") != "bbr"
    });
    let _ = nix::unistd::close(copy);
}

#[test]
fn what_is_required_and_cannot_be_had_ends_the_start() {
    let mut command = haul();
    command.args([
        "serve",
        "--listen",
        &own_address().to_string(),
        "--sandbox",
        "require",
    ]);
    filter(
        &mut command,
        &[libc::SYS_landlock_create_ruleset],
        libc::ENOSYS,
    );
    let output = run(&mut command);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be confined: no landlock"), "{said}");
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

fn refused(errno: i32) -> Returned {
    -Returned::from(errno)
}

/// Stands for the address of the string that a call is given.
const STRING: c_long = c_long::MIN;

/// A thread of another process, stopped.
#[cfg(target_arch = "x86_64")]
struct Debugged {
    thread: Pid,
    registers: libc::user_regs_struct,
    code: Vec<u8>,
    memory: File,
}

#[cfg(target_arch = "x86_64")]
impl Debugged {
    fn attach(process: i32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let named = tasks.filter_map(Result::ok).find(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
        let thread = named.expect("a thread of that name").file_name();
        let thread = Pid::from_raw(thread.to_string_lossy().parse().expect("a number"));
        ptrace::attach(thread).expect("it is ours");
        wait_for_stop(thread);
        let registers = ptrace::getregs(thread).expect("it is stopped");
        let path = format!("/proc/{process}/mem");
        let memory = File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("it is ours");
        let mut code = vec![0; SYSCALL.len()];
        memory
            .read_exact_at(&mut code, registers.rip)
            .expect("its code");
        memory
            .write_all_at(&SYSCALL, registers.rip)
            .expect("its code");
        Self {
            thread,
            registers,
            code,
            memory,
        }
    }

    fn call(&self, call: c_long, arguments: [c_long; 5], string: impl AsRef<Path>) -> Returned {
        use std::os::unix::ffi::OsStrExt;
        let mut registers = self.registers;
        let address = registers.rsp - (64 << 10);
        let string = [string.as_ref().as_os_str().as_bytes(), b"\0"].concat();
        self.memory
            .write_all_at(&string, address)
            .expect("its stack");
        let [rdi, rsi, rdx, r10, r8] = arguments.map(|argument| match argument {
            STRING => address,
            other => other.cast_unsigned(),
        });
        (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
        (registers.r10, registers.r8, registers.r9) = (r10, r8, 0);
        registers.rax = call.cast_unsigned();
        // Not a call that was interrupted and is to be taken up again.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.thread, registers).expect("it is stopped");
        ptrace::step(self.thread, None).expect("it is stopped");
        wait_for_stop(self.thread);
        ptrace::getregs(self.thread)
            .expect("it is stopped")
            .rax
            .cast_signed()
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Debugged {
    fn drop(&mut self) {
        let _ = self.memory.write_all_at(&self.code, self.registers.rip);
        let _ = ptrace::setregs(self.thread, self.registers);
        let _ = ptrace::detach(self.thread, None);
    }
}

#[cfg(target_arch = "x86_64")]
fn wait_for_stop(thread: Pid) {
    let status = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("a child, or traced");
    assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
}

#[cfg(target_arch = "x86_64")]
const SYSCALL: [u8; 2] = [0x0f, 0x05];
