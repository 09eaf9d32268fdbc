//! The fields of a connection that every state needs: socket, session, peer, limits, buffers.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::server::client_share::ShareHandle;
use crate::server::connection::deferred_record::{DeferredRecord, outstanding};
use crate::server::connection::observed::Observed;
use crate::server::connection::pacer::Pacer;
use crate::server::connection::request_buffer::RequestBuffer;
use crate::server::connection::send_queue::SendQueue;
use crate::server::connection::step::{Admission, Resolved};
use crate::server::disk_waits::DiskWait;
use crate::server::semaphore::Permit;
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, Counters, Peer, TlsClient};
use crate::server::transmit::Prefill;
use crate::server::transmit::tls::TlsStream;
use crate::sys::socket;

/// The fields of a connection that are valid in every state.
#[derive(Debug)]
pub(super) struct CommonState {
    pub(super) number: u64,
    pub(super) stream: TcpStream,
    /// The session, on a TLS connection.
    pub(super) tls: Option<Box<TlsStream>>,
    /// The client: the peer, or the client of a trusted proxy.
    pub(super) peer: Peer,
    /// The socket's peer, or the one that a PROXY header named.
    pub(super) sender: Peer,
    pub(super) share: ShareHandle,
    _permit: Permit,
    pub(super) admission: Admission,
    pub(super) received: RequestBuffer,
    /// Requests received whole.
    pub(super) requests: u64,
    pub(super) deadline: Instant,
    pub(super) resolved: Option<Resolved>,
    pub(super) send_queue: SendQueue,
    pub(super) prefill: Prefill,
    pub(super) pacer: Pacer,
    /// Whether keep-alive probes are on.
    is_probed: bool,
    /// The wait in the disk queue, while the connection is in it or about to be.
    pub(super) disk_wait: Option<DiskWait>,
    /// The record of the last response, while its bytes have not arrived.
    pub(super) unconfirmed: Option<Box<DeferredRecord>>,
    pub(super) observed: Observed,
}

impl CommonState {
    pub(super) fn new(
        stream: TcpStream,
        peer: Peer,
        share: ShareHandle,
        permit: Permit,
        admission: Admission,
        (service, now): (&Shared, Instant),
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            stream,
            tls: None,
            peer,
            sender: peer,
            share,
            _permit: permit,
            admission,
            received: RequestBuffer::default(),
            requests: 0,
            deadline: now + service.config.deadlines.first_byte,
            resolved: None,
            send_queue: SendQueue::default(),
            prefill: Prefill::default(),
            pacer: Pacer::new(service, now),
            is_probed: false,
            disk_wait: None,
            unconfirmed: None,
            observed: Observed::new(service),
        }
    }

    /// Counts what follows for this client: its limits, its share, its name in the log.
    pub(super) fn speak_for(&mut self, peer: Peer, service: &Shared) {
        if peer == self.peer {
            return;
        }
        self.peer = peer;
        self.share = service.clients.join(peer);
        if service.has_too_many(&self.share, peer) {
            self.admission = Admission::Rejected;
        }
    }

    pub(super) fn count_request(&mut self, service: &Shared) {
        self.requests += 1;
        Counters::add_one(&service.counters.requests);
    }

    /// Whether the socket's receive queue is empty now.
    pub(super) fn has_nothing_to_read(&self) -> bool {
        matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the connection was reset, or keep-alive probes found no host. A peer that has closed
    /// its side only may still read.
    pub(super) fn has_left(&mut self) -> bool {
        if !self.is_probed {
            self.is_probed = socket::keep_alive(&self.stream).is_ok();
        }
        socket::is_broken(&self.stream)
    }

    /// Resets the socket's options to those before the response.
    pub(super) fn reset_socket(&mut self, ended_by_close: bool) {
        self.send_queue.end(&self.stream);
        if ended_by_close {
            let _ = socket::orderly_on_close(&self.stream);
        }
    }

    /// Closes the sending side, over TLS by `close_notify` first; `false` if the socket has no room
    /// for that now.
    pub(super) fn end_stream(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            match tls.end(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                flushed => flushed?,
            }
        }
        socket::end_of_stream(&self.stream).map(|()| true)
    }

    /// Whether the kernel seals what is sent.
    pub(super) fn is_sealed_by_kernel(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_in_kernel())
    }

    /// Whether records were sealed that TCP has not taken: a close would throw them away.
    pub(super) fn has_unsent_records(&self) -> bool {
        (self.tls.as_ref()).is_some_and(|tls| tls.unsent(&self.stream) > 0)
    }

    /// Adds the identity of a TLS client to a record.
    pub(super) fn with_tls_client(&self, record: AccessRecord) -> AccessRecord {
        let tls = self.tls.as_deref().map(|tls| TlsClient {
            subject: tls.subject(),
        });
        AccessRecord { tls, ..record }
    }

    /// Writes the record of the last response once all of it has arrived.
    pub(super) fn record_if_arrived(&mut self, service: &Shared) -> bool {
        if self.unconfirmed.is_none() || self.outstanding() > 0 {
            return false;
        }
        let record = self.unconfirmed.take();
        record.map(|record| record.flush(service)).is_some()
    }

    /// Bytes of responses that the peer has not acknowledged, without `close_notify`: a peer with
    /// the whole response may have closed before it arrives.
    pub(super) fn outstanding(&self) -> u64 {
        let outstanding = outstanding(&self.stream);
        self.tls.as_ref().map_or(outstanding, |tls| {
            (outstanding + tls.unsent(&self.stream)).saturating_sub(tls.closing())
        })
    }

    /// Whether the last response has not arrived.
    pub(super) fn is_unacknowledged(&self) -> bool {
        self.unconfirmed.is_some() && self.outstanding() > 0
    }

    /// Whether the peer has acknowledged all bytes (RFC 9112 section 9.6) and sent no more, which
    /// would turn the close into a reset.
    pub(super) fn has_nothing_to_wait_for(&self) -> bool {
        self.received.is_empty()
            && socket::unacknowledged(&self.stream) == Some(0)
            && socket::unread(&self.stream) == Some(0)
            && (self.tls.as_ref()).is_none_or(|tls| tls.unsent(&self.stream) == 0)
    }
}
