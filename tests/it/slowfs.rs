//! A slow file system: FUSE in a separate process, with delays that a test controls.
//!
//! The process is this very test binary, run for [`file_system_process`] alone. It must not be
//! the test's process: a thread that waits for a file system of its own process cannot be killed.
//! When the process ends, for whatever reason, the kernel fails all that wait for it; and it ends
//! when told to, when the test that started it is gone, and after [`LIFETIME`] in any case.
//!
//! Every file is [`FILE_BYTES`] long and is made of [`content`]. `f0`, `f1`, ... are in the root
//! and in the directories `d0`, `d1`, ...; `x0`, `x1`, ... are files whose bytes never stay in the
//! page cache (`FOPEN_DIRECT_IO`), and of `t0`, `t1`, ... the kernel remembers neither names nor
//! attributes. A directory says that it holds `f0` to `f9`, whatever else it has.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, Request,
};

/// Length of every file.
const FILE_BYTES: usize = 256 << 10;

/// What a file system can be slow at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    LookUp = 0,
    Open = 1,
    Read = 2,
    Close = 3,
    /// Those of `t0`, `t1`, ...; the kernel remembers all others.
    Attributes = 4,
    /// Reading a directory.
    List = 5,
}

/// The bytes of the file with that number.
pub fn content(number: u64) -> Vec<u8> {
    super::support::noise(FILE_BYTES, number)
}

/// A mounted slow file system. Dropping it ends its process and with it every wait.
pub struct SlowFs {
    process: Child,
    control: BufReader<UnixStream>,
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

impl SlowFs {
    /// Mounts one at a path that is made for it. `None`, after saying so, where that cannot be done.
    pub fn mount(mount: &Path) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            skip("there is no /dev/fuse");
            return None;
        }
        std::fs::create_dir_all(mount).expect("a place to mount");
        let directory = tempfile::tempdir().expect("a place for the socket");
        let socket = directory.path().join("control");
        let listener = UnixListener::bind(&socket).expect("a control socket");
        listener.set_nonblocking(true).expect("a listener");
        let binary = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(binary)
            .args(["--ignored", "--exact", PROCESS_TEST, "--nocapture"])
            .env(MOUNT_VARIABLE, mount)
            .env(SOCKET_VARIABLE, &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program runs");
        let Some(stream) = accept(&listener, &mut process) else {
            let _ = process.kill();
            let _ = process.wait();
            skip("the process of the file system does not start");
            return None;
        };
        let mut slow = Self {
            process,
            control: BufReader::new(stream),
            mount: mount.to_owned(),
            _directory: directory,
        };
        let answer = slow.answer();
        if answer != "mounted" {
            skip(&answer);
            return None;
        }
        Some(slow)
    }

    /// Has every such call take so long from now on.
    pub fn delay(&mut self, call: Call, by: Duration) {
        self.ask(&format!("delay {} {}", call as usize, by.as_millis()));
    }

    /// Has such calls wait until [`Self::release`].
    pub fn hold(&mut self, call: Call) {
        self.ask(&format!("hold {}", call as usize));
    }

    /// Lets all go that wait, and those to come.
    pub fn release(&mut self, call: Call) {
        self.ask(&format!("release {}", call as usize));
    }

    /// How many such calls came so far, answered or not.
    pub fn count(&mut self, call: Call) -> u64 {
        self.ask(&format!("count {}", call as usize))
            .parse()
            .expect("a number")
    }

    /// Waits until so many such calls have come.
    #[track_caller]
    pub fn wait_for(&mut self, call: Call, count: u64) {
        let begun = Instant::now();
        while self.count(call) < count {
            assert!(
                begun.elapsed() < super::support::PATIENCE,
                "{call:?} came {} times, not {count}",
                self.count(call)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.control.get_mut(), "{question}").expect("the file system's process lives");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.control
            .read_line(&mut line)
            .expect("the file system's process answers");
        line.trim_end().to_owned()
    }
}

impl Drop for SlowFs {
    fn drop(&mut self) {
        // The kernel fails waiting calls as soon as the device is closed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

/// Says that a test was skipped, past the capture of its output.
pub fn skip(why: &str) {
    let test = std::thread::current();
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {}: {why}",
        test.name().unwrap_or("a test")
    );
}

fn accept(listener: &UnixListener, process: &mut Child) -> Option<UnixStream> {
    let begun = Instant::now();
    while begun.elapsed() < super::support::PATIENCE {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a stream");
            stream
                .set_read_timeout(Some(super::support::PATIENCE))
                .expect("a time-out");
            return Some(stream);
        }
        if process.try_wait().ok().flatten().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Not a test: the process that [`SlowFs::mount`] starts.
#[test]
#[ignore = "the process of the slow file system, started by the tests that need one"]
fn file_system_process() {
    let (Some(mount), Some(socket)) = (
        std::env::var_os(MOUNT_VARIABLE),
        std::env::var_os(SOCKET_VARIABLE),
    ) else {
        return;
    };
    std::thread::spawn(|| {
        std::thread::sleep(LIFETIME);
        std::process::exit(1);
    });
    let control = UnixStream::connect(socket).expect("the test listens");
    let gates = Arc::new(Gates::default());
    let files = Files {
        gates: Arc::clone(&gates),
        contents: Mutex::default(),
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("haul-slow".into())];
    let session = fuser::spawn_mount(files, Path::new(&mount), &config);
    let mut answers = control.try_clone().expect("a descriptor");
    match &session {
        Ok(_) => writeln!(answers, "mounted").expect("the test reads"),
        Err(error) => {
            let _ = writeln!(answers, "cannot mount a FUSE file system: {error}");
            return;
        }
    }
    for line in BufReader::new(control).lines() {
        let Ok(line) = line else { break };
        let answer = gates.follow(&line);
        if writeln!(answers, "{answer}").is_err() {
            break;
        }
    }
    // Without a goodbye to the kernel: calls may be waiting for us.
    std::process::exit(0);
}

/// What each call waits for.
#[derive(Default)]
struct Gates {
    gates: [Gate; 6],
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Default)]
struct GateState {
    delay: Duration,
    held: bool,
    count: u64,
}

impl Gates {
    fn follow(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let verb = words.next().expect("a verb");
        let gate: usize = words.next().expect("a call").parse().expect("a number");
        let gate = &self.gates[gate];
        let mut state = gate.state.lock().expect("no panic");
        match verb {
            "delay" => {
                let millis = words.next().expect("a time").parse().expect("a number");
                state.delay = Duration::from_millis(millis);
            }
            "hold" => state.held = true,
            "release" => state.held = false,
            "count" => {}
            other => panic!("no verb: {other}"),
        }
        gate.moved.notify_all();
        state.count.to_string()
    }

    /// Runs `reply` once the gate is open; on a new thread if that takes time.
    fn pass(self: &Arc<Self>, call: Call, reply: impl FnOnce() + Send + 'static) {
        let gate = &self.gates[call as usize];
        let mut state = gate.state.lock().expect("no panic");
        state.count += 1;
        if !state.held && state.delay.is_zero() {
            drop(state);
            return reply();
        }
        drop(state);
        let gates = Arc::clone(self);
        std::thread::spawn(move || {
            let gate = &gates.gates[call as usize];
            let begun = Instant::now();
            let mut state = gate.state.lock().expect("no panic");
            // A shortened delay counts for calls that already wait.
            while state.held || begun.elapsed() < state.delay {
                let left = match state.held {
                    true => LIFETIME,
                    false => state.delay.saturating_sub(begun.elapsed()),
                };
                state = gate.moved.wait_timeout(state, left).expect("no panic").0;
            }
            drop(state);
            reply();
        });
    }
}

struct Files {
    gates: Arc<Gates>,
    contents: Mutex<std::collections::HashMap<u64, Arc<Vec<u8>>>>,
}

impl Files {
    fn content(&self, inode: u64) -> Arc<Vec<u8>> {
        let mut contents = self.contents.lock().expect("no panic");
        let number = inode % PER_DIRECTORY - FIRST;
        Arc::clone(
            contents
                .entry(number)
                .or_insert_with(|| Arc::new(content(number))),
        )
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let attributes = inode_of(u64::from(parent), name).map(attributes_of);
        self.gates.pass(Call::LookUp, move || match attributes {
            Some(attributes) => {
                let time_to_live = time_to_live(attributes.ino.into());
                reply.entry(&time_to_live, &attributes, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = attributes_of(u64::from(inode));
        self.gates.pass(Call::Attributes, move || {
            reply.attr(&time_to_live(u64::from(inode)), &attributes);
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = match is_direct(u64::from(inode)) {
            true => FopenFlags::FOPEN_DIRECT_IO,
            false => FopenFlags::FOPEN_KEEP_CACHE,
        };
        self.gates
            .pass(Call::Open, move || reply.opened(FileHandle(0), flags));
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = self.content(u64::from(inode) % DIRECT);
        self.gates.pass(Call::Read, move || {
            let from = (offset as usize).min(content.len());
            let until = (from + size as usize).min(content.len());
            reply.data(&content[from..until]);
        });
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.gates.pass(Call::List, move || {
            for number in offset..LISTED {
                let name = format!("f{number}");
                let child = inode_of(inode.into(), OsStr::new(&name)).expect("a name");
                if reply.add(INodeNo(child), number + 1, FileType::RegularFile, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.gates.pass(Call::Close, move || reply.ok());
    }
}

/// `d0`, `d1`, ... in the root; `f0`, `f1`, ... and `x0`, `x1`, ... everywhere.
fn inode_of(parent: u64, name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let number: u64 = name.get(1..)?.parse().ok()?;
    let directory = if parent == ROOT { 0 } else { parent };
    match name.as_bytes()[0] {
        b'd' if parent == ROOT => Some((number + 1) * PER_DIRECTORY),
        b'f' => Some(directory + number + FIRST),
        b'x' => Some(DIRECT + directory + number + FIRST),
        b't' => Some(UNCACHED + directory + number + FIRST),
        _ => None,
    }
}

fn is_direct(inode: u64) -> bool {
    inode & DIRECT != 0
}

/// How long the kernel may remember a name and its attributes.
fn time_to_live(inode: u64) -> Duration {
    match inode & UNCACHED {
        0 => CACHED,
        _ => Duration::ZERO,
    }
}

fn attributes_of(inode: u64) -> FileAttr {
    let is_directory = inode == ROOT || inode.is_multiple_of(PER_DIRECTORY);
    let (kind, perm, size) = match is_directory {
        true => (FileType::Directory, 0o755, 0),
        false => (FileType::RegularFile, 0o644, FILE_BYTES as u64),
    };
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size / 512,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

const ROOT: u64 = 1;
/// The number of the first file's inode in its directory.
const FIRST: u64 = 2;
/// How many names a directory says that it has.
const LISTED: u64 = 10;
const PER_DIRECTORY: u64 = 1 << 20;
const DIRECT: u64 = 1 << 40;
const UNCACHED: u64 = 1 << 41;

/// Longer than any test takes.
const CACHED: Duration = Duration::from_secs(3600);

/// The process ends after so long, whatever happens.
const LIFETIME: Duration = Duration::from_secs(180);

const PROCESS_TEST: &str = "slowfs::file_system_process";
const MOUNT_VARIABLE: &str = "HAUL_TEST_SLOWFS_MOUNT";
const SOCKET_VARIABLE: &str = "HAUL_TEST_SLOWFS_SOCKET";
