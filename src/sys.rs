//! System calls. Nothing else names `nix`, `libc` or `rustix`.

pub mod directory;
