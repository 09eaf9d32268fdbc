//! Limits on speed. A transfer may take longer than its rate says on a loaded machine, but never
//! less: that alone is asserted; [`measured_against_asked`] measures.

use std::io::Read;
use std::time::{Duration, Instant};

use haul::config::Rates;

use crate::support::{TestServer, noise};

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

/// Prints what each rate comes to, with a second of warm-up not counted:
/// `cargo test --release --test it -- --ignored --nocapture measured_against_asked`.
#[test]
#[ignore = "a measurement, for a quiet machine"]
fn measured_against_asked() {
    for rate in [
        1_000_000,
        10_000_000,
        100_000_000,
        1_000_000_000,
        2_000_000_000,
    ] {
        let server = TestServer::with(|config| config.rates.connection = Some(rate));
        let path = server.put("huge", b"");
        let huge = std::fs::File::options().write(true).open(path);
        huge.and_then(|file| file.set_len(64 << 30))
            .expect("a sparse file");
        let mut client = server.connect();
        client.send("huge\n");
        let mut buffer = vec![0; 1 << 20];
        let mut take_for = |time: Duration| {
            let begun = Instant::now();
            let mut bytes = 0;
            while begun.elapsed() < time {
                bytes += client.stream.read(&mut buffer).expect("more comes");
            }
            bytes as f64 / begun.elapsed().as_secs_f64()
        };
        take_for(Duration::from_secs(1));
        let measured = take_for(Duration::from_secs(4));
        println!(
            "{rate} asked, {measured:.0} measured, {:.3}",
            measured / rate as f64
        );
    }
}
