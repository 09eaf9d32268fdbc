//! Limits on speed. A transfer may take longer than its rate says on a loaded machine, but never
//! less: that alone is asserted, by bytes; `scripts/limits` measures.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use haul::server::config::Rates;
use haul::server::telemetry::CloseReason;

use crate::limits::{connect_from, stalled_from};
use crate::support::{PATIENCE, TestServer, noise};

/// Of the client and of all, for the same rate.
fn shared_rates(rate: u64) -> [Rates; 2] {
    let (client, total) = (Some(rate), Some(rate));
    [
        Rates {
            client,
            ..Rates::default()
        },
        Rates {
            total,
            ..Rates::default()
        },
    ]
}

/// Fails if the server has sent more since `begun` than it may: the rate, what a slow turn makes
/// up for, and a burst for each of so many connections that ask at the same time.
#[track_caller]
fn must_have_kept_to(rate: u64, server: &TestServer, begun: Instant, at_once: u64) {
    let sent = server.counters().bytes_sent as f64;
    let most = rate as f64 * (begun.elapsed().as_secs_f64() + 0.05);
    let bursts = at_once * (32 << 10).max(rate / 50);
    assert!(sent <= most * 1.02 + bursts as f64, "{sent} of {most}");
}

#[test]
fn a_transfer_is_no_faster_than_its_rate() {
    let limits = [
        Rates {
            connection: Some(4 << 20),
            ..Rates::default()
        },
        Rates {
            client: Some(4 << 20),
            ..Rates::default()
        },
        Rates {
            total: Some(4 << 20),
            ..Rates::default()
        },
    ];
    std::thread::scope(|scope| {
        for rates in limits {
            scope.spawn(move || {
                let server = TestServer::with(|config| config.rates = rates);
                let content = noise(8 << 20, 1);
                server.put("paced", &content);
                let begun = Instant::now();
                assert!(server.by_name("paced") == content);
                // Two seconds, but for the ten segments that TCP does not pace.
                assert!(begun.elapsed() > Duration::from_millis(1_500), "{rates:?}");
            });
        }
    });
}

/// From 64 MiB a second on, it is haul that keeps to the rate, not the kernel.
#[test]
fn a_high_rate_is_kept_to_over_all_responses_of_a_connection() {
    let rates = Rates {
        connection: Some(128 << 20),
        ..Rates::default()
    };
    let server = TestServer::with(|config| config.rates = rates);
    let large = noise(48 << 20, 1);
    server.put("large", &large);
    server.put("small", &large[..1 << 20]);
    server.put("tiny", "tiny");
    let mut client = server.connect();
    let begun = Instant::now();
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.answer().body == large);
    for _ in 0..16 {
        client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(client.answer().body == large[..1 << 20]);
    }
    // Half a second, but for one burst, and for 50 ms that are made up for.
    assert!(begun.elapsed() > Duration::from_millis(400));
    client.send("GET /tiny HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000));
    for _ in 0..1000 {
        assert_eq!(client.answer().body, b"tiny");
    }
    // A connection that rests for its rate delays no other.
    assert_eq!(server.by_name("tiny"), b"tiny");
    assert_eq!(server.counters().panics, 0);
}

#[test]
fn a_paced_transfer_is_finished_during_a_drain() {
    let rates = Rates {
        connection: Some(64 << 20),
        ..Rates::default()
    };
    let server = TestServer::with(|config| {
        config.rates = rates;
        config.grace = 2 * PATIENCE;
    });
    let content = noise(32 << 20, 2);
    server.put("f", &content);
    let mut client = server.connect();
    client.send("f\n");
    let mut all = client.take(1 << 20);
    server.handle().shut_down();
    all.extend(client.rest());
    assert!(all == content);
    drop(client);
    let counters = server.shut_down();
    assert_eq!(counters.closed(CloseReason::Complete), 1);
}

#[test]
fn new_connections_do_not_evade_the_rate_of_their_client_or_of_all() {
    const RATE: u64 = 400_000;
    std::thread::scope(|scope| {
        for rates in shared_rates(RATE) {
            scope.spawn(move || {
                let server = TestServer::with(|config| config.rates = rates);
                let content = noise(1 << 20, 3);
                server.put("large", &content);
                server.put("small", &content[..14_000]);
                let begun = Instant::now();
                for _ in 0..12 {
                    assert!(server.by_name("small") == content[..14_000]);
                    let answer = server.get("/large", "Range: bytes=100-14099\r\n");
                    assert!(answer.body == content[100..14_100]);
                    assert_eq!(server.get("/small", "").status, 200);
                }
                must_have_kept_to(RATE, &server, begun, 2);
            });
        }
    });
}

#[test]
fn many_connections_at_once_have_one_rate() {
    const RATE: u64 = 8 << 20;
    for rates in shared_rates(RATE) {
        let server = TestServer::with(|config| config.rates = rates);
        server.put("f", noise(160 << 10, 4));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(server.by_name("f").len(), 160 << 10));
            }
        });
        // Two workers may send a burst each before the other's is charged.
        must_have_kept_to(RATE, &server, begun, 2);
    }
}

#[test]
fn transfers_that_do_not_move_hold_no_part_of_the_rate() {
    const RATE: u64 = 20_000_000;
    for rates in shared_rates(RATE) {
        let server = TestServer::with(|config| config.rates = rates);
        let content = noise(10_000_000, 5);
        server.put("f", &content);
        let own = |number: u8| match rates.client {
            Some(_) => Ipv4Addr::new(127, 0, 0, 2),
            None => Ipv4Addr::new(127, 0, 0, 10 + number),
        };
        let stalled = |number| stalled_from(own(number), &server, "f");
        let stalled: Vec<_> = (0..19).map(stalled).collect();
        let begun = Instant::now();
        let mut reader = connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address());
        reader.send("f\n");
        assert!(reader.rest() == content);
        // Half a second; ten with a twentieth of the rate.
        assert!(begun.elapsed() < Duration::from_secs(6), "{rates:?}");
        drop(stalled);
    }
}

#[test]
fn a_low_rate_does_not_count_as_a_stall() {
    let server = TestServer::with(|config| {
        config.rates.total = Some(64 << 10);
        config.deadlines.send_stall = Duration::from_millis(500);
    });
    let content = noise(8 << 10, 6);
    server.put("f", &content);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert!(server.by_name("f") == content));
        }
    });
    assert_eq!(server.counters().closed(CloseReason::Stalled), 0);
}
