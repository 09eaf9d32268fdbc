//! TLS in both directions: a session over rustls without a socket, and what either side makes its
//! sessions from. Nothing outside names a method of rustls' connections.

pub(crate) mod client;
pub(crate) mod identity;
pub(crate) mod kernel;
pub(crate) mod pin;
pub(crate) mod provider;
pub(crate) mod server;
pub(crate) mod session;
