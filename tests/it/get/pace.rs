//! `--rate`: all connections together, whatever way the bytes take.

use super::support::{Client, Served, Server};

/// The test can only show that nothing went too fast: the speed of a loaded machine is unknown.
#[test]
fn bytes_come_no_faster_than_the_rate() {
    let (length, rate) = (600_000, 1_000_000);
    for more in [
        &["--segments", "1", "--receive", "splice"][..],
        &["--segments", "1", "--receive", "copy"],
        &["--segments", "2"],
        &["--parallel", "2"],
    ] {
        let (file, client) = (Served::new(1, length), Client::new());
        let server = Server::of(file.clone());
        let (a, b) = (server.url("/a"), server.url("/b"));
        let rate_text = rate.to_string();
        let mut arguments = vec!["--json", "--rate", &rate_text, &a];
        let together = more[0] == "--parallel";
        arguments.extend(together.then_some(b.as_str()));
        arguments.extend(more);
        let ran = client.get(&arguments);
        ran.assert_status(0);
        let finished = ran.events("finished");
        let received: u64 = finished
            .iter()
            .filter_map(|it| it["received"].as_u64())
            .sum();
        let seconds = finished
            .iter()
            .filter_map(|it| it["seconds"].as_f64())
            .fold(0.0, f64::max);
        assert!(received >= length as u64 * finished.len() as u64);
        // What comes in the first moment, and what is paid for only after the end: a twentieth of a
        // second's worth each, for every connection.
        let paid = received as f64 - rate as f64 * 0.2;
        assert!(
            seconds >= paid / rate as f64,
            "{received} bytes in {seconds} s: {more:?}"
        );
    }
}

#[test]
fn a_rate_holds_for_standard_output_too() {
    let (file, client) = (Served::new(1, 300_000), Client::new());
    let server = Server::of(file.clone());
    let began = std::time::Instant::now();
    let ran = client.get(&["--rate", "500000", "-o", "-", &server.url("/f")]);
    ran.assert_status(0);
    assert!(ran.stdout == *file.bytes);
    assert!(
        began.elapsed().as_secs_f64() >= 0.6 - 0.1,
        "{:?}",
        began.elapsed()
    );
}
