//! The address of a server's admin interface, and its responses.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use haul::internals::{connect_local, read_within};
use haul::server::config::LocalAddress;

use crate::cli::values::{ListenAddress, any_address};

/// The address of an admin interface, as `haul serve --admin` takes it, or as a URL.
#[derive(Clone, Debug)]
pub(super) enum AdminUrl {
    Inet(SocketAddr),
    Local(LocalAddress),
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("http://").unwrap_or(text);
        Ok(match any_address(text.trim_end_matches('/'))? {
            ListenAddress::Inet(address) => Self::Inet(address),
            ListenAddress::Local(address) => Self::Local(address),
        })
    }
}

impl AdminUrl {
    /// What is under way, in JSON.
    ///
    /// # Errors
    /// In words: it does not answer, or not so.
    pub(super) fn ask(&self) -> io::Result<String> {
        self.exchange().map_err(|error| {
            let why =
                format!("{self} does not answer: {error}; it is what `haul serve --admin` names");
            io::Error::new(error.kind(), why)
        })
    }

    fn exchange(&self) -> io::Result<String> {
        match self {
            Self::Inet(address) => {
                let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                request(stream)
            }
            Self::Local(address) => {
                let stream = connect_local(address)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                request(stream)
            }
        }
    }
}

impl std::fmt::Display for AdminUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => write!(formatter, "http://{address}/"),
            Self::Local(address) => address.fmt(formatter),
        }
    }
}

fn request(mut stream: impl Read + Write + AsFd) -> io::Result<String> {
    stream.write_all(b"GET /transfers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let answer = read_within(stream, MAX_BYTES, TIMEOUT)?;
    let answer = String::from_utf8(answer).map_err(io::Error::other)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, content)) if head.starts_with("HTTP/1.1 200 ") => Ok(content.to_owned()),
        _ => Err(io::Error::other("it is no admin interface of haul")),
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);
/// A hundred thousand transfers.
const MAX_BYTES: usize = 64 << 20;
