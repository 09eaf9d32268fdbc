//! The wire formats, as pure functions: bytes in, data out.

pub mod response;
