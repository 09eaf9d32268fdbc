//! The integration tests.

mod load;
