//! The state of a server after another one has taken over from it. A byte on a shared socket is the
//! query, a line the answer; the socket closes when the old process ends.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sys::poll::{Direction, wait_ready};

/// The way to the server that was taken over from.
#[derive(Debug)]
pub(super) struct Predecessor(Mutex<Option<Line>>);

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    received: Vec<u8>,
    /// Queries without an answer so far.
    owed: usize,
}

impl Predecessor {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Mutex::new(Some(Line {
            stream,
            received: Vec::new(),
            owed: 0,
        })))
    }

    /// Its state; `None` once it has ended, or if it does not answer at once.
    pub(super) fn ask(&self) -> Option<Value> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match line.as_mut()?.ask(Instant::now() + TIMEOUT) {
            Ok(answer) => serde_json::from_slice(&answer?).ok(),
            Err(_) => {
                *line = None;
                None
            }
        }
    }
}

impl Line {
    /// The answer to this query, or to the last one, if it arrives by `ends`.
    ///
    /// # Errors
    /// The other server has ended.
    fn ask(&mut self, ends: Instant) -> io::Result<Option<Vec<u8>>> {
        self.stream.set_nonblocking(true)?;
        if self.owed < MAX_OWED {
            self.stream.write_all(b"?")?;
            self.owed += 1;
        }
        let mut answer = None;
        let mut piece = [0; 4096];
        while self.owed > 0 {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait_ready(&[(self.stream.as_fd(), Direction::Read)], left)?;
            let count = match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            for byte in &piece[..count] {
                match byte {
                    b'\n' => {
                        answer = Some(std::mem::take(&mut self.received));
                        self.owed = self.owed.saturating_sub(1);
                    }
                    byte => self.received.push(*byte),
                }
            }
        }
        Ok(answer)
    }
}

/// Answers the server that has taken over until that ends; `look` is called once a second.
pub(super) fn answer_successor(
    mut stream: &UnixStream,
    look: impl Fn(),
    tell: impl Fn() -> String,
) {
    let mut questions = [0; MAX_OWED];
    let mut answer = || {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(MAX_WRITE))?;
        loop {
            look();
            if wait_ready(&[(stream.as_fd(), Direction::Read)], LOOK_EVERY)?.is_empty() {
                continue;
            }
            let count = match stream.read(&mut questions) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            for _ in 0..count {
                stream.write_all(format!("{}\n", tell()).as_bytes())?;
            }
        }
    };
    // A failure means that the successor is gone: the transfers continue unobserved.
    let _: io::Result<()> = answer();
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// The other server has nothing else to do: it answers in a moment, or is stopped.
const TIMEOUT: Duration = Duration::from_millis(300);
/// Questions to a server that does not answer.
const MAX_OWED: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MAX_WRITE: Duration = Duration::from_secs(5);
