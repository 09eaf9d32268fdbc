//! The acceptor, hot workers and disk workers: going idle and waking, handing over, draining.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::server::threads::sweep;

#[test]
fn every_connection_is_answered_by_its_holder() {
    let root = directory(CONTENT);
    check(move || {
        let model = Model::start(root.path(), |_| {});
        let address = model.address;
        let by_name = shuttle::thread::spawn(move || {
            let mut client = Client::connect(address).expect("it listens");
            client.send("f\n");
            assert_eq!(client.read(100), CONTENT.as_bytes());
        });
        let pipelined = shuttle::thread::spawn(move || {
            let mut client = Client::connect(address).expect("it listens");
            client.send(&REQUEST.repeat(2));
            assert_eq!([client.answer(), client.answer()], [200; 2]);
        });
        let mut client = Client::connect(address).expect("it listens");
        assert_eq!([client.ask(), client.ask()], [200; 2]);
        by_name.join().expect("no panic");
        pipelined.join().expect("no panic");
        model.handle.shut_down();
        assert_eq!(model.finish().accepted, 3);
    });
}

#[test]
fn kept_connections_are_handed_over_and_answered() {
    const CLIENTS: usize = 6;
    let root = directory(CONTENT);
    let handed_over = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&handed_over);
    check(move || {
        let model = Model::start(root.path(), |_| {});
        let client = || Client::connect(model.address).expect("it listens");
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        for _ in 0..2 {
            // Together, so that a worker has more than it can do at once.
            for client in &mut clients {
                client.send(REQUEST);
            }
            for client in &mut clients {
                assert_eq!(client.answer(), 200);
            }
        }
        model.handle.shut_down();
        seen.fetch_add(model.finish().handovers, Ordering::Relaxed);
    });
    assert_ne!(handed_over.load(Ordering::Relaxed), 0);
}

#[test]
fn requests_before_the_end_are_answered_whole_or_not_at_all() {
    let root = directory(CONTENT);
    check(move || {
        let model = Model::start(root.path(), |_| {});
        let address = model.address;
        let by_name = shuttle::thread::spawn(move || {
            let Some(mut client) = Client::connect(address) else {
                return;
            };
            client.send("f\n");
            let content = client.read(100);
            assert!(content.is_empty() || content == CONTENT.as_bytes());
        });
        let kept = shuttle::thread::spawn(move || {
            let Some(mut client) = Client::connect(address) else {
                return;
            };
            for _ in 0..2 {
                assert!(matches!(client.ask(), 0 | 200));
            }
        });
        let handle = model.handle.clone();
        let end = shuttle::thread::spawn(move || handle.shut_down());
        model.finish();
        for client in [by_name, kept, end] {
            client.join().expect("no panic");
        }
    });
}

#[test]
fn an_abort_leaves_no_connection() {
    let root = directory(CONTENT);
    check(move || {
        let model = Model::start(root.path(), |_| {});
        let address = model.address;
        let client = shuttle::thread::spawn(move || {
            let Some(mut client) = Client::connect(address) else {
                return;
            };
            client.send("f\n");
            let content = client.read(100);
            assert!(CONTENT.as_bytes().starts_with(&content));
        });
        model.handle.abort();
        model.finish();
        client.join().expect("no panic");
    });
}

#[test]
fn a_newcomer_without_a_permit_gets_a_silent_ones_or_is_told() {
    let root = directory(CONTENT);
    let admitted = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&admitted);
    check(move || {
        let model = Model::start(root.path(), |config| config.limits.connections = 1);
        let mut silent = Client::connect(model.address).expect("it listens");
        assert_eq!(silent.ask(), 200);
        let begun = Instant::now();
        let mut newcomer = Client::connect(model.address).expect("it listens");
        let status = newcomer.ask();
        // Deadlines use the real clock, which runs on while the machine is busy elsewhere.
        let is_late = begun.elapsed() > Duration::from_secs(1);
        assert!(matches!(status, 200 | 503) || is_late, "{status}");
        seen.fetch_add(u64::from(status == 200), Ordering::Relaxed);
        if status == 200 {
            assert!(silent.read(1).is_empty());
        }
        // A connection that was refused lingers until its peer has closed.
        drop(newcomer);
        model.handle.shut_down();
        model.finish();
    });
    assert_ne!(admitted.load(Ordering::Relaxed), 0);
}

#[test]
fn a_shared_scan_reaches_the_remaining_connections_when_one_leaves() {
    let root = directory(CONTENT);
    check(move || {
        let model = Model::start(root.path(), |_| {});
        let address = model.address;
        let clients = [true, true, false].map(|stays| {
            shuttle::thread::spawn(move || {
                let mut client = Client::connect(address).expect("it listens");
                client.send("GET /?format=json HTTP/1.0\r\n\r\n");
                let answer = client.read(if stays { 10_000 } else { 1 });
                assert!(!stays || answer.ends_with(b"]\n"), "an answer was cut off");
            })
        });
        let ring = Arc::clone(&model.handle.ring);
        let sweeper = shuttle::thread::spawn(move || (0..2).for_each(|_| sweep(&ring)));
        for thread in clients.into_iter().chain([sweeper]) {
            thread.join().expect("no panic");
        }
        model.handle.shut_down();
        model.finish();
    });
}
