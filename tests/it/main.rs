//! The integration tests: real sockets, real files, one binary.

mod conversation;
mod http1;
mod layers;
mod load;
mod support;
