#![no_main]
//! A plan of heads and parts of a file, into a sink that takes as much as the script says, or says
//! that it is full, was interrupted, or broke: what it took is the plan's bytes, in order.

use std::io;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use haul::internals::{
    Blocking, DotNames, FilePart, Found, IoBuffers, LookUp, More, Plan, Progress, Root, RunContext,
    Segment, SendError, Sink, Target, Transfer,
};
use haul::server::config::SendChoice;

const LEN: usize = 300_000;

/// The root, and its file's bytes.
static ROOT: LazyLock<(Root, Vec<u8>)> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("haul-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let content: Vec<u8> = (0..LEN).map(|at| (at / 3 + at / 251) as u8).collect();
    std::fs::write(directory.join("file"), &content).expect("a file");
    let (closer, _) = crossbeam_channel::unbounded();
    let root = Root::open(&directory, &[], DotNames::Hidden, closer);
    (root.expect("the root"), content)
});

struct Scripted<'a> {
    script: std::slice::Iter<'a, u8>,
    taken: Vec<u8>,
    has_broken: bool,
}

impl Scripted<'_> {
    /// How many of so many bytes are taken now.
    fn takes(&mut self, len: usize) -> io::Result<usize> {
        match self.script.next() {
            None => Ok(len),
            Some(0..40) => Err(io::ErrorKind::WouldBlock.into()),
            Some(40..42) => {
                self.has_broken = true;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(step) => Ok(len.min(1 << (step % 18))),
        }
    }
}

impl Sink for Scripted<'_> {
    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        assert!(!self.has_broken);
        let len = self.takes(bytes.len())?;
        self.taken.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn send_file(&mut self, part: FilePart<'_>, _: &mut IoBuffers) -> Result<usize, SendError> {
        assert!(!self.has_broken);
        let wanted = usize::try_from(part.len).expect("a length");
        let len = self.takes(wanted).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SendError::Blocked,
            _ => SendError::Network(error),
        })?;
        let begun = self.taken.len();
        self.taken.resize(begun + len, 0);
        part.file.read_exact_at(&mut self.taken[begun..], part.offset).map_err(SendError::File)?;
        Ok(len)
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn at_once(&self) -> usize {
        16 << 10
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn push(&self) -> io::Result<()> {
        Ok(())
    }

    fn unacknowledged(&self) -> Option<u64> {
        None
    }
}

libfuzzer_sys::fuzz_target!(|input: (Vec<(u8, u32, u32)>, u16, &[u8])| {
    let (parts, budget, script) = input;
    let (root, content) = &*ROOT;
    let mut expected = Vec::new();
    let mut segments = Vec::new();
    for (kind, start, len) in parts.into_iter().take(8) {
        let start = start as usize % LEN;
        let len = 1 + len as usize % (LEN - start);
        segments.push(if kind % 2 == 0 {
            let bytes = content[start..start + len.min(2000)].to_vec();
            expected.extend_from_slice(&bytes);
            Segment::Memory(bytes)
        } else {
            expected.extend_from_slice(&content[start..start + len]);
            Segment::File { offset: start as u64, len: len as u64 }
        });
    }
    let target = Target { path: b"file".to_vec(), trailing_slash: false };
    let LookUp::Found(Found::File(file)) = root.look_up(&target, Blocking::Allowed) else {
        panic!("the file is there");
    };
    let plan = Plan { segments: segments.into() };
    let mut transfer = Transfer::new(plan, Some(Arc::clone(&file)), SendChoice::Auto);
    let mut sink = Scripted { script: script.iter(), taken: Vec::new(), has_broken: false };
    let mut tools = IoBuffers::with_pipe();
    let mut sent = 0;
    for _ in 0..100_000 {
        let mut context = RunContext {
            // Of a few bytes alone, a long plan would take too long.
            budget: 1024 + u64::from(budget),
            blocking: Blocking::Allowed,
            now: Instant::now(),
            tools: &mut tools,
        };
        let (more, progress) = transfer.run(&mut sink, &mut context);
        sent += more;
        assert_eq!(sent, sink.taken.len() as u64);
        assert!(expected.starts_with(&sink.taken));
        match progress {
            Progress::Done => return assert!(sink.taken == expected),
            Progress::Failed(_) => return assert!(sink.has_broken),
            _ => {}
        }
    }
    panic!("it does not come to an end");
});
