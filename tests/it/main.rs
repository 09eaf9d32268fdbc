//! The integration tests: real sockets, real files, one binary.

// Whatever one file offers to the others is of no use to anybody else.
#![allow(unreachable_pub)]

mod cold;
mod conversation;
mod files;
mod get;
mod hostile_names;
mod http_basics;
mod layers;
mod load;
mod name_protocol;
mod slowfs;
mod support;
mod truth;
