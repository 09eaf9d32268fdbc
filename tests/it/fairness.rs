//! Shares go by client, not by connection.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::connect_from;
use crate::support::TestServer;

#[test]
fn sixteen_connections_of_a_client_share_what_another_has_for_one() {
    let server = TestServer::with(|config| config.rates.total = Some(40 << 20));
    let path = server.put("huge", b"");
    let huge = std::fs::File::options().write(true).open(path);
    huge.and_then(|file| file.set_len(64 << 30))
        .expect("a sparse file");
    let (one, many) = (AtomicU64::new(0), AtomicU64::new(0));
    let reader = |address: [u8; 4], got: &AtomicU64| {
        let mut client = connect_from(Ipv4Addr::from(address), server.address());
        client.send("huge\n");
        let mut buffer = vec![0; 64 << 10];
        // What fills the buffers on the way does not count.
        let mut before = 2 << 20;
        while one
            .load(Ordering::Relaxed)
            .max(many.load(Ordering::Relaxed))
            < ENOUGH
        {
            let count = client.stream.read(&mut buffer).expect("more comes");
            let counts = count.saturating_sub(before);
            before -= before.min(count);
            got.fetch_add(counts as u64, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| reader([127, 0, 0, 2], &one));
        for _ in 0..16 {
            scope.spawn(|| reader([127, 0, 0, 3], &many));
        }
    });
    let (one, many) = (one.into_inner(), many.into_inner());
    // By connection it would be a sixteenth.
    assert!(one * 2 > many && many * 3 > one, "{one} against {many}");
}

const ENOUGH: u64 = 48 << 20;
