//! The system calls of a running server: all others fail with `EPERM`.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::sys::page_cache;

/// Whether the filter holds; `false` where the kernel has none or the processor is not known here.
pub(super) fn install() -> io::Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(false);
    };
    let [calls, threads] = programs(arch).map_err(io::Error::other)?;
    // The first filter must not refuse seccomp(2), which installs the second.
    match apply_filter(&threads).and_then(|()| apply_filter(&calls)) {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(false)
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

fn programs(arch: TargetArch) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let refuse = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(OLD_CALLS.iter().map(|call| (*call, Vec::new())));
    // clone(2) starts threads, but no processes, and makes no namespaces.
    let threads = libc::CLONE_THREAD as u64;
    let looked_at = SeccompCmpOp::MaskedEq(threads | NAMESPACES);
    rules.insert(libc::SYS_clone, vec![only(0, looked_at, threads)?]);
    // Datagrams carry notes to systemd. Streams would reach daemons that obey every client.
    let datagrams = SeccompRule::new(vec![
        condition(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?,
        condition(
            1,
            SeccompCmpOp::MaskedEq(SOCKET_TYPE),
            libc::SOCK_DGRAM as u64,
        )?,
    ])?;
    rules.insert(libc::SYS_socket, vec![datagrams]);
    // Priorities and limits of the process itself, not of others of its user.
    for (call, argument) in [
        (libc::SYS_setpriority, 1),
        (libc::SYS_ioprio_set, 1),
        (libc::SYS_prlimit64, 0),
    ] {
        rules.insert(call, vec![only(argument, SeccompCmpOp::Eq, 0)?]);
    }
    // ioctl(2) asks for lengths of queues and for terminals; TIOCSTI, which types, stays refused.
    let asked = IOCTLS.map(|request| only(1, SeccompCmpOp::Eq, request));
    rules.insert(
        libc::SYS_ioctl,
        asked.into_iter().collect::<Result<_, _>>()?,
    );
    // F_SETOWN stays refused, by which a descriptor signals other processes.
    let asked = FCNTLS.map(|command| only(1, SeccompCmpOp::Eq, command as u64));
    rules.insert(
        libc::SYS_fcntl,
        asked.into_iter().collect::<Result<_, _>>()?,
    );
    // abort(3) signals the process itself.
    let process = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![only(0, SeccompCmpOp::Eq, process)?]);
    // No memory becomes executable after the program was loaded.
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![only(2, executable.clone(), 0)?]);
    }
    rules.insert(
        libc::SYS_prctl,
        vec![only(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?],
    );
    let calls = SeccompFilter::new(rules, refuse(libc::EPERM), SeccompAction::Allow, arch)?;
    // clone3(2) hides its flags from a filter; without it the C library takes clone(2).
    let threads = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        refuse(libc::ENOSYS),
        arch,
    )?;
    Ok([calls.try_into()?, threads.try_into()?])
}

fn only(
    argument: u8,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, comparison, value)?])
}

fn condition(
    argument: u8,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
}

/// Flags of clone(2) that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// The part of a socket's type that is no flag (`SOCK_TYPE_MASK`, linux/net.h).
const SOCKET_TYPE: u64 = 0xf;

/// Requests of ioctl(2).
#[allow(clippy::unnecessary_cast, reason = "musl has another type for them")]
const IOCTLS: [u64; 6] = [
    libc::FIONREAD as u64,
    libc::TIOCOUTQ as u64,
    libc::FIONBIO as u64,
    libc::FIOCLEX as u64,
    libc::TCGETS as u64,
    libc::TIOCGWINSZ as u64,
];

/// `F_SETSIG` (asm-generic/fcntl.h), which `libc` lacks for some systems.
const F_SETSIG: i32 = 10;

/// Commands of fcntl(2).
const FCNTLS: [i32; 14] = [
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_SETPIPE_SZ,
    libc::F_GETPIPE_SZ,
    libc::F_SETLEASE,
    F_SETSIG,
    libc::F_SETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLKW,
];

/// Calls of any argument.
const CALLS: &[c_long] = &[
    // Connections.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Files.
    page_cache::SYS_CACHESTAT,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sync_file_range,
    libc::SYS_tee,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, signals and the process itself.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_get_robust_list,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_ioprio_get,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Clocks, where the vDSO cannot tell the time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
];

/// Calls that newer ports of Linux lack.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getdents,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
