//! haul serves large files over TCP, and fetches them.
#![cfg_attr(not(test), warn(missing_debug_implementations))]

pub mod conversation;
pub mod exchange;
pub mod load;
pub mod sys;
