//! The integration tests.

mod conversation;
mod load;
