//! Validated settings as plain values: no clap, no files, no environment.

pub mod http;
