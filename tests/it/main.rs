//! The integration tests: real sockets, real files, one binary.

mod conversation;
mod get;
mod layers;
mod load;
mod support;
