//! A server's status, and the orders of its transfers.

use std::cmp::Ordering;
use std::io;

use serde::Deserialize;

/// `/transfers` of the admin interface.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) process: u32,
    pub(super) version: String,
    pub(super) uptime_seconds: u64,
    pub(super) draining: bool,
    pub(super) connections: u64,
    pub(super) connections_limit: u64,
    pub(super) requests: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_per_second: Vec<u64>,
    pub(super) transfers: Vec<Transfer>,
    /// The server that this one has taken over from, while that has transfers.
    pub(super) predecessor: Option<Box<Self>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Transfer {
    pub(super) client: String,
    pub(super) request: String,
    pub(super) sent: u64,
    pub(super) intended: Option<u64>,
    pub(super) bytes_per_second: u64,
    pub(super) seconds_left: Option<u64>,
    pub(super) waits_for: String,
    /// Whether a server that was taken over from has it.
    #[serde(skip)]
    pub(super) is_left_over: bool,
}

/// The order of transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Rate,
    Left,
    Sent,
    Client,
    Request,
}

impl Status {
    /// # Errors
    /// The answer is no status.
    pub(super) fn parse(json: &str) -> io::Result<Self> {
        let mut status: Self = serde_json::from_str(json)
            .map_err(|error| io::Error::other(format!("it is no list of transfers: {error}")))?;
        let of_others = status.predecessors().flat_map(|it| it.transfers.clone());
        let left_over: Vec<_> = of_others
            .map(|it| Transfer {
                is_left_over: true,
                ..it
            })
            .collect();
        status.transfers.extend(left_over);
        Ok(status)
    }

    /// The servers that were taken over from and have transfers left, the last one first.
    pub(super) fn predecessors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.predecessor.as_deref(), |it| it.predecessor.as_deref())
    }

    /// The transfers that hold `wanted`, in order.
    pub(super) fn found(&self, wanted: &str, order: Order, is_turned: bool) -> Vec<&Transfer> {
        let wanted = wanted.to_lowercase();
        let holds = |text: &str| text.to_lowercase().contains(&wanted);
        let transfers = self.transfers.iter();
        let mut found: Vec<_> = transfers
            .filter(|it| holds(&it.client) || holds(&it.request))
            .collect();
        found.sort_by(|one, other| order.compare(one, other));
        if is_turned {
            found.reverse();
        }
        found
    }
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Left,
            Self::Left => Self::Sent,
            Self::Sent => Self::Client,
            Self::Client => Self::Request,
            Self::Request => Self::Rate,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Left => "left",
            Self::Sent => "sent",
            Self::Client => "client",
            Self::Request => "request",
        }
    }

    /// The most interesting one first.
    fn compare(self, one: &Transfer, other: &Transfer) -> Ordering {
        let by_rate = || other.bytes_per_second.cmp(&one.bytes_per_second);
        match self {
            Self::Rate => by_rate(),
            Self::Left => {
                let left = |it: &Transfer| it.seconds_left.unwrap_or(u64::MAX);
                left(other).cmp(&left(one)).then_with(by_rate)
            }
            Self::Sent => other.sent.cmp(&one.sent).then_with(by_rate),
            Self::Client => one.client.cmp(&other.client).then_with(by_rate),
            Self::Request => one.request.cmp(&other.request).then_with(by_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_found_and_sorted() {
        let transfer = |client: &str, request: &str, rate: u64, left: &str| {
            format!(
                r#"{{"client":"{client}","request":"{request}","sent":1,"intended":2,
                "bytes_per_second":{rate},"waits_for":"peer"{left}}}"#
            )
        };
        let json = format!(
            r#"{{"version":"1","uptime_seconds":1,"draining":false,"connections":3,
            "connections_limit":9,"requests":1,"bytes_sent":1,"bytes_per_second":[1],
            "transfers":[{},{},{}]}}"#,
            transfer("10.0.0.1:5", "GET /B", 5, r#","seconds_left":7"#),
            transfer("10.0.0.2:5", "GET /a", 9, ""),
            transfer("10.0.0.3:5", "GET /c", 1, r#","seconds_left":9"#),
        );
        let status = Status::parse(&json).expect("good");
        let found = |wanted: &str, order, is_turned| {
            let found = status.found(wanted, order, is_turned);
            found.iter().map(|it| &it.request[5..]).collect::<String>()
        };
        assert_eq!(found("", Order::Rate, false), "aBc");
        assert_eq!(found("", Order::Left, false), "acB");
        assert_eq!(found("", Order::Client, true), "caB");
        assert_eq!(found("b", Order::Rate, false), "B");
        assert_eq!(found("0.0.3", Order::Rate, false), "c");
        assert!(Status::parse("{}").is_err());
        let json = json.replace("}]}", r#"}],"process":2,"predecessor":null}"#);
        let before = json
            .replace("/a", "/z")
            .replace(r#""process":2"#, r#""process":1"#);
        let both = json.replace("null", &before);
        let status = Status::parse(&both).expect("good");
        assert_eq!(
            status
                .predecessors()
                .map(|it| it.process)
                .collect::<Vec<_>>(),
            [1]
        );
        let found = status.found("z", Order::Rate, false);
        assert!(found.len() == 1 && found[0].is_left_over);
        assert_eq!(status.transfers.len(), 6);
    }
}
