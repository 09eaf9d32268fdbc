//! The report of a run: figures to print, to store and to compare.

use std::collections::BTreeMap;
use std::fmt;

use bytesize::ByteSize;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Usage;
use super::tally::Tally;

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Whole answers received.
    pub requests: u64,
    /// Bytes of content received, those of unfinished answers included.
    pub bytes: u64,
    /// Content a second, in GiB.
    pub gib_per_second: f64,
    /// Whole answers a second.
    pub requests_per_second: f64,
    /// From the moment a request was meant to be sent to the last byte of its answer.
    pub latency: Spread,
    /// From the moment a request was meant to be sent to the first byte of its answer.
    pub first_byte: Spread,
    /// From the start of a connect to its completion.
    pub connect: Spread,
    /// From the end of a connect to the end of the TLS handshake; absent without https.
    pub handshake: Option<Spread>,
    /// How evenly the connections were served; absent with fewer than two.
    pub fairness: Option<Fairness>,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, u64>,
    /// Connections made.
    pub connects: u64,
    /// Requests sent again because a kept-alive connection had been closed meanwhile.
    pub repeats: u64,
    /// Requests that were due by the rate, but never found a free connection.
    pub unsent: u64,
    /// Connections that sent a request and then read nothing.
    pub stalled: usize,
    /// The most bytes one `recv` may take. The size moves processor time between the two ends, so
    /// only runs with the same value are comparable.
    pub receive_bytes: usize,
    /// The digests of the received content, by URL (BLAKE3); only with `--verify` and without
    /// ranges.
    pub digests: BTreeMap<String, String>,
    /// The server's usage; only with `--pid`.
    pub server: Option<ServerUsage>,
}

/// The distribution of a duration, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The arithmetic mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// The 90th percentile.
    pub p90_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
    /// The largest value.
    pub max_us: f64,
}

/// How evenly connections were served, by bytes of content.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fairness {
    /// Bytes of the slowest connection over those of the fastest.
    pub slowest_over_fastest: f64,
    /// Jain's index: 1 if all got the same, 1/n if one got all.
    pub jain: f64,
}

/// The usage of a local server's processes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerUsage {
    /// User and system time in the measured time, in seconds.
    pub cpu_seconds: f64,
    /// The same over the content sent, in seconds per GiB.
    pub cpu_seconds_per_gib: f64,
    /// The same over the whole answers, in microseconds.
    pub cpu_us_per_request: f64,
    /// Resident memory before the first connection, in bytes.
    pub resident_bytes_before: u64,
    /// Resident memory at the end, with all connections open, in bytes.
    pub resident_bytes: u64,
    /// Processes at the end.
    pub processes: u64,
    /// Threads at the end.
    pub threads: u64,
    /// Memory of all TCP sockets of the machine at the end, in bytes.
    pub tcp_memory_bytes: u64,
}

impl LoadReport {
    pub(super) fn new(tally: &Tally, seconds: f64) -> Self {
        Self {
            seconds,
            requests: tally.requests,
            bytes: tally.bytes,
            gib_per_second: ratio(tally.bytes as f64 / GIB, seconds),
            requests_per_second: ratio(tally.requests as f64, seconds),
            latency: Spread::of(&tally.latency),
            first_byte: Spread::of(&tally.first_byte),
            connect: Spread::of(&tally.connect),
            handshake: (!tally.handshake.is_empty()).then(|| Spread::of(&tally.handshake)),
            fairness: Fairness::of(&tally.shares),
            errors: tally
                .failures
                .iter()
                .map(|(kind, &n)| (kind.to_string(), n))
                .collect(),
            connects: tally.connects,
            repeats: tally.repeats,
            unsent: tally.unsent,
            stalled: 0,
            receive_bytes: 0,
            digests: BTreeMap::new(),
            server: None,
        }
    }
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            mean_us: histogram.mean() / 1_000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1_000.0,
        }
    }
}

impl Fairness {
    fn of(shares: &[u64]) -> Option<Self> {
        let (slowest, fastest) = (*shares.iter().min()?, *shares.iter().max()?);
        if shares.len() < 2 || fastest == 0 {
            return None;
        }
        let sum: f64 = shares.iter().map(|&share| share as f64).sum();
        let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
        Some(Self {
            slowest_over_fastest: slowest as f64 / fastest as f64,
            jain: sum.powi(2) / (shares.len() as f64 * squares),
        })
    }
}

impl ServerUsage {
    pub(super) fn between(idle: Usage, begin: Usage, end: Usage, tally: &Tally, tcp: u64) -> Self {
        let cpu_seconds = end.cpu_seconds - begin.cpu_seconds;
        Self {
            cpu_seconds,
            cpu_seconds_per_gib: ratio(cpu_seconds, tally.bytes as f64 / GIB),
            cpu_us_per_request: ratio(cpu_seconds * 1e6, tally.requests as f64),
            resident_bytes_before: idle.resident_bytes,
            resident_bytes: end.resident_bytes,
            processes: end.processes,
            threads: end.threads,
            tcp_memory_bytes: tcp,
        }
    }
}

impl fmt::Display for LoadReport {
    /// A table of two columns, and lines for optional figures.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |out: &mut fmt::Formatter<'_>, name: &str, value: String| {
            writeln!(out, "{name:<12} {value}")
        };
        row(out, "measured", format!("{:.2} s", self.seconds))?;
        row(
            out,
            "throughput",
            format!("{:.3} GiB/s", self.gib_per_second),
        )?;
        row(out, "content", ByteSize::b(self.bytes).to_string())?;
        row(
            out,
            "requests",
            format!(
                "{} whole, {:.1} a second",
                self.requests, self.requests_per_second
            ),
        )?;
        for (name, spread) in [
            ("latency", &self.latency),
            ("first byte", &self.first_byte),
            ("connect", &self.connect),
        ] {
            row(out, name, spread.to_string())?;
        }
        if let Some(handshake) = &self.handshake {
            row(out, "handshake", handshake.to_string())?;
        }
        if let Some(fairness) = &self.fairness {
            row(
                out,
                "fairness",
                format!(
                    "slowest over fastest {:.3}, Jain's index {:.4}",
                    fairness.slowest_over_fastest, fairness.jain
                ),
            )?;
        }
        row(
            out,
            "connections",
            format!(
                "{} made, {} stalled, {} repeats",
                self.connects, self.stalled, self.repeats
            ),
        )?;
        if self.unsent > 0 {
            row(
                out,
                "unsent",
                format!("{} requests were due and found no connection", self.unsent),
            )?;
        }
        if let Some(server) = &self.server {
            row(
                out,
                "server",
                format!(
                    "{:.2} CPU-s, {:.4} per GiB, {:.1} us per request",
                    server.cpu_seconds, server.cpu_seconds_per_gib, server.cpu_us_per_request
                ),
            )?;
            row(
                out,
                "memory",
                format!(
                    "{} resident ({} before), {} in TCP, {} processes, {} threads",
                    ByteSize::b(server.resident_bytes),
                    ByteSize::b(server.resident_bytes_before),
                    ByteSize::b(server.tcp_memory_bytes),
                    server.processes,
                    server.threads
                ),
            )?;
        }
        for (url, digest) in &self.digests {
            row(out, "digest", format!("{digest} {url}"))?;
        }
        if self.errors.is_empty() {
            return row(out, "errors", "none".to_owned());
        }
        for (kind, count) in &self.errors {
            row(out, "error", format!("{count} x {kind}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "p50 {:.0} us, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}

/// A quotient that is 0 where nothing was measured, since JSON has no infinity.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 {
        dividend / divisor
    } else {
        0.0
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_has_the_two_ends_jain_gave_it() {
        let fairness = |shares: &[u64]| {
            Fairness::of(shares).map(|fair| (fair.slowest_over_fastest, fair.jain))
        };
        assert_eq!(fairness(&[7, 7, 7, 7]), Some((1.0, 1.0)));
        assert_eq!(fairness(&[8, 0, 0, 0]), Some((0.0, 0.25)));
        assert_eq!(fairness(&[8]), None);
        assert_eq!(fairness(&[0, 0]), None);
    }

    #[test]
    fn nothing_measured_gives_no_infinities() {
        let report = LoadReport::new(&Tally::new(1), 0.0);
        assert_eq!(
            (report.gib_per_second, report.requests_per_second),
            (0.0, 0.0)
        );
    }
}
