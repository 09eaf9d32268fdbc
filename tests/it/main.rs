//! The integration tests: real sockets, real files, one binary.

mod cold;
mod conversation;
mod get;
mod layers;
mod load;
mod slowfs;
mod support;
