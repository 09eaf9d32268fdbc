//! haul serves large files over TCP, and fetches them.
#![cfg_attr(not(test), warn(missing_debug_implementations))]

pub mod config;
pub mod exchange;
pub mod listing;
pub mod protocol;
pub mod respond;
pub mod sys;
