//! HTTPS in `haul serve`.

mod certificates;
mod handshake;
mod interoperability;
pub mod support;
mod transfers;
