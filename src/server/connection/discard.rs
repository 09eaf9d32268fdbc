//! Discarding: a request's body is discarded before the request is answered.

use std::time::Instant;

use crate::http::parse::CONTINUE;
use crate::http::parse::body::{Discard, Discarded};
use crate::http::{Expectation, Persistence, Refusal, Request, Version};
use crate::server::connection::prepare::Pending;
use crate::server::connection::request_buffer::{ByteSource, RequestBuffer};
use crate::server::transmit::tls::Layer;
use crate::sys::socket;

/// A request whose body is on its way.
#[derive(Debug)]
pub(super) struct Discarding {
    request: Box<Request>,
    discard: Discard,
    since: Instant,
    /// The rest of a `100 Continue` that left in part.
    interim: &'static [u8],
}

/// The progress of a discarded body.
pub(super) enum DiscardStep {
    /// The whole body is read.
    Done,
    /// There may be more to read.
    Again,
    /// More bytes are needed.
    Incomplete,
    /// The body is malformed or too long.
    Refused(Refusal),
    /// The connection ended within it.
    Ended,
}

impl Discarding {
    /// Begins to throw at most `most` bytes away, and invites the body if the client waits for
    /// that.
    pub(super) fn new(
        request: Box<Request>,
        most: u64,
        source: &mut ByteSource<'_>,
        received: &RequestBuffer,
        now: Instant,
    ) -> Self {
        let is_awaited = request.expectation == Expectation::Continue
            && request.version == Version::Http11
            && received.bytes().is_empty();
        let interim = if is_awaited { invite(source) } else { b"" };
        Self {
            discard: Discard::new(request.body, most),
            request,
            since: now,
            interim,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Discards the received bytes, and reads once more.
    pub(super) fn advance(
        &mut self,
        source: &mut ByteSource<'_>,
        received: &mut RequestBuffer,
        scratch: &mut [u8],
    ) -> DiscardStep {
        match self.discard.take(received.bytes()) {
            Ok(Discarded::Done(taken)) => {
                received.consume(taken);
                return DiscardStep::Done;
            }
            Ok(Discarded::More(taken)) => received.consume(taken),
            Err(refusal) => return DiscardStep::Refused(refusal),
        }
        if received.has_ended() {
            return DiscardStep::Ended;
        }
        match received.receive(source, scratch) {
            Ok(true) => DiscardStep::Again,
            Ok(false) => DiscardStep::Incomplete,
            Err(_) => DiscardStep::Ended,
        }
    }

    /// The request, its body discarded.
    pub(super) fn into_pending(self) -> Pending {
        Pending::http(self.request, self.interim)
    }

    /// The request, refused for its body; the connection ends with the answer.
    pub(super) fn into_refused(mut self, refusal: Refusal) -> Pending {
        self.request.refusal = Some(refusal);
        self.request.persistence = Persistence::Close;
        self.into_pending()
    }
}

/// Sends `100 Continue`, and returns what the send queue has no room for. A client whose queue is
/// full has not read its earlier responses, and is not invited at all.
fn invite(source: &mut ByteSource<'_>) -> &'static [u8] {
    let sent = match source.tls.as_mut().map(|tls| tls.layer()) {
        None => socket::send(source.stream, CONTINUE, false),
        Some(Layer::Kernel(tls)) => tls.send(source.stream, CONTINUE),
        Some(Layer::UserSpace(tls)) => {
            if tls.unsent() == 0 && tls.enqueue(CONTINUE).is_ok() {
                // Bytes that the socket does not take go before the response.
                let _ = tls.flush(source.stream);
            }
            return b"";
        }
        Some(Layer::Lost) => return b"",
    };
    sent.map_or(b"", |sent| &CONTINUE[sent..])
}
