//! TLS on a connection: a session in user space, which the kernel takes over for large bodies.

mod kernel;
mod messages;
mod record_count;
mod user_space;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use crate::server::config::SendChoice;
use crate::server::transmit::seal_buffers::SealBuffers;
use crate::server::transmit::sink::{
    FilePart, IoBuffers, More, SendError, Sink, blocked_or_network,
};
use crate::sys::kernel_tls::{self, KernelTls, Version};
use crate::sys::socket;
use crate::tls::kernel::{Handover, Parameters};
use crate::tls::session::Session;

pub(crate) use self::kernel::{Incoming, KernelStream};
pub(crate) use self::user_space::UserSpace;

/// A connection's session.
#[derive(Debug)]
pub(crate) struct TlsStream {
    layer: Layer,
    /// Kernel TLS, if the session may be handed to it.
    kernel: Option<KernelTls>,
    /// Length of the large body that follows the bytes sent now.
    body: Option<u64>,
    /// The subject of the client's certificate.
    subject: Option<Arc<str>>,
}

/// The place where records are sealed and opened.
#[derive(Debug)]
pub(crate) enum Layer {
    /// In this process.
    UserSpace(Box<UserSpace>),
    /// In the kernel.
    Kernel(Box<KernelStream>),
    /// Nowhere: the kernel took the session over and refused its keys.
    Lost,
}

impl TlsStream {
    /// A session before its first byte, which `kernel` may take over.
    pub(crate) fn new(session: Session, kernel: Option<KernelTls>) -> Self {
        Self {
            layer: Layer::UserSpace(Box::new(UserSpace::new(session))),
            kernel,
            body: None,
            subject: None,
        }
    }

    /// The place where records are sealed and opened now.
    pub(crate) fn layer(&mut self) -> &mut Layer {
        &mut self.layer
    }

    /// The session in user space, if it is there.
    pub(crate) fn user_space(&mut self) -> Option<&mut UserSpace> {
        match &mut self.layer {
            Layer::UserSpace(session) => Some(session),
            Layer::Kernel(_) | Layer::Lost => None,
        }
    }

    /// Whether the kernel has taken the session over.
    pub(crate) fn is_in_kernel(&self) -> bool {
        matches!(self.layer, Layer::Kernel(_))
    }

    /// Drops the session. Returns the received bytes that were not opened.
    pub(crate) fn into_partial(self) -> Vec<u8> {
        match self.layer {
            Layer::UserSpace(session) => session.into_partial(),
            Layer::Kernel(_) | Layer::Lost => Vec::new(),
        }
    }

    /// Notes the subject of the client's certificate, after the handshake.
    pub(crate) fn note_subject(&mut self) {
        let session = self.user_space().map(|tls| tls.session());
        self.subject = session.and_then(Session::peer_subject).map(Arc::from);
    }

    /// The subject of the client's certificate.
    pub(crate) fn subject(&self) -> Option<Arc<str>> {
        self.subject.clone()
    }

    /// Notes that `len` bytes of a file are to follow; `None` if they are few.
    pub(crate) fn announce_body(&mut self, stream: &TcpStream, len: Option<u64>) {
        self.body = len;
        if let (Layer::Kernel(kernel), Some(len)) = (&mut self.layer, len) {
            kernel.announce_body(stream, len);
        }
    }

    /// Memory for a peer's incomplete record or message, the session included.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.layer {
            Layer::UserSpace(session) => session.held_bytes(),
            Layer::Kernel(_) => user_space::SESSION_BYTES,
            Layer::Lost => 0,
        }
    }

    /// Bytes of `close_notify`, once it was sealed: they belong to no response.
    pub(crate) fn closing(&self) -> u64 {
        match &self.layer {
            Layer::UserSpace(session) => session.closing(),
            Layer::Kernel(stream) => stream.closing(),
            Layer::Lost => 0,
        }
    }

    /// Bytes that were sealed here, or given to the kernel, and that TCP has not taken.
    pub(crate) fn unsent(&self, stream: &TcpStream) -> u64 {
        match &self.layer {
            Layer::UserSpace(session) => session.unsent(),
            Layer::Kernel(kernel) => kernel.unsent(stream),
            Layer::Lost => 0,
        }
    }

    /// Sends the sealed bytes.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` if some of it is left. The kernel does so by itself.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        match &mut self.layer {
            Layer::UserSpace(session) => session.flush(stream),
            Layer::Kernel(_) => Ok(()),
            Layer::Lost => Err(lost()),
        }
    }

    /// Sends `close_notify` behind the sealed bytes, once.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` if TCP has not taken all.
    pub(crate) fn end(&mut self, stream: &TcpStream) -> io::Result<()> {
        match &mut self.layer {
            Layer::UserSpace(session) => {
                session.close();
                session.flush(stream)
            }
            Layer::Kernel(kernel) => kernel.end(stream),
            Layer::Lost => Err(lost()),
        }
    }

    /// Hands the session to the kernel, if that knows such records, a large body follows, and no
    /// bytes are under way.
    fn hand_over(&mut self, stream: &TcpStream) {
        let (Some(len), Some(kernel)) = (self.body, self.kernel) else {
            return;
        };
        let Layer::UserSpace(session) = &self.layer else {
            return;
        };
        let Some(handover) = session.for_kernel() else {
            // A later call of the same body may find no bytes under way.
            return;
        };
        self.body = None;
        if !is_for_kernel(kernel, handover, len) || kernel_tls::attach(stream).is_err() {
            return;
        }
        let changes_keys = changes_keys(kernel, handover.parameters);
        if let Layer::UserSpace(session) = std::mem::replace(&mut self.layer, Layer::Lost)
            && let Ok(kernel) = KernelStream::new(session.into_session(), stream, changes_keys)
        {
            self.layer = Layer::Kernel(Box::new(kernel));
        }
    }
}

/// A TLS connection's stream for the time of a turn.
#[derive(Debug)]
pub(crate) struct TlsSink<'a> {
    stream: &'a TcpStream,
    tls: &'a mut TlsStream,
    buffers: &'a mut SealBuffers,
}

impl<'a> TlsSink<'a> {
    pub(crate) fn new(
        stream: &'a TcpStream,
        tls: &'a mut TlsStream,
        buffers: &'a mut SealBuffers,
    ) -> Self {
        Self {
            stream,
            tls,
            buffers,
        }
    }
}

impl Sink for TlsSink<'_> {
    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        match &mut self.tls.layer {
            Layer::UserSpace(session) => session.send(self.stream, (bytes, more), self.buffers),
            Layer::Kernel(kernel) => kernel.send(self.stream, bytes),
            Layer::Lost => Err(lost()),
        }
    }

    fn send_file(&mut self, part: FilePart<'_>, tools: &mut IoBuffers) -> Result<usize, SendError> {
        self.flush().map_err(blocked_or_network)?;
        if *part.choice == SendChoice::Auto {
            self.tls.hand_over(self.stream);
        }
        match &mut self.tls.layer {
            Layer::UserSpace(session) => session.send_file(self.stream, &part, tools, self.buffers),
            Layer::Kernel(kernel) => kernel.send_file(self.stream, part, tools),
            Layer::Lost => Err(SendError::Network(lost())),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn at_once(&self) -> usize {
        match &self.tls.layer {
            Layer::UserSpace(session) => session.at_once(),
            Layer::Kernel(_) | Layer::Lost => self.stream.at_once(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.flush(self.stream)
    }

    fn push(&self) -> io::Result<()> {
        socket::push(self.stream)
    }

    fn unacknowledged(&self) -> Option<u64> {
        Some(socket::unacknowledged(self.stream)? + self.tls.unsent(self.stream))
    }
}

/// Whether the kernel is to take a session over, for a body of `len` bytes.
fn is_for_kernel(kernel: KernelTls, handover: Handover, len: u64) -> bool {
    let parameters = handover.parameters;
    kernel.knows(parameters.version, parameters.cipher)
        && (changes_keys(kernel, parameters)
            || record_count::fits(len, handover.sealed, parameters.record_limit))
}

/// Whether the session's keys can be changed in the kernel: TLS 1.2 has no key updates.
fn changes_keys(kernel: KernelTls, parameters: Parameters) -> bool {
    kernel.changes_keys && parameters.version == Version::Tls13
}

fn lost() -> io::Error {
    io::Error::other("the kernel refuses the session's keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kernel_tls::Cipher;

    #[test]
    fn bodies_beyond_a_key_go_to_the_kernel_only_where_it_changes_keys() {
        let handover = |version, cipher, record_limit| Handover {
            parameters: Parameters {
                version,
                cipher,
                record_limit,
            },
            sealed: 3,
        };
        let aes = |version| handover(version, Cipher::Aes128Gcm, 1 << 24);
        let chacha = handover(Version::Tls13, Cipher::ChaCha20Poly1305, u64::MAX);
        let [old, new] = [false, true].map(KernelTls::with_all);
        let huge = 300 << 30;
        for version in Version::ALL {
            assert!(is_for_kernel(old, aes(version), 1 << 30));
            assert!(!is_for_kernel(old, aes(version), huge));
        }
        assert!(is_for_kernel(old, chacha, huge));
        assert!(is_for_kernel(new, aes(Version::Tls13), huge));
        assert!(!is_for_kernel(new, aes(Version::Tls12), huge));
        assert!(!is_for_kernel(KernelTls::default(), chacha, 1 << 20));
    }
}
