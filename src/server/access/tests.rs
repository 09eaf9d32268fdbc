//! Tests of access: who may have what, and what names and links show.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::http::parse::{Parsed, parse_request};
use crate::server::config::HttpLimits;

fn request(pair: &str) -> Request {
    let field = STANDARD.encode(pair);
    let head = format!("GET /f HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {field}\r\n\r\n");
    match parse_request(head.as_bytes(), 0, &HttpLimits::default()) {
        Parsed::Complete { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn guesses_that_wait_lock_no_user_out_who_was_there_before() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let hash = bcrypt::hash("s3cret", 4).expect("hashed");
    std::fs::write(file.path(), format!("anna:{hash}\n")).expect("written");
    let mut config = ServeConfig::default();
    config.access.htpasswd = Some(file.path().to_owned());
    let access = Access::load(&config, Arc::default()).expect("loaded");
    let access = access.expect("a file of passwords");
    let peer = Peer::Inet(SocketAddr::from(([192, 0, 2, 1], 1)));
    let (anna, guess) = (request("anna:s3cret"), request("anna:guess"));
    let now = Instant::now();
    let decide = |request, now| access.decide(request, peer, now);
    let is_user = |decision| matches!(decision, Decision::Granted(Grant::User(_)));
    assert!(matches!(decide(&anna, now), Decision::CheckPassword(_)));
    assert!(is_user(access.check_password(&anna, peer)));
    assert!(is_user(decide(&anna, now)));
    let later = now + Duration::from_secs(3_600);
    assert!(matches!(decide(&anna, later), Decision::CheckPassword(_)));
    let mut waiting = Vec::new();
    while let Decision::CheckPassword(permit) = decide(&guess, now) {
        waiting.push(permit);
    }
    assert!(matches!(
        decide(&guess, now),
        Decision::Refused(Refusal::Overloaded)
    ));
    assert!(is_user(decide(&anna, later)));
    // A file that is read again is looked into.
    assert!(access.reload().is_empty());
    assert!(!is_user(decide(&anna, now)));
    drop(waiting);
    assert!(matches!(decide(&anna, later), Decision::CheckPassword(_)));
}
