//! The cases that apply to any server, against another one.

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use super::case::{Case, Pieces, Scope};
use super::site::{self, Judge, Site};
use super::{bodies, framing, messages, preconditions, ranges};

/// Puts the files into `HAUL_CONFORMANCE_ROOT`, which the server at `HAUL_CONFORMANCE_TARGET` is
/// to serve, and prints how many of the cases it passes.
#[test]
#[ignore = "needs a server to judge: set HAUL_CONFORMANCE_ROOT and HAUL_CONFORMANCE_TARGET"]
fn score_of_another_server() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    site::furnish(Path::new(&variable("HAUL_CONFORMANCE_ROOT")));
    let target = variable("HAUL_CONFORMANCE_TARGET");
    let address = target
        .to_socket_addrs()
        .expect("HOST:PORT")
        .next()
        .expect("an address");
    let site = Site::ask(address, Duration::from_secs(3), Judge::OfOthers);
    let cases = general();
    let mut passed = 0;
    for case in &cases {
        match case.run(address, &site, Pieces::Whole) {
            Ok(()) => passed += 1,
            Err(why) => println!("{}: {why}", case.rule),
        }
    }
    println!("{passed} of {} cases", cases.len());
}

fn general() -> Vec<Case> {
    let mut cases = [
        ranges::cases(),
        preconditions::cases(),
        messages::cases(),
        bodies::cases(),
        framing::cases(),
    ]
    .concat();
    cases.retain(|case| case.scope == Scope::Anyone);
    cases
}
