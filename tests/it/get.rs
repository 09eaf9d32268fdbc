//! `haul get` against servers that behave, and servers that do not.

mod blocks;
mod digests;
mod endless;
mod faults;
mod heads;
mod keep;
mod local;
mod logins;
mod many;
mod metalinks;
mod network;
mod pace;
mod part_names;
mod places;
mod protocols;
mod proxy;
mod resume;
mod segments;
mod strangers;
mod support;
mod terminal;
mod tls;
mod trees;
mod walks;
