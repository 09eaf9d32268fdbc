//! A request and its response, as the log and observers see them.

use std::mem;
use std::time::{Duration, Instant, SystemTime};

use crate::http::{Persistence, Protocol};
use crate::server::connection::prepare::{Logged, Pending};
use crate::server::shared::Shared;
use crate::server::telemetry::{AccessRecord, CloseReason, Peer, access_log};

/// A request, and the facts of its response before the first byte is sent.
#[derive(Debug)]
pub(super) struct Exchange {
    request: Answered,
    protocol: Protocol,
    is_answer_to_last: bool,
    status: u16,
    persistence: Persistence,
    outcome: CloseReason,
    detail: &'static str,
    /// The user who has logged in, for the log.
    user: Option<Box<[u8]>>,
    /// Bytes of content promised; `None` where the length is not known beforehand.
    content_length: Option<u64>,
    /// Bytes before the content: the head, and the rest of an interim response.
    head_bytes: u64,
    since: Instant,
}

/// The part of the request that is kept.
#[derive(Debug)]
enum Answered {
    /// All of it: the response may be restarted until its first byte leaves or it is blocked.
    Whole(Pending),
    /// The log's part.
    Logged(Logged),
}

impl Exchange {
    /// The exchange that `pending` began. The outcome and its detail hold if all is sent; the
    /// head's bytes include those of an interim response.
    pub(super) fn new(
        pending: Pending,
        (status, persistence): (u16, Persistence),
        (outcome, detail): (CloseReason, &'static str),
        (content_length, head_bytes): (Option<u64>, u64),
    ) -> Self {
        Self {
            protocol: pending.protocol(),
            user: pending.access.grant().user().map(Box::from),
            is_answer_to_last: pending.is_last(),
            since: pending.asked,
            request: Answered::Whole(pending),
            status,
            persistence,
            outcome,
            detail,
            content_length,
            head_bytes,
        }
    }

    /// The raw request line, cut if it is long, and the time when the request was whole.
    pub(super) fn request_seen(&self) -> (Vec<u8>, Instant) {
        let mut line = match &self.request {
            Answered::Whole(pending) => pending.line().to_vec(),
            Answered::Logged(logged) => logged.line.clone(),
        };
        access_log::cut(&mut line);
        (line, self.since)
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Bytes intended, the head included; `None` for a listing, whose length is unknown.
    pub(super) fn intended(&self) -> Option<u64> {
        self.content_length.map(|length| length + self.head_bytes)
    }

    pub(super) fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Whether the peer has said that its request is the last.
    pub(super) fn is_answer_to_last(&self) -> bool {
        self.is_answer_to_last
    }

    /// The outcome if all is sent.
    pub(super) fn outcome(&self) -> CloseReason {
        self.outcome
    }

    /// Time since the request was whole.
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The request, if it is to be answered anew: the file has changed, and no byte of the response
    /// has left. The limit is for a file that changes each time.
    pub(super) fn restart_after(&mut self, reason: CloseReason) -> Option<Pending> {
        match mem::replace(&mut self.request, Answered::Logged(Logged::default())) {
            Answered::Whole(mut pending)
                if reason == CloseReason::Changed && pending.restarts < MAX_RESTARTS =>
            {
                pending.restarts += 1;
                Some(pending)
            }
            request => {
                self.request = request;
                None
            }
        }
    }

    /// Drops the request but for the log's part: the response cannot be restarted any more.
    pub(super) fn keep_line_only(&mut self, service: &Shared) {
        if let Answered::Whole(pending) = &mut self.request {
            let logged = match service.journal.is_on() || service.transfers.are_observed() {
                true => pending.take_logged(),
                false => Logged::default(),
            };
            self.request = Answered::Logged(logged);
        }
    }

    /// Counts the end of the response, of which `sent` bytes were given to the kernel. Returns its
    /// access record, if there is a log.
    pub(super) fn into_record(
        self,
        sent: u64,
        outcome: CloseReason,
        peer: Peer,
        service: &Shared,
    ) -> Option<AccessRecord> {
        let duration = self.since.elapsed();
        let responses = &service.responses;
        responses.count_end(self.protocol, self.status, outcome, duration);
        if !service.journal.is_on() {
            return None;
        }
        let logged = match self.request {
            Answered::Whole(mut pending) => pending.take_logged(),
            Answered::Logged(logged) => logged,
        };
        Some(AccessRecord {
            at: SystemTime::now() - duration,
            peer,
            protocol: Some(self.protocol),
            status: self.status,
            sent: sent.saturating_sub(self.head_bytes),
            intended: self.content_length,
            duration,
            outcome,
            detail: self.detail,
            user: self.user,
            request: logged.line,
            tls: None,
            client_fields: logged.client_fields,
        })
    }
}

/// Restarts of a response for a changing file before the connection is reset.
pub(super) const MAX_RESTARTS: u8 = 8;
