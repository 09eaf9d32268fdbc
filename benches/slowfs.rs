//! A slow disk: a file system that holds a file of every name, and takes its time for each read.
//!
//! `cargo bench --bench slowfs -- MOUNTPOINT [MILLISECONDS]` mounts it until SIGTERM or SIGINT. It
//! needs root and `/dev/fuse`. Reads wait side by side, as on a disk far away, so that only those
//! who wait for a read are slowed down.

#![allow(clippy::print_stderr)]

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, Request, SessionACL,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mountpoint, milliseconds) = match words[..] {
        // Run with all other benches, it has nothing to do.
        [] => return ExitCode::SUCCESS,
        [mountpoint] => (mountpoint, Ok(200)),
        [mountpoint, milliseconds] => (mountpoint, milliseconds.parse()),
        _ => ("", "".parse()),
    };
    let Ok(milliseconds) = milliseconds else {
        eprintln!("usage: slowfs MOUNTPOINT [MILLISECONDS]");
        return ExitCode::from(2);
    };
    match hold(Path::new(mountpoint), Duration::from_millis(milliseconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slowfs: cannot mount on {mountpoint}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Mounts, and unmounts when a signal comes.
fn hold(mountpoint: &Path, delay: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("slowfs".to_owned())];
    // The workers of some servers are other users.
    config.acl = SessionACL::All;
    let session = fuser::spawn_mount(SlowDisk::new(delay), mountpoint, &config)?;
    eprintln!("mounted on {}", mountpoint.display());
    signals.forever().next();
    session.umount_and_join()
}

#[derive(Debug)]
struct SlowDisk {
    delay: Duration,
    /// Reads with the time of their answer. The delay is the same for all, so they are in order.
    reads: Sender<SlowRead>,
    names: Mutex<HashMap<OsString, INodeNo>>,
}

#[derive(Debug)]
struct SlowRead {
    due: Instant,
    length: usize,
    reply: ReplyData,
}

impl SlowDisk {
    fn new(delay: Duration) -> Self {
        let (reads, queue) = mpsc::channel::<SlowRead>();
        thread::spawn(move || {
            let zeros = vec![0; 1 << 20];
            for read in queue {
                thread::sleep(read.due.saturating_duration_since(Instant::now()));
                read.reply.data(&zeros[..read.length.min(zeros.len())]);
            }
        });
        Self {
            delay,
            reads,
            names: Mutex::default(),
        }
    }
}

impl Filesystem for SlowDisk {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The kernel's 12 would make a queue of the reads that are to wait side by side. Where it
        // allows fewer than asked for, it says how many.
        if let Err(most) = config.set_max_background(u16::MAX) {
            let _ = config.set_max_background(most);
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut names = self
            .names
            .lock()
            .expect("nothing panics while it holds this lock");
        let next = INodeNo(names.len() as u64 + 2);
        let inode = *names.entry(name.to_owned()).or_insert(next);
        reply.entry(&FOR_LONG, &attributes(inode), Generation(0));
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_LONG, &attributes(inode));
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if inode == INodeNo::ROOT {
            reply.error(Errno::EISDIR);
            return;
        }
        let length = FILE_BYTES.saturating_sub(offset).min(u64::from(size)) as usize;
        let read = SlowRead {
            due: Instant::now() + self.delay,
            length,
            reply,
        };
        // The thread at the other end lives as long as this sender.
        self.reads
            .send(read)
            .expect("the answering thread has not panicked");
    }
}

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, size, perm) = if inode == INodeNo::ROOT {
        (FileType::Directory, 0, 0o755)
    } else {
        (FileType::RegularFile, FILE_BYTES, 0o644)
    };
    FileAttr {
        ino: inode,
        size,
        blocks: size / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4_096,
    }
}

const FILE_BYTES: u64 = 1 << 30;
/// Names and attributes never change.
const FOR_LONG: Duration = Duration::from_secs(3_600);
