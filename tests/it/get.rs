//! `haul get` against servers that behave, and servers that do not.

mod faults;
mod local;
mod many;
mod protocols;
mod resume;
mod segments;
mod strangers;
mod support;
mod terminal;
