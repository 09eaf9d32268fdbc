//! A TCP proxy that harms what servers answer.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Flip,
    Double,
    Drop,
    Swap,
}

impl Harm {
    pub(super) const ALL: [Self; 4] = [Self::Flip, Self::Double, Self::Drop, Self::Swap];

    /// Harms the byte at `at`, which is not the last one.
    pub(super) fn harm(self, bytes: &mut Vec<u8>, at: usize) {
        match self {
            Self::Flip => bytes[at] ^= 0x20,
            Self::Double => bytes.insert(at, bytes[at]),
            Self::Drop => drop(bytes.remove(at)),
            Self::Swap => bytes.swap(at, at + 1),
        }
    }
}

/// Passes bytes between clients and a server.
pub(super) struct Proxy {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
}

type Change = dyn Fn(u64, &mut Vec<u8>) + Send + Sync;

impl Proxy {
    /// Gives each piece of the answers to `change`, with the number of bytes that were passed to
    /// clients before it, on all connections.
    pub(super) fn start(
        server: SocketAddr,
        change: impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let (total, change): (_, Arc<Change>) = (Arc::clone(&passed), Arc::new(change));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (total, change) = (Arc::clone(&total), Arc::clone(&change));
                let Ok(upstream) = TcpStream::connect(server) else {
                    return;
                };
                thread::spawn(move || pass(&client, &upstream, &*change, &total));
            }
        });
        Self { address, passed }
    }

    /// Harms what passes around one place.
    pub(super) fn harming(server: SocketAddr, harm: Harm, at: u64) -> Self {
        Self::start(server, move |before, bytes| {
            let here = at.checked_sub(before).map(|here| here as usize);
            if let Some(here) = here.filter(|here| here + 1 < bytes.len()) {
                harm.harm(bytes, here);
            }
        })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Bytes that have come from the server.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

fn pass(client: &TcpStream, upstream: &TcpStream, change: &Change, total: &AtomicU64) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), upstream);
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let (mut from_server, mut to_client) = (upstream, client);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            let before = total.fetch_add(count as u64, Ordering::SeqCst);
            let mut bytes = buffer[..count].to_vec();
            change(before, &mut bytes);
            if to_client.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = upstream.shutdown(Shutdown::Both);
    });
}
