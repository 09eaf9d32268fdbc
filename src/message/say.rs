//! The sending side: one message, one reply.

use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::text::{Charset, CharsetError, MAX_MESSAGE_BYTES};
use crate::dial::{DialError, Dialer, Family};
use crate::sys::poll::read_within;

/// A message and its destination.
#[derive(Clone, Debug)]
pub struct SayConfig {
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address families to try.
    pub family: Family,
    /// The message.
    pub text: String,
    /// The encoding of message and reply.
    pub charset: Charset,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum SayError {
    /// The message cannot be written in the encoding.
    Charset(CharsetError),
    /// The message is empty.
    Empty,
    /// The message is longer than the other side accepts.
    TooLong {
        /// Its length in bytes, as encoded.
        length: usize,
    },
    /// The host has no address.
    Unresolvable {
        /// The host.
        host: String,
        /// The resolver's error.
        error: io::Error,
    },
    /// No server could be reached.
    Connect(io::Error),
    /// The connection broke, or no byte arrived in time.
    Broken(io::Error),
    /// The other side closed without a reply.
    NoReply,
}

impl fmt::Display for SayError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Charset(error) => write!(out, "cannot say that: {error}"),
            Self::Empty => out.write_str("nothing to say: give a text"),
            Self::TooLong { length } => write!(
                out,
                "the text is {length} bytes long, and only {MAX_MESSAGE_BYTES} are heard: shorten it"
            ),
            Self::Unresolvable { host, error } => {
                write!(
                    out,
                    "no address for \"{host}\": {error}; check its spelling"
                )
            }
            Self::Connect(error) => write!(
                out,
                "cannot connect: {error}; check the port, and any firewall between the hosts"
            ),
            Self::Broken(error) => write!(out, "connected, but the reply did not come: {error}"),
            Self::NoReply => out.write_str("connected, but the other side closed without a reply"),
        }
    }
}

impl std::error::Error for SayError {}

/// Sends the message and returns the reply. The reply is not escaped.
///
/// # Errors
/// [`SayError`].
pub fn say(config: &SayConfig) -> Result<String, SayError> {
    let message = config
        .charset
        .encode(&config.text)
        .map_err(SayError::Charset)?;
    match message.len() {
        0 => return Err(SayError::Empty),
        length if length > MAX_MESSAGE_BYTES => return Err(SayError::TooLong { length }),
        _ => {}
    }
    let dialer = Dialer::new(config.family);
    let stream = dialer.connect(&config.host, config.port, TIMEOUT, || false);
    let stream = stream.map_err(|error| match error {
        DialError::Unresolvable(error) => SayError::Unresolvable {
            host: config.host.clone(),
            error,
        },
        DialError::Unreachable(error) => SayError::Connect(error),
        DialError::Stopped => SayError::Connect(io::ErrorKind::Interrupted.into()),
    })?;
    let reply = exchange(&stream, &message).map_err(SayError::Broken)?;
    if reply.is_empty() {
        return Err(SayError::NoReply);
    }
    Ok(config.charset.decode(&reply))
}

fn exchange(mut stream: &TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(message)?;
    // The end of the message, so that the other side need not wait for silence.
    stream.shutdown(Shutdown::Write)?;
    read_within(stream, MAX_REPLY_BYTES, TIMEOUT)
}

const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_REPLY_BYTES: usize = 64 * 1_024;
