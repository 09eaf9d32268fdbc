//! The side that listens: it prints what it hears, and replies.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use threadpool::ThreadPool;

use super::LONGEST_MESSAGE;
use super::text::{Charset, CharsetError};
use crate::sys::readable::wait_readable;

/// Where to listen and what to reply.
#[derive(Clone, Debug)]
pub struct AnswerConfig {
    /// Addresses to listen on; port 0 takes a free port.
    pub listen: Vec<SocketAddr>,
    /// The reply to every message.
    pub reply: String,
    /// The encoding of messages and replies.
    pub charset: Charset,
    /// A sender that has begun and is silent for so long has said what it wanted to say.
    pub silence: Duration,
}

/// What became of one conversation.
#[derive(Debug)]
pub enum Heard {
    /// A message came and was answered.
    Message {
        /// The other side.
        sender: SocketAddr,
        /// What it said, at most [`LONGEST_MESSAGE`] bytes of it. Not escaped.
        text: String,
    },
    /// The other side connected and said nothing.
    Silence {
        /// The other side.
        sender: SocketAddr,
    },
    /// The connection broke before the reply was sent.
    Broken {
        /// The other side.
        sender: SocketAddr,
        /// What happened.
        error: io::Error,
    },
    /// A connection could not be accepted.
    Unaccepted {
        /// What happened.
        error: io::Error,
    },
}

/// Why there is no listening.
#[derive(Debug)]
pub enum AnswerError {
    /// The address cannot be listened on.
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
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

    /// Converses until `stop` is set, and tells `hear` what became of each conversation. Those under
    /// way are finished.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn run(
        &self,
        stop: &AtomicBool,
        hear: impl Fn(Heard) + Clone + Send + 'static,
    ) -> io::Result<()> {
        let pool = ThreadPool::with_name("conversation".to_owned(), CONVERSATIONS);
        while !stop.load(Ordering::Relaxed) {
            if pool.queued_count() > 0 {
                // The kernel keeps those who wait; here they would only use up descriptors.
                thread::sleep(PAUSE);
                continue;
            }
            wait_readable(&self.listeners, TICK)?;
            for listener in &self.listeners {
                self.accept(listener, &pool, &hear);
            }
        }
        pool.join();
        Ok(())
    }

    fn accept(
        &self,
        listener: &TcpListener,
        pool: &ThreadPool,
        hear: &(impl Fn(Heard) + Clone + Send + 'static),
    ) {
        match listener.accept() {
            Ok((stream, sender)) => {
                let (manner, hear) = (self.manner.clone(), hear.clone());
                pool.execute(move || hear(converse(&stream, sender, &manner)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                hear(Heard::Unaccepted { error });
                // Descriptors may have run out; they come back as conversations end.
                thread::sleep(PAUSE);
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

fn converse(stream: &TcpStream, sender: SocketAddr, manner: &Manner) -> Heard {
    match listen_and_reply(stream, manner) {
        Ok(message) if message.is_empty() => Heard::Silence { sender },
        Ok(message) => {
            let text = if message.len() == LONGEST_MESSAGE {
                manner.charset.decode_beginning(&message)
            } else {
                manner.charset.decode(&message)
            };
            Heard::Message { sender, text }
        }
        Err(error) => Heard::Broken { sender, error },
    }
}

fn listen_and_reply(mut stream: &TcpStream, manner: &Manner) -> io::Result<Vec<u8>> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let message = read_message(stream, manner.silence)?;
    if !message.is_empty() {
        stream.write_all(&manner.reply)?;
        stream.shutdown(Shutdown::Write)?;
        // A close while bytes wait to be read is a reset, which may overtake the reply.
        drain(stream);
    }
    Ok(message)
}

/// Reads until the sender half-closes, is silent, or has sent as much as a message may have.
fn read_message(mut stream: &TcpStream, silence: Duration) -> io::Result<Vec<u8>> {
    let begin = Instant::now();
    let mut message = vec![0; LONGEST_MESSAGE];
    let mut length = 0;
    while length < LONGEST_MESSAGE {
        let patience = PATIENCE.saturating_sub(begin.elapsed());
        let patience = if length == 0 {
            patience
        } else {
            patience.min(silence)
        };
        if patience.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(patience))?;
        match stream.read(&mut message[length..]) {
            Ok(0) => break,
            Ok(received) => length += received,
            Err(error) if is_timeout(&error) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    message.truncate(length);
    Ok(message)
}

/// Reads what still comes until the other side closes, but not for ever.
fn drain(mut stream: &TcpStream) {
    let begin = Instant::now();
    let mut room = [0; LONGEST_MESSAGE];
    while begin.elapsed() < LINGER {
        let timed = stream.set_read_timeout(Some(LINGER));
        if timed.is_err() || !matches!(stream.read(&mut room), Ok(received) if received > 0) {
            return;
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Conversations at once. Each is over within seconds.
const CONVERSATIONS: usize = 32;
/// The longest time for a message to come, and for its reply to go.
const PATIENCE: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_secs(1);
/// How soon a stop is noticed at the latest; a signal interrupts the wait.
const TICK: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(20);
