//! The command line of haul.
fn main() {}
