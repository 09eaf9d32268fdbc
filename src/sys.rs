//! The only place that names the system-call crates.

pub mod receive;
