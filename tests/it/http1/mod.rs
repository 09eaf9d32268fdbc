//! HTTP/1.1 as RFC 9110 and RFC 9112 have it, case by case, in raw bytes over real sockets.
//!
//! Every case is fed whole, and one byte at a time. Behind each follows another request, which
//! shows whether the connection goes on, and that nothing is out of step.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{PATIENCE, TestServer};

mod bodies;
mod case;
mod content;
mod framing;
mod limits;
mod messages;
mod preconditions;
mod ranges;
mod score;
mod site;

use case::{Case, Pieces};
use haul::server::config::{Precompressed, ServeConfig};
use site::Site;

/// A server over the site's files.
fn server(adjust: impl FnOnce(&mut ServeConfig)) -> TestServer {
    let server = TestServer::with(|config| {
        config.precompressed = Precompressed::Serve;
        adjust(config);
    });
    site::furnish(server.root());
    server
}

/// Runs all the cases in both ways.
#[track_caller]
fn run(cases: &[Case], adjust: impl FnOnce(&mut ServeConfig)) {
    // Silence means nothing here, however long the machine is busy elsewhere.
    let server = server(|config| {
        config.deadlines.name_grace = PATIENCE;
        config.deadlines.head = PATIENCE;
        config.deadlines.linger = PATIENCE;
        adjust(config);
    });
    run_on(&server, cases);
}

/// Runs all the cases once dates are strong validators of the files: two seconds after they
/// changed.
#[track_caller]
fn run_when_dates_are_strong(cases: &[Case]) {
    let server = server(|_| {});
    let changed = server
        .root()
        .join("ten.txt")
        .metadata()
        .expect("it is there")
        .ctime();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
            .cast_signed()
    };
    while now() <= changed + 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    run_on(&server, cases);
}

#[track_caller]
fn run_on(server: &TestServer, cases: &[Case]) {
    let site = Site::of(server.address());
    let mut wrong = Vec::new();
    for pieces in [Pieces::Whole, Pieces::OneByte] {
        for case in cases {
            if let Err(why) = case.run(server.address(), &site, pieces) {
                let request = case.request[..case.request.len().min(300)].escape_ascii();
                wrong.push(format!("{} ({pieces:?}): {why}\n  {request}", case.rule));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} runs failed:\n{}",
        wrong.len(),
        cases.len() * 2,
        wrong.join("\n")
    );
}

#[test]
fn the_suite_is_as_large_as_it_says() {
    let cases = [
        ranges::cases(),
        preconditions::cases(),
        messages::cases(),
        bodies::cases(),
        framing::cases(),
        content::cases(),
        limits::cases(),
    ]
    .concat();
    assert!(cases.len() >= 250, "{} cases", cases.len());
    for case in &cases {
        assert!(
            case.rule.contains("9110") || case.rule.contains("9112") || case.rule.contains(':')
        );
        assert!(!case.answers.is_empty(), "{}", case.rule);
    }
}
