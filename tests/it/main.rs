//! The integration tests.

mod get;
