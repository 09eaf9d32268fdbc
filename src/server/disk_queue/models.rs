//! Jobs of connections under the scheduler of `server::models`: shared reads, read-ahead, sweeps of
//! closed connections, shutdown.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::http::Target;
use crate::http::policy::DotNames;
use crate::server::client_share::{ClientShare, ClientShares};
use crate::server::config::ServeConfig;
use crate::server::connection::step::{Admission, ExtentKey};
use crate::server::files::{Found, LookUp, OpenFile, Root};
use crate::server::models::{CONTENT, check, directory};
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
use crate::server::transmit::read_ahead::ReadAhead;
use crate::server::transmit::{EXTENT_BYTES, Extent};
use crate::sys::file::Blocking;

/// A queue, its connections, and which of them have left.
struct Lane {
    queue: DiskQueue,
    file: Arc<OpenFile>,
    service: Shared,
    clients: ClientShares,
    left: Mutex<Vec<u64>>,
}

impl Lane {
    fn new(root: &std::path::Path) -> Self {
        let (closer, _) = crossbeam_channel::unbounded();
        let open = Root::open(root, &[], DotNames::Hidden, closer).expect("a root");
        let target = Target::from_path(b"f").expect("a path");
        let LookUp::Found(Found::File(file)) = open.look_up(&target, Blocking::Allowed) else {
            panic!("not found");
        };
        let config = ServeConfig {
            root: root.to_owned(),
            ..ServeConfig::default()
        };
        let service = Shared::without_log(config);
        Self {
            queue: DiskQueue::new(2, Arc::clone(&service.counters)),
            file,
            service,
            clients: ClientShares::default(),
            left: Mutex::default(),
        }
    }

    /// A connection to wait for an extent, and the other end of it.
    fn connection(&self) -> (Box<Connection>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (stream, address) = listener.accept().expect("accepts");
        let connection = Connection::new(
            stream,
            address.into(),
            self.clients.join(address.ip()),
            Semaphore::new(1).try_acquire().expect("one is left"),
            Admission::Admitted,
            (&self.service, Instant::now()),
        );
        (connection, peer)
    }

    fn wait_for(&self, connection: Box<Connection>, number: u64) {
        let extent = extent(number);
        let job = DiskJob {
            file_system: self.file.file_system.device(),
            action: DiskAction::Read(extent, ExtentKey::new(&self.file, extent)),
        };
        self.queue.submit(connection, job);
    }

    /// As for a connection whose transfer this is.
    fn read_ahead(&self, transfer: &Arc<()>, number: u64) {
        let client: Arc<ClientShare> =
            Arc::clone(self.clients.join(IpAddr::V4(Ipv4Addr::LOCALHOST)).client());
        let ahead = ReadAhead {
            file: Arc::clone(&self.file),
            extent: extent(number),
            transfer: Arc::downgrade(transfer),
        };
        if self.queue.lock().read_ahead(u64::MAX, client, ahead) {
            self.queue.work.notify_one();
        }
    }

    /// A disk worker whose reads take no time.
    fn work(&self) {
        while let Some((job, ticket)) = self.queue.take() {
            let own = match job {
                Job::Connection(connection, _) => Some(connection),
                _ => None,
            };
            let others = self.queue.finish(&ticket, own.as_deref());
            self.leave(others.into_iter().chain(own));
        }
    }

    fn leave(&self, connections: impl IntoIterator<Item = Box<Connection>>) {
        for connection in connections {
            self.left
                .lock()
                .expect("no panic")
                .push(connection.number());
        }
    }

    /// Waits until so many have left.
    fn wait_until_left(&self, connections: usize) -> Vec<u64> {
        loop {
            let mut left = self.left.lock().expect("no panic").clone();
            if left.len() >= connections {
                left.sort_unstable();
                return left;
            }
            shuttle::thread::yield_now();
        }
    }
}

fn extent(number: u64) -> Extent {
    Extent {
        offset: number * EXTENT_BYTES,
        len: EXTENT_BYTES,
    }
}

/// Starts a thread with the queue.
fn start(
    lane: &Arc<Lane>,
    work: impl FnOnce(&Lane) + Send + 'static,
) -> shuttle::thread::JoinHandle<()> {
    let lane = Arc::clone(lane);
    shuttle::thread::spawn(move || work(&lane))
}

#[test]
fn each_queued_connection_leaves_the_queue_exactly_once() {
    let root = directory(CONTENT);
    check(move || {
        let lane = Arc::new(Lane::new(root.path()));
        let (connections, _peers): (Vec<_>, Vec<_>) = (0..4).map(|_| lane.connection()).unzip();
        let mut numbers: Vec<_> = connections.iter().map(|it| it.number()).collect();
        numbers.sort_unstable();
        let gone = numbers[1];
        let mut connections = connections.into_iter();
        let [first, second, third, fourth] = std::array::from_fn(|_| connections.next());
        let workers: Vec<_> = (0..2).map(|_| start(&lane, Lane::work)).collect();
        // Some for one extent, while a reader is read ahead of.
        let visitors = [[(first, 1), (second, 1)], [(third, 2), (fourth, 1)]];
        let visitors = visitors.map(|visits| {
            start(&lane, move |lane| {
                for (connection, number) in visits {
                    lane.wait_for(connection.expect("four"), number);
                }
            })
        });
        // The transfer ends while extents are still to be read ahead of it.
        let reader = start(&lane, |lane| {
            let transfer = Arc::default();
            (0..3).for_each(|number| lane.read_ahead(&transfer, number));
        });
        let sweeper = start(&lane, move |lane| {
            for _ in 0..2 {
                let swept = lane.queue.sweep(|connection| connection.number() == gone);
                assert!(
                    swept
                        .gone
                        .iter()
                        .all(|connection| connection.number() == gone)
                );
                lane.leave(swept.gone.into_iter().chain(swept.back));
            }
        });
        for thread in visitors.into_iter().chain([reader, sweeper]) {
            thread.join().expect("no panic");
        }
        assert_eq!(lane.wait_until_left(numbers.len()), numbers);
        lane.queue.shut();
        for worker in workers {
            worker.join().expect("no panic");
        }
        assert_eq!(lane.wait_until_left(numbers.len()), numbers);
        let lines = lane.queue.lock();
        assert!(lines.extents.is_empty() && lines.waiting.is_empty() && lines.running.is_empty());
        assert!(lines.streams.is_empty());
        assert_eq!(lines.free_workers, 2);
    });
}
