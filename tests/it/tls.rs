//! HTTPS in `haul serve`.

mod certificates;
mod handshake;
mod interoperability;
mod kernel;
mod kernel_programs;
mod metrics;
mod own_key;
mod records;
pub mod support;
mod transfers;
mod validity;
