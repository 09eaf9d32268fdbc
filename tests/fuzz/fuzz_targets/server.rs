#![no_main]
//! The whole server: bytes over a socket, to its plain port or to the one for TLS, in one piece or
//! in two. Whatever comes, it answers or closes, panics nowhere, and serves the next one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::time::Duration;

use haul::server::config::{OwnIdentity, ServeConfig};
use haul::server::telemetry::access_log::Destination;
use haul::server::{Handle, Server};

struct Running {
    handle: Handle,
    plain: SocketAddr,
    tls: SocketAddr,
}

static SERVER: LazyLock<Running> = LazyLock::new(|| {
    let place = std::env::temp_dir().join(format!("haul-fuzz-{}", std::process::id()));
    let root = place.join("root");
    std::fs::create_dir_all(root.join("dir")).expect("a directory");
    for (name, length) in [("f", 10), ("large", 300_000), ("dir/f", 1), ("empty", 0)] {
        std::fs::write(root.join(name), vec![b'f'; length]).expect("a file");
    }
    let mut config = ServeConfig {
        root,
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        listen_tls: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        workers: NonZeroUsize::MIN,
        disk_workers: NonZeroUsize::MIN,
        access_log: Destination::Nowhere,
        ..ServeConfig::default()
    };
    config.tls.own = Some(OwnIdentity { directory: Some(place), names: vec!["x".into()] });
    config.deadlines.name_grace = Duration::from_millis(1);
    let server = Server::bind(config).expect("it binds");
    let (plain, tls) = (server.local_addrs()[0], server.tls_addrs()[0]);
    let handle = server.handle();
    std::thread::spawn(move || server.run());
    Running { handle, plain, tls }
});

/// The answer to these bytes, and their half-close; an end by reset is one too.
fn exchange(address: SocketAddr, first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let stream = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(8)))?;
        stream.write_all(first)?;
        stream.write_all(second)?;
        stream.shutdown(Shutdown::Write)?;
        Ok(stream)
    });
    if let Ok(mut stream) = stream {
        let end = stream.read_to_end(&mut answer);
        let hangs = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hangs, "it neither answers nor closes");
    }
    answer
}

libfuzzer_sys::fuzz_target!(|input: (bool, u16, &[u8])| {
    let (speaks_tls, cut, bytes) = input;
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let address = if speaks_tls { SERVER.tls } else { SERVER.plain };
    exchange(address, first, second);
    assert_eq!(SERVER.handle.counters().panics, 0);
    let next = exchange(SERVER.plain, b"GET /f HTTP/1.1\r\nHost: x\r\n", b"Connection: close\r\n\r\n");
    assert!(next.ends_with(b"\r\n\r\nffffffffff"), "the next one is not served");
});
