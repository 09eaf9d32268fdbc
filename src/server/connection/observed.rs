//! The card of a connection, for observers.

use std::net::TcpStream;
use std::sync::Arc;

use crate::server::connection::send::{SendStep, Sending};
use crate::server::shared::Shared;
use crate::server::telemetry::Peer;
use crate::server::telemetry::transfers::{TransferCard, TransferFacts, WaitsFor};
use crate::sys::socket;

/// A connection's card and counts; empty without observers.
#[derive(Debug, Default)]
pub(super) struct Observed(Option<Box<Account>>);

#[derive(Debug, Default)]
struct Account {
    /// Of the response under way, once it had to wait.
    card: Option<Arc<TransferCard>>,
    /// Bytes of earlier responses.
    before: u64,
    /// Bytes that were counted as acknowledged.
    acknowledged: u64,
}

impl Observed {
    pub(super) fn new(service: &Shared) -> Self {
        let is_observed = service.transfers.are_observed();
        Self(is_observed.then(Box::default))
    }

    /// A response has to wait.
    pub(super) fn note_step(
        &mut self,
        step: &SendStep,
        sending: &Sending,
        (connection, peer): (u64, Peer),
        stream: &TcpStream,
        service: &Shared,
    ) {
        let Some(account) = &mut self.0 else { return };
        let waits_for = match step {
            SendStep::Blocked(_) => WaitsFor::Peer,
            SendStep::Throttled(_) => WaitsFor::Rate,
            SendStep::Disk(_) | SendStep::Paused(..) => WaitsFor::Disk,
            SendStep::Spent => WaitsFor::Turn,
            SendStep::Done | SendStep::Broken(_) => return,
        };
        let card = account.card.get_or_insert_with(|| {
            let exchange = sending.exchange();
            let (request, begun) = exchange.request_seen();
            let card = TransferCard::new(TransferFacts {
                connection,
                peer,
                protocol: exchange.protocol(),
                request,
                status: exchange.status(),
                intended: exchange.intended(),
                begun,
            });
            service.transfers.show(&card);
            card
        });
        card.note(sending.sent(), waits_for);
        if matches!(waits_for, WaitsFor::Peer | WaitsFor::Rate) {
            let before = account.before;
            let acknowledged = account.count_acknowledged(sending.sent(), stream, service);
            if let Some(card) = &account.card {
                card.note_acknowledged(acknowledged.saturating_sub(before));
            }
        }
    }

    /// The response has ended.
    pub(super) fn note_end(&mut self, sent: u64) {
        if let Some(account) = &mut self.0 {
            account.card = None;
            account.before += sent;
        }
    }

    /// The connection ends; `sent` are bytes of a response under way.
    pub(super) fn note_close(&mut self, sent: u64, stream: &TcpStream, service: &Shared) {
        if let Some(account) = &mut self.0 {
            account.count_acknowledged(sent, stream, service);
        }
    }
}

impl Account {
    /// Counts newly acknowledged bytes; returns all of them.
    fn count_acknowledged(&mut self, sent: u64, stream: &TcpStream, service: &Shared) -> u64 {
        let outstanding = socket::unacknowledged(stream).unwrap_or(0);
        let arrived = (self.before + sent).saturating_sub(outstanding);
        let news = arrived.saturating_sub(self.acknowledged);
        service.counters.bytes_acknowledged.add(news);
        self.acknowledged += news;
        self.acknowledged
    }
}
