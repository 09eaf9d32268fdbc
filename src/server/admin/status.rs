//! `/transfers`: the client, progress, rate and remaining time of each transfer.

use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::server::admin::observer::{Moving, Observer};
use crate::server::telemetry::Peer;

#[derive(Serialize)]
struct Status {
    process: u32,
    version: &'static str,
    /// Seconds since the server started.
    uptime_seconds: u64,
    draining: bool,
    /// Connections open, idle ones included.
    connections: usize,
    connections_limit: usize,
    requests: u64,
    bytes_sent: u64,
    /// Bytes a second over the last minutes, a value a second, the newest at the end.
    bytes_per_second: Vec<u64>,
    /// Responses that had to wait for their client, a disk, their rate or their turn.
    #[serde(serialize_with = "transfers")]
    transfers: Vec<Moving>,
    /// The same of the server that this one has taken over from, while that has transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Value>,
}

#[derive(Serialize)]
struct TransferStatus {
    connection: u64,
    client: String,
    protocol: &'static str,
    request: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Bytes given to the kernel, the head included.
    sent: u64,
    /// Bytes that had arrived when the client was last waited for.
    acknowledged: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    intended: Option<u64>,
    seconds: f64,
    bytes_per_second: u64,
    /// At this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
    waits_for: &'static str,
}

pub(super) fn encode(observer: &Observer) -> String {
    let mut moving = observer.moving();
    moving.sort_by_key(|it| std::cmp::Reverse((it.rate, it.card.facts.connection)));
    let counters = &observer.service.counters;
    let (admitted, rejected) = observer.connections();
    let status = Status {
        process: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: observer.started.elapsed().map_or(0, |it| it.as_secs()),
        draining: observer.service.is_draining(),
        connections: admitted + rejected,
        connections_limit: observer.service.connections.most(),
        requests: counters.requests.sum(),
        bytes_sent: counters.bytes_sent.sum(),
        bytes_per_second: observer.history(),
        transfers: moving,
        predecessor: observer.ask_predecessor(),
    };
    // Strings, numbers and lists always have a JSON form.
    serde_json::to_string(&status).unwrap_or_default()
}

fn transfers<S: Serializer>(moving: &[Moving], serializer: S) -> Result<S::Ok, S::Error> {
    let mut transfers = serializer.serialize_seq(Some(moving.len()))?;
    for moving in moving {
        transfers.serialize_element(&TransferStatus::new(moving))?;
    }
    transfers.end()
}

impl TransferStatus {
    fn new(moving: &Moving) -> Self {
        let card = &moving.card;
        let sent = card.sent();
        let left = card
            .facts
            .intended
            .map(|intended| intended.saturating_sub(sent));
        Self {
            connection: card.facts.connection,
            client: match card.facts.peer {
                Peer::Inet(address) => address.to_string(),
                peer @ Peer::Unix { .. } => peer.to_string(),
            },
            protocol: card.facts.protocol.word(),
            request: String::from_utf8_lossy(&card.facts.request).into_owned(),
            status: (card.facts.status != 0).then_some(card.facts.status),
            sent,
            acknowledged: card.acknowledged(),
            intended: card.facts.intended,
            seconds: (card.facts.begun.elapsed().as_secs_f64() * 1e3).round() / 1e3,
            bytes_per_second: moving.rate,
            seconds_left: left
                .filter(|_| moving.rate > 0)
                .map(|left| left / moving.rate.max(1)),
            waits_for: card.waits_for().word(),
        }
    }
}
