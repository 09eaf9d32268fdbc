//! HTTPS in `haul serve`.

mod certificates;
mod handshake;
mod interoperability;
mod support;
mod transfers;
