//! System calls, and nothing else: the only place that names `nix`, `libc` or `rustix`.
//!
//! Functions here take and give standard types and `io::Result`, retry `EINTR`, and hold no
//! policy. What Linux alone offers has a second form under `cfg(feature = "portable")` or on other
//! systems, which the test suite runs as well.

pub(crate) mod beneath;
pub(crate) mod buffer;
pub(crate) mod client_socket;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod peer;
pub(crate) mod poller;
pub(crate) mod process;
pub(crate) mod readable;
pub(crate) mod receive;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod send_file;
pub(crate) mod socket;
