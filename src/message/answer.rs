//! The answering side: prints each message, and replies.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::text::{Charset, CharsetError, MAX_MESSAGE_BYTES};
use crate::sys::poll::{Direction, wait_ready};
use crate::sys::resources;

/// Where to listen and what to reply.
#[derive(Clone, Debug)]
pub struct AnswerConfig {
    /// Addresses to listen on; port 0 takes a free port.
    pub listen: Vec<SocketAddr>,
    /// The reply to every message.
    pub reply: String,
    /// The encoding of messages and replies.
    pub charset: Charset,
    /// A sender's silence of this length ends its message.
    pub silence: Duration,
}

/// The outcome of one conversation.
#[derive(Debug)]
pub enum Heard {
    /// A message arrived. Its reply follows.
    Message {
        /// The other side.
        sender: SocketAddr,
        /// The message, at most [`MAX_MESSAGE_BYTES`] bytes of it. Not escaped.
        text: String,
    },
    /// The peer connected and sent nothing.
    Silence {
        /// The other side.
        sender: SocketAddr,
    },
    /// The connection broke before a message or its reply was whole.
    Broken {
        /// The other side.
        sender: SocketAddr,
        /// The failure.
        error: io::Error,
    },
    /// A connection could not be accepted.
    Unaccepted {
        /// The failure.
        error: io::Error,
    },
}

/// Why the answering side cannot start.
#[derive(Debug)]
pub enum AnswerError {
    /// The address cannot be listened on.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// The reply cannot be written in the encoding.
    Reply(CharsetError),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, error } => {
                write!(
                    out,
                    "cannot listen on {address}: {error}; try another --listen"
                )
            }
            Self::Reply(error) => write!(out, "cannot send the reply: {error}"),
        }
    }
}

impl std::error::Error for AnswerError {}

/// Listeners that are bound, and the reply that waits for messages.
#[derive(Debug)]
pub struct Answerer {
    listeners: Vec<TcpListener>,
    local_addrs: Vec<SocketAddr>,
    manner: Manner,
}

/// How each conversation is held.
#[derive(Clone, Debug)]
struct Manner {
    charset: Charset,
    reply: Arc<[u8]>,
    silence: Duration,
}

impl Answerer {
    /// Binds all listeners.
    ///
    /// # Errors
    /// [`AnswerError`], with the address or text to blame.
    pub fn bind(config: &AnswerConfig) -> Result<Self, AnswerError> {
        let reply = config
            .charset
            .encode(&config.reply)
            .map_err(AnswerError::Reply)?;
        let mut listeners = Vec::new();
        let mut local_addrs = Vec::new();
        for &address in &config.listen {
            let (listener, local_addr) =
                bind(address).map_err(|error| AnswerError::Bind { address, error })?;
            listeners.push(listener);
            local_addrs.push(local_addr);
        }
        let manner = Manner {
            charset: config.charset,
            reply: reply.into(),
            silence: config.silence,
        };
        Ok(Self {
            listeners,
            local_addrs,
            manner,
        })
    }

    /// The addresses that are listened on, ports included.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Answers until `stop` is set, and reports each conversation to `hear`. Conversations that
    /// have begun are finished.
    ///
    /// # Errors
    /// As poll(2).
    pub fn run(&self, stop: &AtomicBool, hear: impl Fn(Heard)) -> io::Result<()> {
        let mut conversations: VecDeque<Conversation> = VecDeque::new();
        loop {
            let stops = stop.load(Ordering::Relaxed);
            if stops {
                conversations.retain(Conversation::has_begun);
                if conversations.is_empty() {
                    return Ok(());
                }
            }
            let listeners: &[TcpListener] = if stops { &[] } else { &self.listeners };
            let now = Instant::now();
            let next = conversations.iter().map(|talk| talk.deadline).min();
            let wait = next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK));
            let heard = listeners.iter().map(|it| (it.as_fd(), Direction::Read));
            let talks = conversations
                .iter()
                .map(|it| (it.stream.as_fd(), it.direction()));
            let sources: Vec<_> = heard.chain(talks).collect();
            wait_ready(&sources, wait)?;
            // A socket that is not ready would block; a few calls more do not matter here.
            conversations.retain_mut(|talk| talk.advance(&self.manner, &hear));
            for listener in listeners {
                self.accept(listener, &mut conversations, &hear);
            }
        }
    }

    fn accept(
        &self,
        listener: &TcpListener,
        conversations: &mut VecDeque<Conversation>,
        hear: &impl Fn(Heard),
    ) {
        match listener.accept() {
            Ok((stream, sender)) => {
                if conversations.len() >= MAX_CONVERSATIONS {
                    conversations.pop_front();
                }
                if stream.set_nonblocking(true).is_ok() {
                    conversations.push_back(Conversation::new(stream, sender));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // The oldest conversation gives its descriptor to the next one.
                if resources::is_exhaustion(&error) {
                    conversations.pop_front();
                }
                hear(Heard::Unaccepted { error });
                thread::sleep(PAUSE);
            }
        }
    }
}

/// A connection, which never blocks.
#[derive(Debug)]
struct Conversation {
    stream: TcpStream,
    sender: SocketAddr,
    begun: Instant,
    deadline: Instant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The message so far.
    Listening(Vec<u8>),
    /// How much of the reply is sent.
    Replying(usize),
    /// A close while bytes wait to be read is a reset, which may overtake the reply.
    Draining,
}

impl Conversation {
    fn new(stream: TcpStream, sender: SocketAddr) -> Self {
        let begun = Instant::now();
        Self {
            stream,
            sender,
            begun,
            deadline: begun + TIMEOUT,
            phase: Phase::Listening(Vec::new()),
        }
    }

    fn has_begun(&self) -> bool {
        !matches!(&self.phase, Phase::Listening(message) if message.is_empty())
    }

    fn direction(&self) -> Direction {
        match self.phase {
            Phase::Replying(_) => Direction::Write,
            Phase::Listening(_) | Phase::Draining => Direction::Read,
        }
    }

    /// Goes on as far as it gets without waiting; returns whether it is not over.
    fn advance(&mut self, manner: &Manner, hear: &impl Fn(Heard)) -> bool {
        let sender = self.sender;
        self.step(manner, hear).unwrap_or_else(|error| {
            if !matches!(self.phase, Phase::Draining) {
                hear(Heard::Broken { sender, error });
            }
            false
        })
    }

    fn step(&mut self, manner: &Manner, hear: &impl Fn(Heard)) -> io::Result<bool> {
        let is_late = Instant::now() >= self.deadline;
        let mut room = [0; MAX_MESSAGE_BYTES];
        match &mut self.phase {
            Phase::Listening(message) => {
                let left = MAX_MESSAGE_BYTES - message.len();
                let is_over = match read_some(&self.stream, &mut room[..left])? {
                    Some(0) => true,
                    Some(received) => {
                        message.extend_from_slice(&room[..received]);
                        let silent = Instant::now() + manner.silence;
                        self.deadline = silent.min(self.begun + TIMEOUT);
                        message.len() == MAX_MESSAGE_BYTES
                    }
                    None => is_late,
                };
                if !is_over {
                    return Ok(true);
                }
                let sender = self.sender;
                if message.is_empty() {
                    hear(Heard::Silence { sender });
                    return Ok(false);
                }
                let text = if message.len() == MAX_MESSAGE_BYTES {
                    manner.charset.decode_beginning(message)
                } else {
                    manner.charset.decode(message)
                };
                hear(Heard::Message { sender, text });
                self.phase = Phase::Replying(0);
                self.deadline = Instant::now() + TIMEOUT;
                self.step(manner, hear)
            }
            Phase::Replying(sent) => {
                while *sent < manner.reply.len() {
                    match (&self.stream).write(&manner.reply[*sent..]) {
                        Ok(taken) => *sent += taken,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_late => {
                            return Ok(true);
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.stream.shutdown(Shutdown::Write)?;
                self.phase = Phase::Draining;
                self.deadline = Instant::now() + LINGER;
                self.step(manner, hear)
            }
            Phase::Draining => Ok(!is_late && read_some(&self.stream, &mut room)? != Some(0)),
        }
    }
}

/// Reads once: `None` if no byte is there, zero at the end of the stream.
fn read_some(mut stream: &TcpStream, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.read(room) {
            Ok(received) => return Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

/// Conversations at once; the oldest makes room for the next.
const MAX_CONVERSATIONS: usize = 512;
/// The longest time for a message to arrive, and for its reply to be sent.
const TIMEOUT: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_secs(1);
/// How soon a stop is noticed at the latest; a signal interrupts the wait.
const TICK: Duration = Duration::from_millis(250);
/// After a failed accept(2), whose connection may still wait and would be tried again at once.
const PAUSE: Duration = Duration::from_millis(20);
