//! haul serves large files over TCP, and fetches them.
#![cfg_attr(not(test), warn(missing_debug_implementations))]

pub mod exchange;
pub mod get;
pub mod protocol;
pub mod sys;
