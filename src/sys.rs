//! System calls, and nothing else: the only place that names `nix`, `rustix`, `socket2` or
//! `polling`.
//!
//! Functions here take and give standard types and `io::Result`, retry `EINTR`, and hold no policy.
//! Code for Linux alone has a second form under `cfg(feature = "portable")` or on other systems,
//! which the test suite runs as well.
//!
//! The calls are those of `nix`. Others stand in only for what it lacks:
//!
//! - `rustix`: `statx`, `preadv2`, `getdents64` into the caller's buffer, `FIONREAD`; `renameat2`,
//!   which `nix` has for glibc alone; `fstat`, `fstatat`, `fstatvfs`, `fallocate` and
//!   `posix_fadvise`, whose lengths and offsets `nix` cuts to 32 bits on 32-bit systems.
//!   Descriptors by `recvmsg` that have an owner.
//! - `socket2`: sockets made and accepted with their flags and the peer's address in one call on
//!   every system, and connect(2) with a time-out.
//! - `polling`: the poller of systems without epoll(7).
//! - `landlock`, `seccompiler`: the sandbox.

pub(crate) mod beneath;
pub(crate) mod buffer;
pub(crate) mod client_socket;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod inherited;
pub(crate) mod kernel_tls;
pub(crate) mod launcher;
pub(crate) mod local_socket;
pub(crate) mod page_cache;
pub(crate) mod peer;
pub(crate) mod poll;
pub(crate) mod poller;
pub(crate) mod process;
pub(crate) mod receive;
pub(crate) mod resources;
mod retry;
pub(crate) mod sandbox;
pub(crate) mod send_file;
pub(crate) mod socket;
pub(crate) mod user;
pub(crate) mod writers;
