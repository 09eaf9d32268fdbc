//! Limits on speed. A transfer may take longer than its rate says on a loaded machine, but never
//! less: that alone is asserted; `scripts/manners` measures.

use std::time::{Duration, Instant};

use haul::server::config::Rates;
use haul::server::telemetry::CloseReason;

use crate::support::{PATIENCE, TestServer, noise};

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
    // Whoever rests for its rate holds nobody up.
    assert_eq!(server.by_name("tiny"), b"tiny");
    assert_eq!(server.counters().panics, 0);
}

#[test]
fn who_rests_for_a_high_rate_is_served_to_the_end_while_the_server_drains() {
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
