//! Pages of one directory for many at the same time: one scan, and the truth for each of them.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use haul::server::config::{ConnectionLimits, IndexChoice};
use haul::server::telemetry::CloseReason;

use crate::slowfs::{Call, SlowFs};
use crate::support::{Answer, Client, TestServer, wait_for_tick};

/// A browser's request.
fn ask(server: &TestServer, target: &str) -> Client {
    let mut client = server.connect();
    client.send(request(target));
    client
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
}

fn page(server: &TestServer, target: &str) -> String {
    text(&mut ask(server, target))
}

#[track_caller]
fn text(client: &mut Client) -> String {
    let answer = Answer::parse(&client.rest());
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with(b"0\r\n\r\n"), "the page is whole");
    String::from_utf8(answer.body).expect("UTF-8")
}

fn put_names(server: &TestServer, directory: &str, names: u32) {
    let directory = server.root().join(directory);
    fs::create_dir(&directory).expect("a directory");
    for number in 0..names {
        File::create(directory.join(format!("name {number}"))).expect("a file");
    }
    wait_for_tick(&directory);
}

#[test]
fn a_crowd_that_asks_for_one_page_costs_one_scan() {
    let server = TestServer::start();
    put_names(&server, "d", 5_000);
    let mut crowd: Vec<_> = (0..50)
        .map(|_| ask(&server, "/d/?after=f:name%201"))
        .collect();
    let pages: Vec<_> = crowd.iter_mut().map(text).collect();
    assert!(pages[0].contains("5,000 entries"));
    assert!(pages.iter().all(|page| *page == pages[0]));
    let counters = server.counters();
    // More than one only where a second lies between two of the requests.
    assert!(counters.listing_scans <= 5, "{counters:#?}");
}

#[test]
fn links_may_lead_elsewhere_without_a_change_of_their_directory() {
    let server = TestServer::start();
    put_names(&server, "d", 10);
    put_names(&server, "other", 1);
    symlink("../other", server.root().join("d/link")).expect("a link");
    wait_for_tick(&server.root().join("d"));
    assert!(page(&server, "/d/").contains("href=\"link/\""));
    fs::remove_dir_all(server.root().join("other")).expect("removed");
    assert!(!page(&server, "/d/").contains("href=\"link"));
    fs::write(server.root().join("other"), "a file now").expect("written");
    assert!(page(&server, "/d/").contains("href=\"link\""));
}

#[test]
fn a_change_is_seen_by_the_next_request() {
    let server = TestServer::start();
    put_names(&server, "d", 100);
    let file = server.root().join("d/change");
    for round in 0..50 {
        assert!(!page(&server, "/d/").contains("\"change\""), "{round}");
        fs::write(&file, vec![b'x'; 1_000 + round]).expect("written");
        let size = format!("1,{round:03} bytes");
        for target in ["/d/", "/d/?sort=-size", "/d/?sort=time"] {
            assert!(page(&server, target).contains(&size), "{target} {round}");
        }
        // The directory does not change with its files.
        fs::write(&file, vec![b'x'; 2_000 + round]).expect("written");
        let size = format!("2,{round:03} bytes");
        for target in ["/d/", "/d/?sort=-size", "/d/?sort=time"] {
            assert!(page(&server, target).contains(&size), "{target} {round}");
        }
        fs::remove_file(&file).expect("removed");
    }
    fs::rename(server.root().join("d"), server.root().join("e")).expect("renamed");
    put_names(&server, "d", 1);
    assert!(page(&server, "/d/").contains("1 entry"));
    assert!(page(&server, "/e/").contains("100 entries"));
}

#[test]
fn requests_during_a_scan_share_the_next_one_even_when_some_leave() {
    // The kernel blocks look-ups in a directory while FUSE reads it.
    let server = TestServer::with(|config| config.index = IndexChoice::Ignore);
    let Some(mut slow) = SlowFs::mount(&server.root().join("slow")) else {
        return;
    };
    slow.hold(Call::List);
    let first = ask(&server, "/slow/");
    slow.wait_for(Call::List, 1);
    let mut crowd: Vec<_> = (0..20).map(|_| ask(&server, "/slow/")).collect();
    server.counters_when(|counters| counters.listings_shared == 20);
    first.reset();
    // Some of the others leave as well.
    crowd.drain(..5).for_each(Client::reset);
    slow.release(Call::List);
    let pages: Vec<_> = crowd.iter_mut().map(text).collect();
    assert!(pages[0].contains("10 entries") && pages[0].contains("f9"));
    assert!(pages.iter().all(|page| *page == pages[0]));
    let counters = server.counters();
    assert_eq!(counters.listing_scans, 2, "{counters:#?}");
}

/// A server of 40 connections with a file at hand and a file system that can hang.
fn beside_a_slow_one() -> Option<(TestServer, SlowFs)> {
    let server = TestServer::with(|config| {
        config.limits = ConnectionLimits::for_connections(40);
        config.index = IndexChoice::Ignore;
    });
    let slow = SlowFs::mount(&server.root().join("slow"))?;
    server.put("d/hot", "at hand");
    Some((server, slow))
}

#[test]
fn connections_that_leave_a_hung_scan_are_closed() {
    let Some((server, mut slow)) = beside_a_slow_one() else {
        return;
    };
    assert_eq!(server.by_name("d/hot"), b"at hand");
    slow.hold(Call::List);
    let mut crowd = vec![ask(&server, "/slow/")];
    slow.wait_for(Call::List, 1);
    crowd.extend((0..11).map(|_| ask(&server, "/slow/")));
    server.counters_when(|counters| counters.listings_shared == 11);
    // Neither workers nor permits of another file system are taken.
    assert_eq!(server.by_name("d/hot"), b"at hand");
    assert!(page(&server, "/d/").contains("1 entry"));
    crowd.into_iter().for_each(Client::reset);
    server.counters_when(|counters| counters.swept >= 11);
    let mut late = ask(&server, "/slow/");
    server.counters_when(|counters| counters.listings_shared == 12);
    slow.release(Call::List);
    assert!(text(&mut late).contains("10 entries"));
}

#[test]
fn connections_that_leave_many_hung_scans_are_closed() {
    let Some((server, mut slow)) = beside_a_slow_one() else {
        return;
    };
    slow.hold(Call::List);
    // Each request is for another page.
    let crowd: Vec<_> = (0..12)
        .map(|number| ask(&server, &format!("/slow/?q=f{number}")))
        .collect();
    server.counters_when(|counters| counters.listing_scans == 4);
    assert!(page(&server, "/d/").contains("1 entry"));
    crowd.into_iter().for_each(Client::reset);
    server.counters_when(|counters| counters.closed(CloseReason::Aborted) >= 8);
    slow.release(Call::List);
    assert!(page(&server, "/slow/").contains("10 entries"));
}

#[test]
fn unread_small_pages_do_not_block_other_pages() {
    let server = TestServer::start();
    for number in 0..9 {
        put_names(&server, &format!("d{number}"), 100);
    }
    let stalled = |number| {
        let mut client = Client::with_small_window(server.address());
        client.send(request(&format!("/d{number}/")));
        client
    };
    let stalled: Vec<_> = (0..8).map(stalled).collect();
    server.counters_when(|counters| counters.listing_scans == 8);
    assert!(page(&server, "/d8/").contains("100 entries"));
    for mut client in stalled {
        assert!(text(&mut client).contains("100 entries"));
    }
}
