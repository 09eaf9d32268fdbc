//! System calls, and nothing else: the only place that names `nix`, `libc` or `rustix`.
//!
//! Functions here take and give standard types and `io::Result`, retry `EINTR`, and hold no
//! policy. What Linux alone offers has a second form under `cfg(haul_portable)` or on other
//! systems, which the test suite runs as well.

pub mod client_socket;
pub mod directory;
pub mod file;
pub mod poller;
pub mod process;
pub mod readable;
pub mod receive;
pub mod resources;
pub mod send_file;
pub mod socket;
