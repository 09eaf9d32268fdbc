//! The integration tests: real sockets, real files, one binary.

mod layers;
mod support;
