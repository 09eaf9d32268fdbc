//! A connection with one request and its answer, which never blocks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::server::admin::exchange::{Answer, Asked, parse};
use crate::sys::poll::Direction;

/// A client of the admin interface.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    ends: Instant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The request so far, and how much of it holds no end.
    Asking(Vec<u8>, usize),
    /// The answer, and how much of it is sent.
    Answering(Vec<u8>, usize),
}

impl Client {
    /// A client on a socket that does not block.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ends: Instant::now() + TIMEOUT,
            phase: Phase::Asking(Vec::new(), 0),
        }
    }

    /// When it is given up.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether a part of its request has come.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(&self.phase, Phase::Asking(head, _) if head.is_empty())
    }

    /// The event that it waits for.
    pub(super) fn awaited(&self) -> (BorrowedFd<'_>, Direction) {
        let direction = match self.phase {
            Phase::Asking(..) => Direction::Read,
            Phase::Answering(..) => Direction::Write,
        };
        (self.stream.as_fd(), direction)
    }

    /// Goes on as far as it gets without waiting; returns whether it is not over.
    pub(super) fn advance(
        &mut self,
        names_matter: bool,
        answer: impl Fn(Asked) -> (Answer, bool),
    ) -> bool {
        match self.step(names_matter, answer) {
            Ok(()) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock && Instant::now() < self.ends,
        }
    }

    fn step(
        &mut self,
        names_matter: bool,
        answer: impl Fn(Asked) -> (Answer, bool),
    ) -> io::Result<()> {
        loop {
            match &mut self.phase {
                Phase::Asking(head, scanned) => {
                    let mut room = [0; 1024];
                    let asked = match retried(|| self.stream.read(&mut room))? {
                        0 if head.is_empty() => return Ok(()),
                        0 => Some(Asked::Wrong(400)),
                        count => {
                            head.extend_from_slice(&room[..count]);
                            parse(head, scanned, names_matter)
                        }
                    };
                    if let Some(asked) = asked {
                        let (answer, has_content) = answer(asked);
                        self.phase = Phase::Answering(answer.encode(has_content), 0);
                    }
                }
                Phase::Answering(bytes, sent) if *sent == bytes.len() => return Ok(()),
                Phase::Answering(bytes, sent) => {
                    *sent += match retried(|| self.stream.write(&bytes[*sent..]))? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => count,
                    };
                }
            }
        }
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// For a request and its answer together.
const TIMEOUT: Duration = Duration::from_secs(5);
