//! HTTPS in `haul serve`.

mod certificates;
mod handshake;
mod interoperability;
mod kernel;
mod kernel_programs;
pub mod support;
mod transfers;
