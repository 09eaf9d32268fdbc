//! The steps of a response, one by one: parse, range, plan, resolve, transmit, and a whole round
//! trip through the ring.
//!
//! `cargo bench --bench micro`

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haul::internals::Blocking;
use haul::internals::IoBuffers;
use haul::internals::OpenFileCache;
use haul::internals::limit_unsent;
use haul::internals::{DigestAnswer, Negotiation, Now, Subject, resolve_range, to_file};
use haul::internals::{DotNames, Found, LookUp, Root};
use haul::internals::{Meta, Plan, RangeSpec, Segment, Target, Validators};
use haul::internals::{Parsed, parse_request};
use haul::internals::{Progress, RunContext, Transfer};
use haul::server::Server;
use haul::server::config::{HttpLimits, HttpPolicy};
use haul::server::config::{SendChoice, ServeConfig};
use haul::server::telemetry::access_log::Destination;

const REQUEST: &[u8] = b"GET /images/disk.img HTTP/1.1\r\nHost: files.example:7788\r\n\
    User-Agent: curl/8.5.0\r\nAccept: */*\r\nRange: bytes=1048576-2097151\r\n\r\n";

fn parse(criterion: &mut Criterion) {
    let limits = HttpLimits::default();
    criterion.bench_function("parse", |bencher| {
        bencher.iter(|| parse_request(black_box(REQUEST), 0, &limits));
    });
}

fn ranges(criterion: &mut Criterion) {
    let specs: Vec<_> = (0..64)
        .map(|number| RangeSpec::Between {
            first: number * 1000,
            last: number * 1000 + 500,
        })
        .collect();
    criterion.bench_function("range: 64 of them", |bencher| {
        bencher.iter(|| resolve_range(black_box(&specs), 1 << 40));
    });
}

fn plan(criterion: &mut Criterion) {
    let Parsed::Complete { request, .. } = parse_request(REQUEST, 0, &HttpLimits::default()) else {
        panic!("the request is whole");
    };
    let meta = Meta {
        device: 1,
        inode: 2,
        len: 1 << 30,
        ..Meta::default()
    };
    let policy = HttpPolicy::default();
    let validators = Validators::of(&meta, policy.etag, true, &Now::current());
    let subject = Subject {
        meta: &meta,
        validators: &validators,
        path: b"images/disk.img",
        coding: None,
        media_type: None,
        digests: DigestAnswer::None,
        selection: Negotiation::None,
    };
    criterion.bench_function("plan", |bencher| {
        bencher.iter(|| to_file(black_box(&request), &subject, &policy, &Now::current()));
    });
}

fn resolve(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("file"), b"content").expect("a file");
    let (closer, _closing) = crossbeam_channel::unbounded();
    let root = Root::open(directory.path(), &[], DotNames::Hidden, closer).expect("the root");
    let target = Target {
        path: b"file".to_vec(),
        trailing_slash: false,
    };
    let LookUp::Found(Found::File(file)) = root.look_up(&target, Blocking::Allowed) else {
        panic!("the file is there");
    };
    criterion.bench_function("resolve: open", |bencher| {
        bencher.iter(|| root.look_up(black_box(&target), Blocking::Forbidden));
    });
    let mut names = OpenFileCache::of_one_of(NonZeroUsize::MIN);
    criterion.bench_function("resolve: still open", |bencher| {
        bencher.iter(|| {
            // A look-up is trusted for a second; the bench runs for longer.
            let now = Instant::now();
            if names
                .find(b"file", now, |file, _| file.is_unchanged().unwrap_or(false))
                .is_none()
            {
                names.remember(b"file", &file, now);
            }
        });
    });
}

fn transmit(criterion: &mut Criterion) {
    const LEN: u64 = 64 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("file"), vec![7; LEN as usize]).expect("a file");
    let (closer, _closing) = crossbeam_channel::unbounded();
    let root = Root::open(directory.path(), &[], DotNames::Hidden, closer).expect("the root");
    let target = Target {
        path: b"file".to_vec(),
        trailing_slash: false,
    };
    let LookUp::Found(Found::File(file)) = root.look_up(&target, Blocking::Allowed) else {
        panic!("the file is there");
    };
    let (sink, drain) = connected();
    // As the server has it for a lone reader on its own host.
    limit_unsent(&sink, 16 << 10).expect("a socket");
    std::thread::spawn(move || std::io::copy(&mut &drain, &mut std::io::sink()));
    let mut tools = IoBuffers::with_pipe();
    let mut group = criterion.benchmark_group("transmit");
    group.throughput(Throughput::Bytes(LEN));
    for (name, choice) in [("sendfile", SendChoice::Auto), ("copy", SendChoice::Copy)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let plan = Plan {
                    segments: [Segment::File {
                        offset: 0,
                        len: LEN,
                    }]
                    .into(),
                };
                let mut transfer = Transfer::new(plan, Some(file.clone()), choice);
                let mut context = RunContext {
                    budget: LEN,
                    blocking: Blocking::Forbidden,
                    now: Instant::now(),
                    tools: &mut tools,
                };
                while !matches!(transfer.run(&mut &sink, &mut context).1, Progress::Done) {}
            });
        });
    }
}

/// One small request and its response over a kept connection: the whole of the ring.
fn hop(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("file"), b"content").expect("a file");
    let server = Server::bind(ServeConfig {
        root: directory.path().to_owned(),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        workers: NonZeroUsize::MIN,
        access_log: Destination::Nowhere,
        ..ServeConfig::default()
    })
    .expect("the server binds");
    let mut client = TcpStream::connect(server.local_addrs()[0]).expect("the server listens");
    let handle = server.handle();
    let running = std::thread::spawn(move || server.run());
    let mut buffer = [0; 4096];
    criterion.bench_function("hop", |bencher| {
        bencher.iter(|| {
            client
                .write_all(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
                .expect("it takes it");
            let mut len = 0;
            while !buffer[..len].ends_with(b"content") {
                len += client.read(&mut buffer[len..]).expect("it answers");
            }
        });
    });
    handle.shut_down();
    drop(client);
    let _ = running.join();
}

/// Two ends of a TCP connection.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (far, _) = listener.accept().expect("accepts");
    (near, far)
}

criterion_group!(steps, parse, ranges, plan, resolve, transmit, hop);
criterion_main!(steps);
