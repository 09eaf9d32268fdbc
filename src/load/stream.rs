//! A socket of the generator, plain or with a TLS session on it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use crate::sys::client_socket;
use crate::sys::poller::{Interest, Poller};
use crate::sys::socket;
use crate::tls::client::{Channel, Scratch};

/// A socket, and how it has been used.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    channel: Option<Box<Channel>>,
    /// The poller that watches the socket, once it had to be waited for.
    poller: Option<Arc<Poller>>,
    /// A short receive does not mean an empty queue.
    pub(super) hung_up: bool,
    /// Whole answers received.
    pub(super) served: u32,
    pub(super) opened: Instant,
    /// When a byte was last sent or received.
    pub(super) moved: Instant,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, channel: Option<Channel>, opened: Instant) -> Self {
        Self {
            socket,
            channel: channel.map(Box::new),
            poller: None,
            hung_up: false,
            served: 0,
            opened,
            moved: opened,
        }
    }

    /// The session, until its handshake is complete.
    pub(super) fn handshake(&mut self) -> Option<(&mut Channel, &mut TcpStream)> {
        let channel = self.channel.as_deref_mut()?;
        let pending = channel.is_handshaking() || channel.has_unsent();
        pending.then_some((channel, &mut self.socket))
    }

    /// Sends the rest of `request` behind the first `sent` bytes: 0 means that nothing is left.
    pub(super) fn send(&mut self, request: &[u8], sent: usize) -> io::Result<usize> {
        match &mut self.channel {
            None if sent == request.len() => Ok(0),
            None => socket::send(&self.socket, &request[sent..], false),
            Some(channel) if sent < request.len() => {
                channel.enqueue(request)?;
                Ok(request.len())
            }
            Some(channel) => channel.flush(&mut self.socket).map(|()| 0),
        }
    }

    /// Receives content into `room`; zero is the end of the stream.
    pub(super) fn receive(&mut self, room: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        match &mut self.channel {
            None => client_socket::receive(&self.socket, room),
            Some(channel) => channel
                .read(&mut self.socket, scratch, room)
                .map_err(wait_instead),
        }
    }

    /// Discards up to `room.len()` bytes of content; zero is the end of the stream.
    pub(super) fn discard(&mut self, room: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        match &mut self.channel {
            None => client_socket::discard(&self.socket, room),
            Some(channel) => channel
                .discard(&mut self.socket, scratch, room.len())
                .map_err(wait_instead),
        }
    }

    /// Only `WouldBlock` means an empty queue here.
    pub(super) fn is_secure(&self) -> bool {
        self.channel.is_some()
    }

    /// The session has something to send.
    pub(super) fn has_unsent(&self) -> bool {
        self.channel.as_ref().is_some_and(|it| it.has_unsent())
    }

    /// Waits for `interest` from now on.
    pub(super) fn watch(
        &mut self,
        token: usize,
        interest: Interest,
        poller: &Arc<Poller>,
    ) -> io::Result<()> {
        if self.poller.is_none() {
            poller.watch(&self.socket, token as u64)?;
            self.poller = Some(Arc::clone(poller));
        }
        poller.rearm(&self.socket, token as u64, interest)
    }
}

/// What came was no content, and the poller reports at once if there is more.
fn wait_instead(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => io::ErrorKind::WouldBlock.into(),
        _ => error,
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(poller) = &self.poller {
            poller.forget_closing(&self.socket);
        }
    }
}
