//! Links, directories and the root itself are exchanged during look-ups: no response is from
//! outside the root.
//!
//! `HAUL_RACE_LOOK_UPS` sets the number of look-ups; a million, with the results:
//! `HAUL_RACE_LOOK_UPS=1000000 cargo test --release --test it races -- --nocapture`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat, renameat_with, symlinkat};
use sha2::Digest;

use crate::old_kernels::filter;
use crate::process::{Program, haul};
use crate::support::{PATIENCE, own_address, wait_for_tick};

#[test]
fn nothing_from_outside_is_answered_however_links_and_directories_race() {
    race(&[]);
}

#[test]
fn nothing_from_outside_is_answered_where_the_kernel_has_no_openat2() {
    race(&[libc::SYS_openat2]);
}

fn race(refused: &[libc::c_long]) {
    let place = Place::new();
    let mut command = haul();
    command.args(["serve", "--listen", &own_address().to_string(), "--log=off"]);
    command.arg("--root").arg(&place.root);
    filter(&mut command, refused, libc::ENOSYS);
    let mut server = Program::start(&mut command);
    let address = server.address();
    let look_ups = std::env::var("HAUL_RACE_LOOK_UPS");
    let look_ups = look_ups.map_or(FEW, |number| number.parse().expect("a number"));

    let ended = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let races: [fn(&Place, &File); 3] = [Place::exchange, Place::switch, Place::move_root];
        for race in races {
            let (place, ended) = (&place, &ended);
            let root = File::open(&place.root).expect("a directory");
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    race(place, &root);
                }
            });
        }
        let clients = [0, 1].map(|seed| {
            let place = &place;
            scope.spawn(move || client(place, address, seed, look_ups / 2))
        });
        let seen = clients.map(std::thread::ScopedJoinHandle::join);
        ended.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in seen {
            all.add(seen.expect("nothing from outside"));
        }
        all
    });
    println!("without {refused:?}: {seen:?}");
    assert!(seen.answers.contains_key(&200) && seen.by_name > 0);
    if look_ups >= MANY {
        assert!(seen.leaks_of_a_check > 0, "there was no race");
    }
}

/// The look-ups, and what came of them.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeMap<u16, u64>,
    /// Files that came by name, and names to which nothing came.
    by_name: u64,
    nothing_by_name: u64,
    /// The times that a path was found to lie beneath the root, and led outside when it was opened.
    leaks_of_a_check: u64,
    checks: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        for (status, answers) in other.answers {
            *self.answers.entry(status).or_default() += answers;
        }
        self.by_name += other.by_name;
        self.nothing_by_name += other.nothing_by_name;
        self.leaks_of_a_check += other.leaks_of_a_check;
        self.checks += other.checks;
    }
}

/// What is served, and what lies beside it.
struct Place {
    _directory: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    /// Bytes that only answers from outside hold.
    secrets: Vec<Vec<u8>>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let (root, outside) = (path("root"), path("outside"));
        let secret = format!("{SECRET}{}", "s".repeat(SECRET_BYTES - SECRET.len()));
        for root in [&root, &path("twin")] {
            for name in ["", "d", "x", "a", "a/b"] {
                let inside = root.join(name);
                fs::create_dir_all(&inside).expect("directories");
                put_files(&inside, INSIDE);
            }
            fs::write(root.join("d/index.html"), INSIDE).expect("a file");
            fs::write(root.join("file"), INSIDE).expect("a file");
            for (to, name) in [
                ("../outside".as_ref(), "x-other"),
                ("../outside/f1".as_ref(), "file-other"),
                ("d".as_ref(), "link"),
                // Where `..` leads depends on where the directory lies.
                ("a/b/../../f1".as_ref(), "up"),
                ("a/b/../f1".as_ref(), "up-once"),
                (outside.as_path(), "out"),
            ] {
                symlink(to, root.join(name)).expect("a link");
            }
        }
        for outside in [&outside, &outside.join("sub"), &directory.path().to_owned()] {
            fs::create_dir_all(outside).expect("directories");
            put_files(outside, &secret);
            fs::write(outside.join("outside-only"), &secret).expect("a file");
        }
        fs::write(outside.join("index.html"), &secret).expect("a file");
        wait_for_tick(&outside.join("index.html"));
        let digest = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(&secret));
        let secrets = vec![
            SECRET.into(),
            b"outside-only".to_vec(),
            digest.into(),
            blake3::hash(secret.as_bytes()).as_bytes().to_vec(),
            format!("ength: {SECRET_BYTES}").into(),
            format!("/{SECRET_BYTES}").into(),
        ];
        Self {
            root,
            outside,
            _directory: directory,
            secrets,
        }
    }

    /// A directory and a file trade places with links that lead out.
    fn exchange(&self, root: &File) {
        for (name, other) in [("x", "x-other"), ("file", "file-other")] {
            renameat_with(root, name, root, other, RenameFlags::EXCHANGE).expect("exchanged");
        }
    }

    /// A link is switched, and a directory that links pass through moves out and back.
    fn switch(&self, root: &File) {
        let moved = self.outside.join("moved");
        let out: [&Path; 3] = ["../outside".as_ref(), &self.outside, "out/sub".as_ref()];
        for to in out {
            for to in [to, "d".as_ref()] {
                symlinkat(to, root, "link-new").expect("a link");
                renameat(root, "link-new", root, "link").expect("switched");
            }
            renameat(root, "a/b", CWD, &moved).expect("moved out");
            renameat(CWD, &moved, root, "a/b").expect("moved back");
        }
    }

    /// The root moves away and back, and is another one for a moment.
    fn move_root(&self, _: &File) {
        let (away, twin) = (self.outside.join("root"), self.root.with_file_name("twin"));
        for _ in 0..100 {
            fs::rename(&self.root, &away).expect("moved");
            fs::rename(&away, &self.root).expect("moved back");
            std::thread::yield_now();
        }
        for _ in 0..2 {
            let exchange = RenameFlags::EXCHANGE;
            renameat_with(CWD, &self.root, CWD, &twin, exchange).expect("exchanged");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Whether a path that was checked first led out when it was opened: the race that the server
    /// avoids.
    fn leaks(&self, target: &str) -> bool {
        let path = self.root.join(target);
        let real = path.canonicalize();
        let is_beneath = real.is_ok_and(|real| real.starts_with(&self.root));
        is_beneath && fs::read(path).is_ok_and(|content| content.starts_with(SECRET.as_bytes()))
    }

    #[track_caller]
    fn check(&self, target: &str, answer: &[u8]) {
        for secret in &self.secrets {
            let leaks = memchr::memmem::find(answer, secret);
            assert_eq!(leaks, None, "{target}: {}", String::from_utf8_lossy(answer));
        }
    }
}

fn put_files(directory: &Path, content: &str) {
    for number in 0..FILES {
        fs::write(directory.join(format!("f{number}")), content).expect("a file");
    }
}

fn client(place: &Place, address: SocketAddr, seed: u64, look_ups: usize) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen = Seen::default();
    let mut stream = connect(address);
    for number in 0..look_ups.div_ceil(BATCH) {
        if number.is_multiple_of(BATCHES_OF_CONNECTION) {
            stream = connect(address);
        }
        let targets: Vec<_> = (0..BATCH - 1).map(|_| target(&mut random)).collect();
        let mut requests = String::new();
        for (target, field) in &targets {
            requests += &format!("GET /{target} HTTP/1.1\r\nHost: x\r\n{field}\r\n");
        }
        stream
            .get_mut()
            .write_all(requests.as_bytes())
            .expect("sent");
        for (target, _) in &targets {
            let (status, answer) = read_answer(&mut stream);
            *seen.answers.entry(status).or_default() += 1;
            place.check(target, &answer);
            // A list of blocks takes a while.
            assert!(
                status < 500 || target.ends_with("?blocks"),
                "{target}: {status}"
            );
        }
        let name = NAMES[random.usize(..NAMES.len())].replace('#', &random.u8(..FILES).to_string());
        let mut content = Vec::new();
        let mut by_name = connect(address);
        by_name
            .get_mut()
            .write_all(format!("{name}\n").as_bytes())
            .expect("sent");
        // A name that leads nowhere ends in a reset.
        match by_name.read_to_end(&mut content) {
            Ok(1..) => seen.by_name += 1,
            _ => seen.nothing_by_name += 1,
        }
        place.check(&name, &content);
        seen.checks += 1;
        seen.leaks_of_a_check += u64::from(place.leaks(&name));
    }
    seen
}

/// A target, and fields for it.
fn target(random: &mut fastrand::Rng) -> (String, &'static str) {
    let name = TARGETS[random.usize(..TARGETS.len())].replace('#', &random.u8(..FILES).to_string());
    let field = [
        "",
        "",
        "Want-Repr-Digest: sha-256=1\r\n",
        "Range: bytes=1-3\r\n",
    ];
    (name, field[random.usize(..field.len())])
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    BufReader::new(stream)
}

/// A response's status, and all of its bytes.
fn read_answer(stream: &mut BufReader<TcpStream>) -> (u16, Vec<u8>) {
    let mut bytes = Vec::new();
    let line = |stream: &mut BufReader<TcpStream>, bytes: &mut Vec<u8>| {
        let begin = bytes.len();
        stream.read_until(b'\n', bytes).expect("a line");
        String::from_utf8_lossy(&bytes[begin..])
            .trim_end()
            .to_lowercase()
    };
    let status = line(stream, &mut bytes);
    let status = status.get(9..12).and_then(|status| status.parse().ok());
    let (mut len, mut is_chunked) = (0, false);
    loop {
        let field = line(stream, &mut bytes);
        if field.is_empty() {
            break;
        }
        is_chunked |= field == "transfer-encoding: chunked";
        if let Some(value) = field.strip_prefix("content-length: ") {
            len = value.parse().expect("a length");
        }
    }
    loop {
        if is_chunked {
            len = usize::from_str_radix(&line(stream, &mut bytes), 16).expect("a length");
        }
        let begin = bytes.len();
        bytes.resize(begin + len, 0);
        stream.read_exact(&mut bytes[begin..]).expect("a body");
        if !is_chunked {
            break;
        }
        line(stream, &mut bytes);
        if len == 0 {
            break;
        }
    }
    (status.expect("a status"), bytes)
}

/// Targets of HTTP; `#` is a number.
const TARGETS: [&str; 22] = [
    "x/f#",
    "x/f#",
    "x/f#?blocks",
    "x",
    "x/",
    "x/?format=json",
    "x/outside-only",
    "link/f#",
    "link/f#",
    "link",
    "link/",
    "link/?format=json",
    "link/sub/f#",
    "file",
    "file?blocks",
    "up",
    "up-once",
    "a/b/f#",
    "out/f#",
    "f#",
    "d/",
    "?format=json",
];

/// Names of the bare-name protocol.
const NAMES: [&str; 6] = ["x/f#", "link/f#", "file", "up", "up-once", "f#"];

const INSIDE: &str = "inside";
const SECRET: &str = "SECRET";
const SECRET_BYTES: usize = 77_777;
/// Files of a directory: enough that none stays in the cache of look-ups.
const FILES: u8 = 64;
/// Look-ups in a row, the last of them by name.
const BATCH: usize = 32;
/// The server closes a connection after 100,000 requests.
const BATCHES_OF_CONNECTION: usize = 1_000;
const FEW: usize = 4_000;
/// So many look-ups meet the race.
const MANY: usize = 100_000;
