//! `/metrics`, in the text format of OpenMetrics, or in the older one of Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::http::{MetricsFormat, Protocol};
use crate::server::admin::observer::Observer;
use crate::server::admin::process::Usage;
use crate::server::telemetry::histogram::{BOUNDS, Distribution};
use crate::server::telemetry::responses::ResponseCounts;
use crate::server::telemetry::transfers::WaitsFor;
use crate::server::telemetry::{CloseReason, HandshakeFailure, Snapshot};
use crate::tls::server::ServerTls;

/// All metrics now, and their media type.
pub(super) fn encode(observer: &Observer, format: MetricsFormat) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sample::take(observer)));
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let (content_type, _) = match format {
        MetricsFormat::Prometheus => (
            prometheus_text::CONTENT_TYPE,
            prometheus_text::encode(&mut text, &registry),
        ),
        MetricsFormat::OpenMetrics => (OPEN_METRICS, text::encode(&mut text, &registry)),
    };
    (content_type, text)
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The values of all metrics at one moment.
#[derive(Debug)]
struct Sample {
    counters: Snapshot,
    responses: ResponseCounts,
    connections: [(&'static str, usize); 6],
    limits: [(&'static str, usize, usize); 2],
    disks: Vec<(String, [u64; 3])>,
    is_draining: bool,
    started: f64,
    usage: Usage,
    /// The end of each certificate, since 1970.
    certificates: BTreeMap<PathBuf, Duration>,
}

impl Sample {
    fn take(observer: &Observer) -> Self {
        let service = &observer.service;
        let moving = observer.moving();
        let (admitted, rejected) = observer.connections();
        let counts = Observer::counts(&moving);
        let waiting = |what: WaitsFor| counts[what as usize];
        let others = admitted.saturating_sub(moving.len());
        let started = observer.started.duration_since(UNIX_EPOCH);
        Self {
            counters: service.counters.snapshot(),
            responses: service.responses.counts(),
            connections: [
                ("waits_for_peer", waiting(WaitsFor::Peer)),
                ("waits_for_disk", waiting(WaitsFor::Disk)),
                ("waits_for_rate", waiting(WaitsFor::Rate)),
                ("waits_for_turn", waiting(WaitsFor::Turn)),
                ("between_responses", others),
                ("turned_away", rejected),
            ],
            limits: [
                ("connections", admitted, service.connections.most()),
                ("large_transfers", service.bulk.taken(), service.bulk.most()),
            ],
            disks: observer
                .disks()
                .iter()
                .map(|gauge| (gauge.file_system(), gauge.counts()))
                .collect(),
            is_draining: service.is_draining(),
            started: started.map_or(0.0, |it| it.as_secs_f64()),
            usage: Usage::now(),
            certificates: (service.tls.as_ref()).map_or_else(BTreeMap::new, ServerTls::expiries),
        }
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut family = out.gauge("haul_connections", "Connections open, by state")?;
        for (state, count) in self.connections {
            family
                .encode_family(&[("state", state)])?
                .encode_gauge(&(count as u64))?;
        }
        let mut family = out.gauge("haul_limit_used", "How much of a limit is taken")?;
        for (limit, used, _) in self.limits {
            family
                .encode_family(&[("limit", limit)])?
                .encode_gauge(&(used as u64))?;
        }
        let mut family = out.gauge("haul_limit", "How much of something there may be at once")?;
        for (limit, _, most) in self.limits {
            family
                .encode_family(&[("limit", limit)])?
                .encode_gauge(&(most as u64))?;
        }
        let counters = &self.counters;
        out.count(
            "haul_connections_accepted",
            "Connections accepted",
            counters.accepted,
        )?;
        let help = "Connections closed, by reason; `overloaded` is a limit that was hit";
        let mut family = out.counter("haul_connections_closed", help)?;
        for reason in CloseReason::ALL {
            let labels = [("reason", reason.word())];
            family
                .encode_family(&labels)?
                .encode_counter::<Labels, _, u64>(&counters.closed(*reason), None)?;
        }
        let help =
            "Errors of accept(2): of the one connection, or for want of descriptors or memory";
        let mut family = out.counter("haul_accept_errors", help)?;
        for (kind, count) in [
            ("connection", counters.accept_errors),
            ("exhausted", counters.accept_exhausted),
        ] {
            family
                .encode_family(&[("kind", kind)])?
                .encode_counter::<Labels, _, u64>(&count, None)?;
        }
        let draining = u64::from(self.is_draining);
        out.gauge("haul_draining", "Whether the server is about to end")?
            .encode_gauge(&draining)
    }

    fn responses(&self, out: &mut Out<'_>) -> fmt::Result {
        let (counters, responses) = (&self.counters, &self.responses);
        out.count(
            "haul_requests",
            "Requests received whole",
            counters.requests,
        )?;
        let help = "Responses ended, by protocol and class of status";
        let mut family = out.counter("haul_responses", help)?;
        for (protocol, classes) in Protocol::ALL.into_iter().zip(&responses.by_status) {
            for (class, count) in classes.iter().enumerate() {
                let class = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"][class];
                if *count > 0 || class == "2xx" {
                    let labels = [("protocol", protocol.word()), ("status", class)];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<Labels, _, u64>(count, None)?;
                }
            }
        }
        let help = "Responses ended, by outcome; `complete` is the good one";
        let mut family = out.counter("haul_response_outcomes", help)?;
        for (reason, count) in CloseReason::ALL.iter().zip(&responses.by_outcome) {
            let labels = [("outcome", reason.word())];
            family
                .encode_family(&labels)?
                .encode_counter::<Labels, _, u64>(count, None)?;
        }
        let help = "From the whole request to the last byte of its response";
        out.histogram("haul_response_duration_seconds", help, &responses.duration)?;
        let help = "From the whole request to the first byte of its response";
        out.histogram(
            "haul_response_first_byte_seconds",
            help,
            &responses.first_byte,
        )?;
        let help = "Bytes given to the kernel, heads included";
        out.count("haul_sent_bytes", help, counters.bytes_sent)?;
        let help = "Bytes that clients acknowledged, counted when a client is waited for or leaves";
        out.count("haul_acknowledged_bytes", help, counters.bytes_acknowledged)
    }

    fn tls(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = &self.counters;
        let mut family = out.counter("haul_tls_handshakes", "TLS handshakes done, by version")?;
        for (version, count) in [
            ("1.2", counters.handshakes_tls12),
            ("1.3", counters.handshakes_tls13),
        ] {
            family
                .encode_family(&[("version", version)])?
                .encode_counter::<Labels, _, u64>(&count, None)?;
        }
        let help = "TLS handshakes done that resumed an earlier session";
        out.count(
            "haul_tls_handshakes_resumed",
            help,
            counters.handshakes_resumed,
        )?;
        let help = "TLS handshakes that failed, by reason";
        let mut family = out.counter("haul_tls_handshakes_failed", help)?;
        for failure in HandshakeFailure::ALL {
            family
                .encode_family(&[("reason", failure.word())])?
                .encode_counter::<Labels, _, u64>(&counters.handshakes_failed(*failure), None)?;
        }
        let help = "TLS connections whose records the kernel took over, from a large response on";
        out.count("haul_tls_kernel_connections", help, counters.kernel_tls)?;
        let help = "When a certificate, or one of its issuers, expires, since 1970";
        let name = "haul_tls_certificate_not_after_seconds";
        let mut family = out.gauge(name, help)?;
        for (file, end) in &self.certificates {
            let file = file.to_string_lossy();
            family
                .encode_family(&[("file", &*file)])?
                .encode_gauge(&end.as_secs())?;
        }
        Ok(())
    }

    fn work(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = &self.counters;
        let help = "Turns of a worker in which it had to wait all the same";
        out.count("haul_worker_stalls", help, counters.hot_waits)?;
        let help = "Times a connection waited for its socket";
        out.count("haul_parks", help, counters.parks)?;
        let help = "Times a connection gave way to others";
        out.count("haul_yields", help, counters.yields)?;
        let help = "Connections that went from a busy worker to an idle one";
        out.count("haul_handovers", help, counters.handovers)?;
        let help = "Times a connection went through the disk lane";
        out.count("haul_disk_visits", help, counters.disk_visits)?;
        let mut family = out.counter("haul_disk_extents", "Extents, by what the disk lane did")?;
        for (what, count) in [
            ("read", counters.extents_warmed),
            ("shared", counters.extents_shared),
            ("sent", counters.extents_sent_cold),
        ] {
            family
                .encode_family(&[("what", what)])?
                .encode_counter::<Labels, _, u64>(&count, None)?;
        }
        let help = "Directories read from their beginning for a listing";
        out.count("haul_listing_scans", help, counters.listing_scans)?;
        let help = "Pages of a directory that joined a scan for another request";
        out.count("haul_listings_shared", help, counters.listings_shared)?;
        for (at, name, help) in [
            (0, "haul_disk_jobs_waiting", "Jobs in line, by file system"),
            (
                1,
                "haul_disk_jobs_running",
                "Jobs that wait for a disk, by file system",
            ),
        ] {
            let mut family = out.gauge(name, help)?;
            for (file_system, counts) in &self.disks {
                let labels = [("file_system", file_system.as_str())];
                family.encode_family(&labels)?.encode_gauge(&counts[at])?;
            }
        }
        let mut family = out.counter("haul_disk_jobs", "Jobs done, by file system")?;
        for (file_system, counts) in &self.disks {
            let labels = [("file_system", file_system.as_str())];
            family
                .encode_family(&labels)?
                .encode_counter::<Labels, _, u64>(&counts[2], None)?;
        }
        let help = "Bodies sent by read and write since sendfile(2) refuses the file";
        out.count("haul_copied_bodies", help, counters.copied_bodies)?;
        let help = "Lines that the access log lost";
        out.count("haul_log_lines_lost", help, counters.log_lines_lost)?;
        out.count("haul_panics", "Jobs that panicked", counters.panics)
    }

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut info = out.gauge("haul_build_info", "The version that runs")?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        info.encode_family(&labels)?.encode_gauge(&1u64)?;
        let usage = &self.usage;
        if let Some(seconds) = usage.cpu_seconds {
            out.counter("process_cpu_seconds", "Processor time of user and system")?
                .encode_counter::<Labels, _, u64>(&seconds, None)?;
        }
        out.gauge("process_start_time_seconds", "When the server started")?
            .encode_gauge(&self.started)?;
        for (name, help, value) in [
            (
                "process_virtual_memory_bytes",
                "Memory mapped",
                usage.virtual_bytes,
            ),
            (
                "process_resident_memory_bytes",
                "Memory in use",
                usage.resident_bytes,
            ),
            ("process_threads", "Threads", usage.threads),
            ("process_open_fds", "Descriptors open", usage.open_files),
            (
                "process_max_fds",
                "Descriptors that may be open",
                Some(usage.most_open_files),
            ),
        ] {
            if let Some(value) = value {
                out.gauge(name, help)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.connections(&mut out)?;
        self.responses(&mut out)?;
        self.tls(&mut out)?;
        self.work(&mut out)?;
        self.process(&mut out)
    }
}

type Labels = [(&'static str, &'static str); 0];

/// Where metrics are written to.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0
            .encode_descriptor(name, help, None, MetricType::Gauge)
    }

    /// `_total` is added to the name.
    fn counter<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)
    }

    fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counter(name, help)?
            .encode_counter::<Labels, _, u64>(&value, None)
    }

    fn histogram(&mut self, name: &str, help: &str, found: &Distribution) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(found.counts).collect();
        let count = found.counts.iter().sum();
        self.0
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<Labels>(found.sum, count, &buckets, None)
    }
}
