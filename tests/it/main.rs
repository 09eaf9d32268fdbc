//! The integration tests: real sockets, real files, one binary.

// Helpers of one file for the others are of no use outside.
#![allow(unreachable_pub)]
// A test that is skipped says so.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod access;
mod access_log;
mod admin;
mod clients;
mod cold;
mod config_file;
mod dial;
mod digests;
mod fairness;
mod files;
mod get;
mod hostile_names;
mod http1;
mod http_basics;
mod layers;
mod limits;
mod listings;
mod load;
mod log_formats;
mod lost_wake_ups;
mod memory;
mod message;
mod mounts;
mod name_protocol;
mod named_files;
mod old_kernels;
mod operator_files;
mod process;
mod proxy_protocol;
mod races;
mod rates;
mod resources;
mod roots;
mod sandbox;
mod shared_scans;
mod shutdown;
mod slowfs;
mod stalls;
mod start_limits;
mod startup;
mod sum;
mod support;
mod systemd;
mod tls;
mod tls_front;
mod tls_records;
mod top;
mod truth;
mod unix_sockets;
mod unread;
mod upgrade;
