//! The integration tests: real sockets, real files, one binary.

mod cold;
mod conversation;
mod fairness;
mod layers;
mod limits;
mod load;
mod rates;
mod slowfs;
mod stalls;
mod support;
