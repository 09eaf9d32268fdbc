//! Cold files: requests for bytes in memory do not wait for those that need a slow file system.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use haul::internals::{Residency, drop_behind, residency};
use haul::server::config::ConnectionLimits;
use haul::server::telemetry::CloseReason;

use crate::limits::connect_from;
use crate::slowfs::{Call, SlowFs, content, skip};
use crate::support::{Answer, Client, PATIENCE, TestServer, noise};

/// Two workers, four disk workers, and a cached file `hot`.
struct Fixture {
    // The file systems have to end before the server, so they are dropped first.
    slow: SlowFs,
    server: TestServer,
    hot: Vec<u8>,
}

impl Fixture {
    fn new() -> Option<Self> {
        let server = TestServer::with(|config| {
            config.disk_workers = NonZeroUsize::new(4).expect("4 is not 0");
        });
        let slow = SlowFs::mount(&server.root().join("slow"))?;
        let hot = noise(100_000, 7);
        server.put("hot", &hot);
        assert!(server.by_name("hot") == hot);
        Some(Self { slow, server, hot })
    }

    /// Asks for a file of its own on each of `count` connections.
    fn ask(&self, count: u64, name: impl Fn(u64) -> String) -> Vec<Client> {
        let ask = |number| {
            let mut client = self.server.connect();
            client.send(format!("{}\n", name(number)));
            client
        };
        (0..count).map(ask).collect()
    }

    /// Requests the cached file on new connections, and on a persistent one.
    #[track_caller]
    fn serves_the_cached_file(&self) {
        let mut kept = self.server.connect();
        for _ in 0..40 {
            assert!(self.server.by_name("hot") == self.hot);
            kept.send("GET /hot HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(kept.answer().body == self.hot);
        }
    }

    /// Asserts that no hot worker had to wait, and that every connection was completed.
    #[track_caller]
    fn ends_well(self) {
        let Self { slow, server, .. } = self;
        drop(slow);
        let counters = server.counters_when(|counters| counters.open == 0);
        assert_eq!(counters.hot_waits, 0);
        assert_eq!(counters.panics, 0);
        assert_eq!(
            counters.closed(CloseReason::Complete),
            counters.accepted,
            "{counters:#?}"
        );
    }
}

#[track_caller]
fn all_whole(clients: Vec<Client>, number: impl Fn(u64) -> u64) {
    for (at, mut client) in (0..).zip(clients) {
        assert!(client.rest() == content(number(at)), "file {at}");
    }
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn cold_readers_do_not_keep_those_of_a_cached_file_waiting() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.delay(Call::Read, Duration::from_millis(200));
    let mut cold = fixture.ask(64, |number| format!("slow/f{number}"));
    fixture.slow.wait_for(Call::Read, 2);
    fixture.serves_the_cached_file();
    cold.extend(fixture.ask(192, |number| format!("slow/f{}", 64 + number)));
    fixture.serves_the_cached_file();
    fixture.slow.delay(Call::Read, Duration::ZERO);
    all_whole(cold, |number| number);
    fixture.ends_well();
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn reads_that_hang_delay_no_request_for_another_file_system() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.hold(Call::Read);
    let dead = fixture.ask(40, |number| format!("slow/f{number}"));
    fixture.slow.wait_for(Call::Read, 2);
    fixture.serves_the_cached_file();
    // A name that was never looked up takes a disk worker, while others hang.
    for number in 0..8 {
        let name = format!("fresh/{number}");
        let fresh = noise(50_000, number);
        cool(&fixture.server.put(&name, &fresh));
        assert!(fixture.server.by_name(&name) == fresh);
    }
    fixture.slow.release(Call::Read);
    all_whole(dead, |number| number);
    fixture.ends_well();
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn look_ups_that_hang_delay_no_request_for_another_file_system() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.hold(Call::LookUp);
    // The look-ups hang together, although their directories differ.
    let dead = fixture.ask(40, |number| format!("slow/d{number}/f{number}"));
    fixture.slow.wait_for(Call::LookUp, 1);
    fixture.serves_the_cached_file();
    for number in 0..8 {
        let name = format!("fresh/{number}");
        fixture.server.put(&name, b"at hand");
        assert_eq!(fixture.server.by_name(&name), b"at hand");
    }
    fixture.slow.release(Call::LookUp);
    all_whole(dead, |number| number);
    fixture.ends_well();
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn opens_that_hang_delay_no_request_for_another_file_system() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.hold(Call::Open);
    let opening = fixture.ask(20, |number| format!("slow/f{number}"));
    fixture.slow.wait_for(Call::Open, 1);
    fixture.serves_the_cached_file();
    fixture.slow.release(Call::Open);
    all_whole(opening, |number| number);
    fixture.ends_well();
}

/// The server has a process of its own: children of this one would inherit the files, and hang in
/// their close before they execute another program.
#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn closes_that_hang_delay_no_request_for_another_file_system() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("hot"), b"at hand").expect("a file");
    let server = Program::serve(directory.path());
    let (Some(mut slow), Some(mut other)) = (
        SlowFs::mount(&directory.path().join("slow")),
        SlowFs::mount(&directory.path().join("other")),
    ) else {
        return;
    };
    slow.hold(Call::Close);
    for number in 0..40 {
        // The clients do not wait for the close of a sent file.
        assert!(server.fetch(&format!("slow/f{number}")) == content(number));
        assert_eq!(server.fetch("hot"), b"at hand");
    }
    slow.wait_for(Call::Close, 1);
    // The files of another file system are closed meanwhile.
    for number in 0..8 {
        assert!(server.fetch(&format!("other/f{number}")) == content(number));
    }
    other.wait_for(Call::Close, 8);
    slow.release(Call::Close);
    slow.wait_for(Call::Close, 40);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_client_that_takes_nothing_from_a_slow_file_system_is_closed_as_stalled() {
    let server = TestServer::with(|config| {
        config.deadlines.send_stall = Duration::from_millis(500);
    });
    let Some(slow) = SlowFs::mount(&server.root().join("slow")) else {
        return;
    };
    let mut client = Client::with_small_window(server.address());
    client.send("GET /slow/f1 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000));
    let counters = server.counters_when(|counters| counters.closed_in_all() == 1);
    assert_eq!(counters.closed(CloseReason::Stalled), 1, "{counters:#?}");
    // The connection did not alternate between hot and disk workers meanwhile.
    assert!(counters.disk_visits < 500, "{counters:#?}");
    drop(slow);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_flood_of_look_ups_does_not_go_before_a_client_that_was_sent_much() {
    let server = TestServer::with(|config| {
        config.disk_workers = NonZeroUsize::new(1).expect("1 is not 0");
    });
    let Some(mut slow) = SlowFs::mount(&server.root().join("slow")) else {
        return;
    };
    let large = noise(16 << 20, 1);
    server.put("large", &large);
    assert!(server.by_name("large") == large);
    slow.hold(Call::LookUp);
    let flood: Vec<_> = (0..200)
        .map(|number| {
            let mut client = connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address());
            client.send(format!("slow/missing{number}\n"));
            client
        })
        .collect();
    let before = server.counters_when(|counters| counters.disk_visits >= 200);
    let mut client = server.connect();
    client.send("slow/f1\n");
    server.counters_when(|counters| counters.disk_visits > before.disk_visits);
    slow.delay(Call::LookUp, Duration::from_millis(50));
    slow.release(Call::LookUp);
    assert!(client.rest() == content(1));
    let looked_up = slow.count(Call::LookUp);
    assert!(looked_up < 100, "{looked_up} look-ups came first");
    slow.delay(Call::LookUp, Duration::ZERO);
    drop(flood);
}

#[test]
#[cfg_attr(feature = "portable", ignore = "only Linux says what is in memory")]
fn the_residency_of_every_range_is_checked() {
    let server = TestServer::start();
    let path = server.put("cold", noise(8 << 20, 4));
    if !cool(&path) {
        skip("this file system keeps its files in memory");
        return;
    }
    let ranges = format!("Range: bytes={}-,0-99999\r\n", (8 << 20) - 100_000);
    assert!(once_in(10, || {
        cool(&path);
        let before = server.counters().extents_warmed;
        assert_eq!(server.get("/cold", &ranges).status, 206);
        server.counters().extents_warmed == before + 2
    }));
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn readers_of_one_cold_extent_cause_one_read() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.server.by_name("slow/f1") == content(1));
    let by_one = fixture.slow.count(Call::Read);
    fixture.slow.hold(Call::Read);
    let clients = fixture.ask(20, |_| "slow/f2".into());
    fixture
        .server
        .counters_when(|counters| counters.extents_shared == 19);
    fixture.slow.release(Call::Read);
    all_whole(clients, |_| 2);
    assert_eq!(fixture.slow.count(Call::Read), 2 * by_one);
    fixture.ends_well();
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_file_that_does_not_stay_in_memory_is_sent_whole() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.server.by_name("slow/x1") == content(1));
    fixture.slow.delay(Call::Read, Duration::from_millis(20));
    let clients = fixture.ask(16, |number| format!("slow/x{number}"));
    fixture.serves_the_cached_file();
    fixture.slow.delay(Call::Read, Duration::ZERO);
    all_whole(clients, |number| number);
    // Hot workers do not wait for such a file either, while disk workers hang in it.
    fixture.slow.hold(Call::Read);
    let before = fixture.slow.count(Call::Read);
    let clients = fixture.ask(16, |number| format!("slow/x{number}"));
    fixture.slow.wait_for(Call::Read, before + 1);
    fixture.serves_the_cached_file();
    fixture.slow.release(Call::Read);
    all_whole(clients, |number| number);
    fixture.ends_well();
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn requests_that_caches_can_answer_take_no_disk_worker() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.server.put("site/index.html", b"at hand");
    fixture.server.put("bare/file", b"at hand");
    let requests = [
        ("GET /site/", 200, ""),
        ("GET /site", 301, ""),
        ("HEAD /site/", 200, ""),
        ("HEAD /hot", 200, ""),
        ("GET /missing", 404, ""),
        ("GET /site/missing", 404, ""),
        ("GET /bare", 301, ""),
        ("GET /site/", 304, "If-None-Match: *\r\n"),
        ("GET /hot", 206, "Range: bytes=50000-99999\r\n"),
    ];
    let ask = |(request, status, fields): (&str, u16, &str)| {
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        let answer = Answer::parse(&fixture.server.exchange(&request));
        assert_eq!(answer.status, status, "{request}");
    };
    // Both hot workers get the requests.
    fixture.slow.hold(Call::Read);
    let cold = fixture.ask(40, |number| format!("slow/f{number}"));
    fixture.slow.wait_for(Call::Read, 2);
    for _ in 0..20 {
        requests.into_iter().for_each(ask);
    }
    let before = fixture.server.counters().disk_visits;
    requests.into_iter().for_each(ask);
    assert_eq!(fixture.server.counters().disk_visits, before);
    fixture.slow.release(Call::Read);
    all_whole(cold, |number| number);
    assert_eq!(fixture.server.counters().hot_waits, 0);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn look_ups_do_not_wait_for_reads_of_the_same_file_system() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.hold(Call::Read);
    let cold = fixture.ask(40, |number| format!("slow/f{number}"));
    fixture.slow.wait_for(Call::Read, 2);
    for number in 0..8 {
        let missing = format!("/slow/missing{number}");
        assert_eq!(fixture.server.get(&missing, "").status, 404);
    }
    fixture.slow.release(Call::Read);
    all_whole(cold, |number| number);
    assert_eq!(fixture.server.counters().hot_waits, 0);
}

#[test]
#[cfg_attr(feature = "portable", ignore = "only Linux says what is in memory")]
fn an_extent_with_some_pages_in_memory_is_not_taken_to_be_resident() {
    const LEN: u64 = 8 << 20;
    let server = TestServer::start();
    let content = noise(LEN as usize, 6);
    let path = server.put("cold", &content);
    if !cool(&path) {
        skip("this file system keeps its files in memory");
        return;
    }
    assert!(once_in(10, || {
        cool(&path);
        // A client can do the same by ranges of a byte, without read-ahead.
        let file = File::open(&path).expect("the file");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).expect("advice");
        for page in (0..LEN / 4096).filter(|page| page % 128 == 0 || page % 512 == 511) {
            file.read_at(&mut [0], page * 4096).expect("a page");
        }
        let mut extents = (0..LEN).step_by(2 << 20);
        let is_seen = extents.all(|at| residency(&file, at, 2 << 20) == Residency::Absent);
        assert!(server.by_name("cold") == content);
        is_seen
    }));
    assert_eq!(server.counters().hot_waits, 0);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_slow_layer_of_an_overlay_delays_no_reader_of_another_layer() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    let layers = tempfile::tempdir().expect("a directory");
    let lower = fixture.server.root().join("slow");
    let [upper, work] = ["upper", "work"].map(|name| layers.path().join(name));
    for directory in [&upper, &work] {
        fs::create_dir(directory).expect("a directory");
    }
    fs::write(upper.join("near"), &fixture.hot).expect("a file");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let Some(overlay) = Mount::new(&fixture.server.root().join("over"), "overlay", &options) else {
        return;
    };
    let near = |fixture: &Fixture| assert!(fixture.server.by_name("over/near") == fixture.hot);
    // Once both hot workers have it, neither look-ups nor reads take a disk worker.
    assert!(once_in(100, || {
        let before = fixture.server.counters();
        for _ in 0..20 {
            near(&fixture);
        }
        let after = fixture.server.counters();
        after.extents_warmed == before.extents_warmed && after.disk_visits == before.disk_visits
    }));
    for call in [Call::Read, Call::Open, Call::Attributes] {
        fixture.slow.hold(call);
        let so_far = fixture.slow.count(call);
        let first = 100 * call as u64;
        // The attributes of files named `t` are never cached.
        let kind = if call == Call::Attributes { 't' } else { 'f' };
        let clients = if call == Call::Read { 8 } else { 1 };
        let cold = fixture.ask(clients, |number| format!("over/{kind}{}", first + number));
        fixture.slow.wait_for(call, so_far + 1);
        for _ in 0..20 {
            near(&fixture);
        }
        fixture.serves_the_cached_file();
        fixture.slow.release(call);
        all_whole(cold, |number| first + number);
    }
    let counters = fixture.server.counters();
    assert_eq!(counters.hot_waits, 0);
    // A replaced file shows at once.
    fs::write(upper.join("near2"), b"another").expect("a file");
    fs::rename(overlay.path.join("near2"), overlay.path.join("near")).expect("renamed");
    assert_eq!(fixture.server.by_name("over/near"), b"another");
    drop(fixture);
    drop(overlay);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_removed_file_of_a_lower_layer_is_gone_at_once() {
    let server = TestServer::start();
    let layers = tempfile::tempdir().expect("a directory");
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| layers.path().join(name));
    for directory in [&lower, &upper, &work] {
        fs::create_dir(directory).expect("a directory");
    }
    for name in ["gone", "other"] {
        fs::write(lower.join(name), name).expect("a file");
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let Some(overlay) = Mount::new(&server.root().join("over"), "overlay", &options) else {
        return;
    };
    for _ in 0..10 {
        assert_eq!(server.by_name("over/gone"), b"gone");
    }
    fs::rename(overlay.path.join("other"), overlay.path.join("gone")).expect("renamed");
    assert_eq!(server.by_name("over/gone"), b"other");
    fs::remove_file(overlay.path.join("gone")).expect("removed");
    assert_eq!(server.get("/over/gone", "").status, 404);
    drop(server);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_file_system_with_the_number_of_an_earlier_one_is_not_taken_for_it() {
    let server = TestServer::start();
    let hot = noise(100_000, 7);
    server.put("hot", &hot);
    let place = server.root().join("place");
    // Other tests mount as well, and may be given the number.
    for _ in 0..10 {
        let Some(memory) = Mount::new(&place, "tmpfs", "size=1m") else {
            return;
        };
        fs::write(place.join("f1"), b"in memory").expect("a file");
        for _ in 0..10 {
            assert_eq!(server.by_name("place/f1"), b"in memory");
        }
        let number = fs::metadata(&place).expect("mounted").dev();
        memory.unmount();
        let Some(mut slow) = SlowFs::mount(&place) else {
            return;
        };
        if fs::metadata(&place).expect("mounted").dev() != number {
            continue;
        }
        slow.hold(Call::Read);
        let mut cold: Vec<_> = (1..9).map(|_| server.connect()).collect();
        for (number, client) in (1..).zip(&mut cold) {
            client.send(format!("place/f{number}\n"));
        }
        slow.wait_for(Call::Read, 1);
        for _ in 0..20 {
            assert!(server.by_name("hot") == hot);
        }
        slow.release(Call::Read);
        all_whole(cold, |at| at + 1);
        assert_eq!(server.counters().hot_waits, 0);
        return;
    }
    skip("no file system was given the number of the one before it");
}

#[test]
fn clients_that_left_are_closed_once_the_file_system_answers() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    fixture.slow.hold(Call::Read);
    drop(fixture.ask(40, |number| format!("slow/f{number}")));
    fixture.slow.wait_for(Call::Read, 2);
    fixture.slow.release(Call::Read);
    let counters = fixture
        .server
        .counters_when(|counters| counters.open == 0 && counters.accepted > 40);
    assert_eq!(counters.closed_in_all(), counters.accepted);
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn clients_that_leave_are_closed_while_the_file_system_hangs() {
    for one_file in [false, true] {
        let Some(mut fixture) = Fixture::new() else {
            return;
        };
        fixture.slow.hold(Call::Read);
        let leaving = fixture.ask(40, |number| match one_file {
            true => "slow/f7".to_owned(),
            false => format!("slow/f{number}"),
        });
        let staying = fixture.ask(1, |_| "slow/f99".to_owned());
        fixture.slow.wait_for(Call::Read, 1);
        leaving.into_iter().for_each(Client::reset);
        // Four have a disk worker that hangs, and one stays.
        let counters = fixture
            .server
            .counters_when(|counters| counters.accepted > 41 && counters.open <= 5);
        assert!(counters.swept >= 36, "{counters:#?}");
        fixture.serves_the_cached_file();
        fixture.slow.release(Call::Read);
        all_whole(staying, |_| 99);
        let counters = fixture.server.counters_when(|counters| counters.open == 0);
        assert_eq!((counters.hot_waits, counters.panics), (0, 0));
    }
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn a_file_system_that_hangs_holds_no_more_connections_than_are_left() {
    for call in [Call::LookUp, Call::Read] {
        let server = TestServer::with(|config| {
            config.limits = ConnectionLimits::for_connections(32);
        });
        let Some(mut slow) = SlowFs::mount(&server.root().join("slow")) else {
            return;
        };
        server.put("hot", "at hand");
        assert_eq!(server.by_name("hot"), b"at hand");
        slow.hold(call);
        let ask = |number| {
            let mut client = server.connect();
            client.send(format!(
                "GET /slow/f{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ));
            client
        };
        let mut waiting: Vec<_> = (0..31).map(ask).collect();
        server.counters_when(|counters| counters.closed(CloseReason::Overloaded) > 5);
        for _ in 0..10 {
            assert_eq!(server.by_name("hot"), b"at hand");
        }
        slow.release(call);
        let (mut whole, mut refused) = (0, 0);
        for (number, client) in (0..).zip(&mut waiting) {
            let answer = Answer::parse(&client.rest());
            match answer.status {
                200 => whole += u32::from(answer.body == content(number)),
                status => {
                    assert_eq!(status, 503);
                    assert!(answer.field("retry-after").is_some());
                    refused += 1;
                }
            }
        }
        assert_eq!(whole + refused, 31);
        assert!(whole >= 10, "{whole} whole, {refused} refused");
    }
}

#[test]
#[cfg_attr(
    feature = "portable",
    ignore = "only Linux says what is in memory, and what may hang"
)]
fn closes_that_hang_hold_few_files() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("hot"), b"at hand").expect("a file");
    let server = Program::serve(directory.path());
    let Some(mut slow) = SlowFs::mount(&directory.path().join("slow")) else {
        return;
    };
    slow.hold(Call::Close);
    let mut refused = 0;
    for number in 0..200 {
        let got = server.fetch(&format!("slow/f{number}"));
        match got.is_empty() {
            true => refused += 1,
            false => assert!(got == content(number)),
        }
        assert_eq!(server.fetch("hot"), b"at hand");
    }
    assert!((50..=100).contains(&refused), "{refused} refused");
    slow.release(Call::Close);
    slow.wait_for(Call::Close, 200 - refused);
    let begun = Instant::now();
    while server.fetch("slow/f1") != content(1) {
        assert!(begun.elapsed() < PATIENCE, "still refused");
    }
}

#[test]
fn a_file_that_is_not_in_memory_is_served_whole() {
    let server = TestServer::start();
    let content = noise(21 << 20, 3);
    let path = server.put("cold", &content);
    if !cool(&path) {
        skip("this file system keeps its files in memory");
        return;
    }
    assert!(server.by_name("cold") == content);
    let counters = server.counters();
    assert!(counters.extents_warmed > 0, "{counters:#?}");
    assert_eq!(counters.hot_waits, 0);
    // A second request finds all bytes in memory, and takes no disk worker.
    assert!(server.by_name("cold") == content);
    let again = server.counters();
    assert_eq!(again.extents_sent_cold, 0);
    assert_eq!(again.extents_warmed, counters.extents_warmed);
}

#[test]
fn readers_of_different_cold_files_get_them_whole() {
    let server = TestServer::start();
    let contents: Vec<_> = (0..8).map(|number| noise(5 << 20, number)).collect();
    for (number, content) in contents.iter().enumerate() {
        cool(&server.put(&format!("cold{number}"), content));
    }
    std::thread::scope(|scope| {
        for (number, content) in contents.iter().enumerate() {
            let server = &server;
            scope.spawn(move || assert!(&server.by_name(&format!("cold{number}")) == content));
        }
    });
}

#[test]
fn pages_are_dropped_behind_the_only_reader_if_asked_to() {
    let server =
        TestServer::with(|config| config.cache = haul::server::config::CacheChoice::DropBehind);
    let content = noise(32 << 20, 5);
    let path = server.put("once", &content);
    if !cool(&path) {
        skip("this file system keeps its files in memory");
        return;
    }
    let file = File::open(&path).expect("the file");
    assert!(once_in(10, || {
        cool(&path);
        assert!(server.by_name("once") == content);
        residency(&file, 0, 4096) == Residency::Absent
    }));
}

/// The pages of a file that was not in memory are dropped once they are hashed.
#[test]
fn pages_are_dropped_behind_the_hasher() {
    let server = TestServer::start();
    let content = noise(40 << 20, 6);
    let has_digest = || {
        let answer = Answer::parse(&server.exchange(
            "HEAD /hashed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Want-Repr-Digest: sha-256=5\r\n\r\n",
        ));
        assert_eq!(answer.status, 200);
        answer.field("Repr-Digest").is_some()
    };
    assert!(once_in(10, || {
        let path = server.put("hashed", &content);
        if !cool(&path) {
            skip("this file system keeps its files in memory");
            return true;
        }
        let begun = Instant::now();
        while !has_digest() {
            assert!(begun.elapsed() < PATIENCE, "never a digest");
            std::thread::sleep(Duration::from_millis(20));
        }
        let file = without_read_ahead(&path);
        let mut pages = (0..40 << 20).step_by(4096);
        pages.all(|page| residency(&file, page, 1) != Residency::Resident)
    }));
}

#[test]
fn pages_stay_for_another_reader_that_opened_the_file_before_it_changed() {
    let server =
        TestServer::with(|config| config.cache = haul::server::config::CacheChoice::DropBehind);
    let content = noise(32 << 20, 5);
    let path = server.put("twice", &content);
    if !cool(&path) {
        skip("this file system keeps its files in memory");
        return;
    }
    let mut first = Client::with_small_window(server.address());
    first.send("twice\n");
    server.wait_until_under_way();
    // The change of the inode makes the next request open the file anew.
    let mut mode = fs::metadata(&path).expect("the file").permissions();
    mode.set_mode(0o600);
    fs::set_permissions(&path, mode).expect("a change of the inode");
    cool(&path);
    assert!(server.by_name("twice") == content);
    let file = File::open(&path).expect("the file");
    assert_eq!(residency(&file, 0, 4096), Residency::Resident);
}

#[test]
fn the_number_of_threads_stays_the_same_while_reads_hang() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("hot"), b"at hand").expect("a file");
    let server = Program::serve(directory.path());
    let Some(mut slow) = SlowFs::mount(&directory.path().join("slow")) else {
        return;
    };
    assert_eq!(server.fetch("hot"), b"at hand");
    let threads = server.threads();
    slow.hold(Call::Read);
    let mut waiting = Vec::new();
    for number in 0..256 {
        let mut client = Client::connect(server.address);
        client.send(format!("slow/f{number}\n"));
        waiting.push(client);
    }
    slow.wait_for(Call::Read, 2);
    for _ in 0..20 {
        assert_eq!(server.fetch("hot"), b"at hand");
        assert_eq!(server.threads(), threads);
    }
    slow.release(Call::Read);
    all_whole(waiting, |number| number);
    assert_eq!(server.threads(), threads);
}

/// `haul serve` in a process of its own. Its file systems must end before it: a process that waits
/// for one cannot be killed.
struct Program {
    process: Child,
    address: SocketAddr,
}

impl Program {
    fn serve(root: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_haul"))
            .args(["serve", "--workers", "2", "--disk-workers", "4"])
            .args(["--log", "off", "--listen", "127.0.0.1:0", "--root"])
            .arg(root)
            .stderr(Stdio::piped())
            .spawn()
            .expect("haul runs");
        let mut said = String::new();
        let mut errors = process.stderr.take().expect("piped");
        let address = loop {
            let mut byte = [0];
            assert_eq!(errors.read(&mut byte).expect("a pipe"), 1, "said {said:?}");
            said.push(char::from(byte[0]));
            if let Some(address) = said
                .strip_suffix('\n')
                .and_then(|said| said.rsplit_once("listening on "))
            {
                break address.1.parse().expect("an address");
            }
        };
        // The pipe is not read any more, but stays open.
        process.stderr = Some(errors);
        Self { process, address }
    }

    fn fetch(&self, name: &str) -> Vec<u8> {
        let mut client = Client::connect(self.address);
        client.send(format!("{name}\n"));
        client.rest()
    }

    fn threads(&self) -> usize {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.process.id()));
        fs::read_dir(tasks).expect("Linux's /proc").count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file system that the test mounts. Dropping it unmounts it, lazily.
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts at a path that is made for it; `None`, with a note, where that cannot be done.
    pub fn new(path: &Path, kind: &str, options: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a place to mount");
        let mount = Command::new("mount")
            .args(["-t", kind, "-o", options, kind])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            skip(&format!("{kind} cannot be mounted here"));
            return None;
        }
        let path = path.to_owned();
        Some(Self { path })
    }

    /// Unmounts it at once, when no process has a file of it open any more.
    #[track_caller]
    fn unmount(self) {
        let begun = Instant::now();
        let unmount = || {
            let mut command = Command::new("umount");
            command.arg(&self.path).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        while !unmount() {
            assert!(begun.elapsed() < PATIENCE, "it cannot be unmounted");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Whether one of the attempts succeeds: the kernel may keep a page that is being written or was
/// just requested.
fn once_in(attempts: u32, mut attempt: impl FnMut() -> bool) -> bool {
    (0..attempts).any(|_| attempt())
}

/// A file whose pages can be looked up without the read-ahead that Linux 6.18 begins at each.
fn without_read_ahead(path: &Path) -> File {
    let file = File::open(path).expect("the file");
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).expect("advice");
    file
}

/// Takes a file out of the page cache. Returns whether that worked.
fn cool(path: &Path) -> bool {
    let file = without_read_ahead(path);
    file.sync_all().expect("written to the disk");
    let len = file.metadata().expect("its length").len();
    let begun = Instant::now();
    // Pages under write-back for another reason stay for a moment.
    while begun.elapsed() < PATIENCE / 20 {
        drop_behind(&file, 0, len);
        let mut pages = (0..len).step_by(1 << 20);
        if pages.all(|page| residency(&file, page, 1) == Residency::Absent) {
            drop_behind(&file, 0, len);
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
