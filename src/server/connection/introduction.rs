//! The introduction by a trusted proxy: a PROXY header before all other bytes.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::server::connection::proxy_header::{MAX_V2_BYTES, ProxyHeader, parse};
use crate::server::telemetry::CloseReason;

/// A PROXY header on its way.
#[derive(Debug)]
pub(super) struct Introduction {
    since: Instant,
    /// The received part of the header. Bytes behind it stay in the socket: they may be for TLS.
    head: Vec<u8>,
}

/// The result of an introduction's step.
pub(super) enum Introduced {
    /// More bytes are needed.
    Incomplete,
    /// The header names this client, or none but the proxy.
    As(Option<SocketAddr>),
    /// The bytes are no PROXY header; the text is for the log.
    Refused(&'static str),
    /// The connection has ended.
    End(CloseReason),
}

impl Introduction {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            head: Vec::new(),
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The bytes so far, for the log.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Receives until the header is whole or nothing is left.
    pub(super) fn advance(&mut self, stream: &TcpStream, scratch: &mut [u8]) -> Introduced {
        let most = MAX_V2_BYTES.min(scratch.len());
        loop {
            let before = self.head.len();
            let count = match stream.peek(&mut scratch[..most - before]) {
                Ok(0) if before == 0 => return Introduced::End(CloseReason::Complete),
                Ok(0) => return Introduced::End(CloseReason::Aborted),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Introduced::Incomplete;
                }
                Err(_) => return Introduced::End(CloseReason::Aborted),
            };
            self.head.extend_from_slice(&scratch[..count]);
            match parse(&self.head) {
                // Bytes that are taken wake no worker a second time.
                ProxyHeader::Partial => {
                    if take(stream, &mut scratch[..count]).is_err() {
                        return Introduced::End(CloseReason::Aborted);
                    }
                }
                ProxyHeader::Whole { len, client } => {
                    return match take(stream, &mut scratch[..len - before]) {
                        Ok(()) => Introduced::As(client),
                        Err(_) => Introduced::End(CloseReason::Aborted),
                    };
                }
                ProxyHeader::Malformed(why) => return Introduced::Refused(why),
            }
        }
    }
}

/// Reads the bytes that were peeked at.
fn take(mut stream: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    stream.read_exact(bytes)
}
