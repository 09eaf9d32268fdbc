//! The options that bound connections and rates.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use haul::diagnostics::say;
use haul::server::config::{ConnectionLimits, MinRate, Rates, ServeConfig};

use crate::cli::values::{positive_duration, positive_size};

/// How much one connection, one client and all together may have.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Connections at once [default: what the limit on open files allows]
    #[arg(long, env = "HAUL_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<NonZeroUsize>,

    /// Connections of one address at once, and half as many as of an IPv6 /64 [default: a quarter
    /// of all connections for clients on other hosts; no limit for those on this one]
    #[arg(long, env = "HAUL_MAX_PER_CLIENT", value_name = "N")]
    max_per_client: Option<NonZeroUsize>,

    /// Transfers of large files at once; more are answered with 503 [default: 15/16 of the
    /// connections, so that small requests always find room]
    #[arg(
        long,
        alias = "max-bulk",
        env = "HAUL_MAX_LARGE_TRANSFERS",
        value_name = "N"
    )]
    max_large_transfers: Option<NonZeroUsize>,

    /// Bytes a second that one connection may have
    #[arg(long, env = "HAUL_RATE", value_name = "SIZE", value_parser = positive_size)]
    rate: Option<u64>,

    /// Bytes a second that one client may have over all its connections
    #[arg(long, env = "HAUL_CLIENT_RATE", value_name = "SIZE", value_parser = positive_size)]
    client_rate: Option<u64>,

    /// Bytes a second that all connections together may have
    #[arg(long, env = "HAUL_TOTAL_RATE", value_name = "SIZE", value_parser = positive_size)]
    total_rate: Option<u64>,

    /// Close connections whose client takes fewer bytes a second than this
    #[arg(long, env = "HAUL_MIN_RATE", value_name = "SIZE", value_parser = positive_size)]
    min_rate: Option<u64>,

    /// The time over which --min-rate is measured
    #[arg(long, env = "HAUL_MIN_RATE_GRACE", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    min_rate_grace: Duration,
}

impl LimitArgs {
    pub(super) fn connection_limits(&self, open_files: u64, workers: usize) -> ConnectionLimits {
        let allowed = allowed_connections(open_files, workers);
        let connections = self.max_connections.map_or(allowed, NonZeroUsize::get);
        let connections = connections.min(MAX_CONNECTIONS);
        let limits = ConnectionLimits::for_connections(connections);
        ConnectionLimits {
            connections,
            connections_per_client: self
                .max_per_client
                .map_or(limits.connections_per_client, NonZeroUsize::get),
            connections_per_remote_client: self
                .max_per_client
                .map_or(limits.connections_per_remote_client, NonZeroUsize::get),
            bulk_transfers: self
                .max_large_transfers
                .map_or(limits.bulk_transfers, NonZeroUsize::get),
        }
    }

    pub(super) fn rates(&self) -> Rates {
        let grace = self.min_rate_grace;
        let least = |bytes_per_second| MinRate {
            bytes_per_second,
            grace,
        };
        Rates {
            connection: self.rate,
            client: self.client_rate,
            total: self.total_rate,
            least: self.min_rate.map(least),
        }
    }
}

/// How many connections a limit on open files allows for.
fn allowed_connections(open_files: u64, workers: usize) -> usize {
    let workers = workers.saturating_mul(WORKERS_OPEN_FILES);
    (spare_files(open_files).saturating_sub(workers) / FILES_OF_A_CONNECTION).max(1)
}

/// The descriptors besides those that haul needs itself.
fn spare_files(open_files: u64) -> usize {
    let allowed = usize::try_from(open_files).unwrap_or(usize::MAX);
    allowed.min(MAX_OPEN_FILES).saturating_sub(OWN_OPEN_FILES)
}

/// The most workers that leave half of the descriptors for connections.
pub(super) fn most_workers(open_files: u64) -> NonZeroUsize {
    let most = spare_files(open_files) / 2 / WORKERS_OPEN_FILES;
    NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)
}

/// Checks that workers leave descriptors for connections.
pub(super) fn check_workers(open_files: u64, workers: usize) -> Result<(), String> {
    let wanted = workers.saturating_mul(WORKERS_OPEN_FILES) + FILES_OF_A_CONNECTION;
    match wanted <= spare_files(open_files) {
        true => Ok(()),
        false => Err(format!(
            "{workers} workers (--workers) with {WORKERS_OPEN_FILES} open files each, and \
             {OWN_OPEN_FILES} of haul's own, leave no connection any of the {open_files} that the \
             limit allows: raise it with `ulimit -n` or systemd's LimitNOFILE="
        )),
    }
}

/// Says so where `--max-connections` is more than the limit on open files allows for.
pub(super) fn warn_of_connections_without_files(config: &ServeConfig, open_files: u64) {
    let (asked, allowed) = (
        config.limits.connections,
        allowed_connections(open_files, config.workers.get()),
    );
    if asked > allowed {
        say(format_args!(
            "haul: --max-connections {asked} is more than the limit of {open_files} open files \
             allows for ({allowed}, each with a file of its own); beyond that newcomers wait. \
             Raise the limit with `ulimit -n` or systemd's LimitNOFILE="
        ));
    }
}

/// Its socket and its file.
const FILES_OF_A_CONNECTION: usize = 2;
/// Descriptors that haul needs besides connections and files.
const OWN_OPEN_FILES: usize = 64;
/// Descriptors that each worker needs for itself: a poller, its wake-up, both ends of a pipe.
const WORKERS_OPEN_FILES: usize = 4;
/// More connections than Linux has descriptors for.
const MAX_CONNECTIONS: usize = 1 << 22;
/// A higher limit would cost memory of tables and channels for connections that never exist.
const MAX_OPEN_FILES: usize = 1 << 20;
