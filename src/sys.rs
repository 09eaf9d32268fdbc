//! Everything that asks the kernel for something the standard library does not offer. No policy
//! and no logging here: each function is one system call, or a few that belong together.

pub mod client_socket;
pub mod readable;
pub mod resources;
