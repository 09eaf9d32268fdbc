//! The disk queue without threads: the order of jobs.

use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::time::Instant;

use super::queues::{LONG_LINE, Reader};
use super::*;
use crate::http::Target;
use crate::http::policy::DotNames;
use crate::server::access::PastGuesses;
use crate::server::client_share::ClientShares;
use crate::server::config::ServeConfig;
use crate::server::connection::step::{Admission, ExtentKey};
use crate::server::files::filesystem::FileSystems;
use crate::server::files::filesystem::tests::{NFS, key};
use crate::server::files::{Found, LookUp, OpenFile, Root};
use crate::server::listing::ScanNumber;
use crate::server::semaphore::Semaphore;
use crate::server::shared::Shared;
use crate::server::transmit::read_ahead::ReadAhead;
use crate::server::transmit::{EXTENT_BYTES, Extent};
use crate::sys::file::Blocking;

/// A queue, and a file that is read ahead.
struct Lane {
    lane: DiskQueue,
    file: Arc<OpenFile>,
    clients: ClientShares,
    /// The transfer that is read ahead of.
    transfer: Arc<()>,
}

impl Lane {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(root.path().join("f"), "content").expect("written");
        let (closer, _) = crossbeam_channel::unbounded();
        let root = Root::open(root.path(), &[], DotNames::Hidden, closer).expect("a root");
        let target = Target::from_path(b"f").expect("a path");
        let LookUp::Found(Found::File(file)) = root.look_up(&target, Blocking::Allowed) else {
            panic!("not found");
        };
        Self {
            lane: DiskQueue::new(8, Arc::default()),
            file,
            clients: ClientShares::default(),
            transfer: Arc::default(),
        }
    }

    fn read_ahead(&self, reader: Reader, numbers: Range<u64>) {
        let membership = self.clients.join(std::net::IpAddr::from([127, 0, 0, 1]));
        for number in numbers {
            let ahead = ReadAhead {
                file: Arc::clone(&self.file),
                extent: extent(number),
                transfer: Arc::downgrade(&self.transfer),
            };
            let client = Arc::clone(membership.client());
            self.lane.lock().read_ahead(reader, client, ahead);
        }
    }

    /// The jobs that may be taken now, by the numbers of their extents.
    fn take_all(&self) -> Vec<(u64, Ticket)> {
        let next = || self.lane.lock().next();
        let number = |(job, ticket)| match job {
            Job::Connection(_, DiskAction::Read(extent, _))
            | Job::Prefetch(ReadAhead { extent, .. }) => (extent.offset / EXTENT_BYTES, ticket),
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(next).map(number).collect()
    }
}

/// A connection, and the other end of it.
fn connect(clients: &ClientShares) -> (Box<Connection>, TcpStream) {
    let root = tempfile::tempdir().expect("a directory");
    let config = ServeConfig {
        root: root.path().to_owned(),
        ..ServeConfig::default()
    };
    let service = Shared::without_log(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (stream, address) = listener.accept().expect("accepts");
    let membership = clients.join(address.ip());
    let permit = Semaphore::new(1).try_acquire().expect("one is left");
    let now = (&service, Instant::now());
    let connection = Connection::new(
        stream,
        address.into(),
        membership,
        permit,
        Admission::Admitted,
        now,
    );
    (connection, peer)
}

/// Puts connections in line with a job of this kind.
fn visit(lane: &Lane, file_system: u64, action: DiskAction, times: usize) -> Vec<TcpStream> {
    let visit = |_| {
        let (connection, peer) = connect(&lane.clients);
        let job = DiskJob {
            file_system,
            action,
        };
        lane.lane.submit(connection, job);
        peer
    };
    (0..times).map(visit).collect()
}

fn extent(number: u64) -> Extent {
    Extent {
        offset: number * EXTENT_BYTES,
        len: EXTENT_BYTES,
    }
}

fn numbers(taken: &[(u64, Ticket)]) -> Vec<u64> {
    taken.iter().map(|(number, _)| *number).collect()
}

#[test]
fn what_is_read_ahead_of_a_reader_is_read_in_order() {
    let lane = Lane::new();
    lane.read_ahead(3, 1..4);
    lane.read_ahead(4, 10..12);
    let mut seen = Vec::new();
    loop {
        let taken = lane.take_all();
        if taken.is_empty() {
            break;
        }
        seen.push(numbers(&taken));
        for (_, ticket) in taken {
            assert!(lane.lane.finish(&ticket, None).is_empty());
        }
    }
    assert_eq!(seen, [vec![1, 10], vec![2, 11], vec![3]]);
    let lines = lane.lane.lock();
    assert!(lines.streams.is_empty() && lines.extents.is_empty() && lines.waiting.is_empty());
    assert_eq!(lines.free_workers, 8);
}

#[test]
fn a_file_system_that_may_wait_for_a_network_is_asked_for_all_at_once() {
    let mut lane = Lane::new();
    let file = Arc::get_mut(&mut lane.file).expect("nobody else's");
    file.file_system = FileSystems::default().learn(key(Some(1)), NFS);
    lane.read_ahead(3, 1..4);
    let taken = lane.take_all();
    assert_eq!(numbers(&taken), [1, 2, 3]);
}

#[test]
fn a_connection_waits_for_its_own_extent_only() {
    let lane = Lane::new();
    lane.read_ahead(3, 1..4);
    let file_system = lane.file.file_system.device();
    let mut peers = Vec::new();
    let mut visit = |number| {
        let (connection, peer) = connect(&lane.clients);
        peers.push(peer);
        let (extent, key) = (extent(number), ExtentKey::new(&lane.file, extent(number)));
        let action = DiskAction::Read(extent, key);
        let job = DiskJob {
            file_system,
            action,
        };
        lane.lane.submit(connection, job);
    };
    // One extent is being read and two are queued: a reader of the last one does not wait for the
    // one before it, and the next reader shares the read.
    visit(1);
    visit(3);
    visit(3);
    let taken = lane.take_all();
    assert_eq!(numbers(&taken), [1, 3]);
    let came = taken
        .iter()
        .map(|(_, ticket)| lane.lane.finish(ticket, None).len());
    assert_eq!(came.collect::<Vec<_>>(), [1, 1]);
    // It is not read again.
    let taken = lane.take_all();
    assert_eq!(numbers(&taken), [2]);
    assert!(lane.lane.finish(&taken[0].1, None).is_empty());
    assert!(lane.take_all().is_empty() && lane.lane.lock().streams.is_empty());
}

#[test]
fn reading_ahead_ends_when_the_line_is_long_or_the_lane_is_shut() {
    let lane = Lane::new();
    lane.read_ahead(3, 1..4);
    let taken = lane.take_all();
    // Other connections came meanwhile, each for a different extent.
    for reader in 0..=LONG_LINE as u64 {
        lane.read_ahead(100 + reader, 100 + reader..101 + reader);
    }
    assert!(lane.lane.finish(&taken[0].1, None).is_empty());
    assert!(!lane.lane.lock().streams.contains_key(&3));
    assert_eq!(lane.lane.lock().extents.len(), LONG_LINE + 1, "theirs");

    let lane = Lane::new();
    lane.read_ahead(3, 1..4);
    let taken = lane.take_all();
    lane.lane.shut();
    assert!(lane.lane.finish(&taken[0].1, None).is_empty());
    assert!(lane.lane.take().is_none());
    let lines = lane.lane.lock();
    assert!(lines.streams.is_empty() && lines.extents.is_empty());
}

#[test]
fn what_is_read_ahead_of_a_transfer_that_ended_is_not_read() {
    let mut lane = Lane::new();
    lane.read_ahead(3, 1..4);
    let taken = lane.take_all();
    lane.read_ahead(4, 10..12);
    // One extent is being read, one in line; a connection waits for the latter.
    let key = ExtentKey::new(&lane.file, extent(10));
    let action = DiskAction::Read(extent(10), key);
    let peers = visit(&lane, lane.file.file_system.device(), action, 1);
    lane.transfer = Arc::default();
    assert!(lane.lane.finish(&taken[0].1, None).is_empty());
    let taken = lane.take_all();
    assert_eq!(numbers(&taken), [10]);
    assert_eq!(lane.lane.finish(&taken[0].1, None).len(), 1);
    assert!(lane.take_all().is_empty());
    drop(peers);

    lane.read_ahead(5, 20..24);
    lane.transfer = Arc::default();
    assert!(lane.take_all().is_empty());
    let lines = lane.lane.lock();
    assert!(lines.streams.is_empty() && lines.extents.is_empty() && lines.waiting.is_empty());
    assert_eq!((lines.free_workers, lines.running.len()), (8, 0));
}

#[test]
fn look_ups_wait_for_no_reads_and_one_worker_is_left_for_other_file_systems() {
    let lane = Lane::new();
    let kinds = [
        DiskAction::Send,
        DiskAction::LookUp,
        DiskAction::ProduceListing(None),
    ];
    let mut peers = Vec::new();
    for action in kinds {
        peers.extend(visit(&lane, 1, action, 64));
    }
    let take = || {
        let (job, ticket) = lane.lane.lock().next()?;
        match job {
            Job::Connection(_, action) => Some((action, ticket)),
            other => panic!("{other:?}"),
        }
    };
    let taken: Vec<_> = std::iter::from_fn(take).collect();
    for action in kinds {
        assert!(
            taken.iter().any(|(taken, _)| *taken == action),
            "{action:?}"
        );
    }
    assert!(taken.len() < 8, "of eight workers");
    peers.extend(visit(&lane, 2, DiskAction::Send, 1));
    let (other, ticket) = take().expect("one for another file system");
    assert_eq!((other, ticket.line.device), (DiskAction::Send, 2));
}

#[test]
fn a_waiting_scan_step_precedes_the_other_jobs_of_its_client() {
    let lane = Lane::new();
    let scan = ScanNumber(7);
    let action = DiskAction::ProduceListing(Some(scan));
    let mut peers = visit(&lane, 1, action, 4);
    let next = || lane.lane.lock().next();
    let (_first, ticket) = next().expect("a job");
    assert!(next().is_none(), "one at a time");
    peers.extend(visit(&lane, 1, DiskAction::ProduceListing(None), 3));
    let mut lines = lane.lane.lock();
    assert!(lines.finish(&ticket).is_empty());
    assert!(lines.go_on_with(scan, ticket.line));
    drop(lines);
    let Some((Job::Connection(_second, taken), ticket)) = next() else {
        panic!("no job");
    };
    assert_eq!(taken, action);
    peers.extend(visit(&lane, 1, action, 1));
    let back = lane.lane.finish(&ticket, None);
    assert_eq!(back.len(), 3, "who waited, and who came last");
    for _ in 0..3 {
        assert!(matches!(
            next(),
            Some((Job::Connection(_, DiskAction::ProduceListing(None)), _))
        ));
    }
    assert!(next().is_none());
}

#[test]
fn passwords_take_one_worker_in_eight_and_leave_the_others_to_disks() {
    let lane = Lane::new();
    let DiskJob {
        file_system,
        action,
    } = DiskJob::check_password(PastGuesses::None);
    let mut peers = visit(&lane, file_system, action, 64);
    peers.extend(visit(&lane, 1, DiskAction::Send, 1));
    peers.extend(visit(&lane, 1, DiskAction::LookUp, 1));
    let mut passwords = 0;
    let mut others = 0;
    let mut tickets = Vec::new();
    let next = || lane.lane.lock().next();
    while let Some((Job::Connection(_, action), ticket)) = next() {
        match action {
            DiskAction::CheckPassword(_) => passwords += 1,
            _ => others += 1,
        }
        tickets.push(ticket);
    }
    assert_eq!((passwords, others), (1, 2));
    // The next password has its turn once this one is done.
    for ticket in tickets {
        assert!(lane.lane.finish(&ticket, None).is_empty());
    }
    assert!(matches!(
        next(),
        Some((Job::Connection(_, DiskAction::CheckPassword(_)), _))
    ));
}

#[test]
fn passwords_of_clients_that_guessed_leave_every_other_turn_to_the_rest() {
    let lane = Lane::new();
    let mut peers = Vec::new();
    for (guesses, count) in [(PastGuesses::Wrong, 8), (PastGuesses::None, 2)] {
        let job = DiskJob::check_password(guesses);
        peers.extend(visit(&lane, job.file_system, job.action, count));
    }
    let mut order = Vec::new();
    loop {
        let next = lane.lane.lock().next();
        let Some((Job::Connection(_, DiskAction::CheckPassword(guesses)), ticket)) = next else {
            break;
        };
        assert!(lane.lane.lock().next().is_none(), "one at a time, of both");
        order.push(guesses == PastGuesses::None);
        assert!(lane.lane.finish(&ticket, None).is_empty());
    }
    assert_eq!(order.len(), 10);
    assert_eq!(order[..4], [false, true, false, true]);
}
