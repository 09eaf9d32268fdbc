//! TLS in both directions: sessions over rustls without a socket, and each side's settings of them.
//! No other module calls rustls' connections.

pub(crate) mod chain_report;
pub(crate) mod client;
pub(crate) mod identity;
pub(crate) mod kernel;
pub(crate) mod pin;
pub(crate) mod provider;
pub(crate) mod server;
pub(crate) mod session;
