//! The integration tests: real sockets, real files, one binary.

mod conversation;
mod layers;
mod load;
mod support;
