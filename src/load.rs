//! A load generator that measures the server.
//!
//! Content is received with `MSG_TRUNC`, so that the kernel discards it without a copy: the
//! generator costs little, and the measurement is of the server. [`Bodies::Verify`] reads and
//! hashes instead. Each thread drives many connections from one `epoll` set.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::dial::Dialer;
pub use crate::dial::Family;
use crate::sys::resources;
pub use crate::tls::client::ClientTls;
use crate::tls::client::Connector;

mod config;
mod connection;
mod exchange;
mod generator;
mod phase;
mod process;
mod report;
mod stall;
mod stream;
mod tally;
mod target;
mod thread_context;

pub use config::{Bodies, LoadConfig, Pace, RunLength};
pub use report::{Fairness, LoadReport, ServerUsage, Spread};
pub use tally::Failure;
pub use target::{TargetError, WeightedUrl};

use generator::{Generator, LiveCounts, Run, TargetGroup, ThreadResult};
use process::Usage;
use tally::Tally;
use target::Target;

/// The counts of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Since the first connect.
    pub elapsed: Duration,
    /// Bytes of content since the ramp ended.
    pub bytes: u64,
    /// Whole answers since the ramp ended.
    pub requests: u64,
    /// Failed requests since the ramp ended.
    pub failures: u64,
    /// Open connections.
    pub open: u64,
}

/// Why a run could not take place.
#[derive(Debug)]
pub enum LoadError {
    /// Fewer connections than servers, so that one server would get no request.
    TooFewConnections {
        /// The number of different servers among the URLs.
        servers: usize,
    },
    /// A host has no address.
    Target(TargetError),
    /// More connections than files may be open.
    TooManyConnections {
        /// The configured connections.
        connections: usize,
        /// How many there may be.
        limit: u64,
    },
    /// No such process, or `/proc` does not show it.
    NoSuchProcess(u32),
    /// The kernel refused a thread's poller.
    Readiness(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewConnections { servers } => write!(
                out,
                "the URLs name {servers} servers, and each needs a connection: raise --connections"
            ),
            Self::TooManyConnections { connections, limit } => write!(
                out,
                "{connections} connections are more than the {limit} that the limit on open files \
                 allows for; raise it with `ulimit -n`"
            ),
            Self::Target(error) => error.fmt(out),
            Self::NoSuchProcess(pid) => {
                write!(
                    out,
                    "no process {pid}: --pid takes the number of a running local server"
                )
            }
            Self::Readiness(error) => write!(out, "cannot wait for sockets: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Runs the load, shows a [`Progress`] to `observe` several times a second, and ends early once `stop`
/// is set.
///
/// # Errors
/// [`LoadError`] if nothing could be sent at all. Failures of a running load are counted in the
/// report.
pub fn run(
    config: &LoadConfig,
    stop: &AtomicBool,
    mut observe: impl FnMut(Progress),
) -> Result<LoadReport, LoadError> {
    let connections = config.connections.saturating_add(config.stalled);
    let limit = resources::open_files().saturating_sub(OWN_FILES);
    if connections as u64 > limit {
        return Err(LoadError::TooManyConnections { connections, limit });
    }
    let targets = resolve(config, stop)?;
    let groups = groups(&targets, config.connections)?;
    let idle = usage(config)?;
    let mut tally = Tally::new(0);
    let connector = Connector::new(config.tls.clone());
    let stalled = stall::hold(&targets[0], config.stalled, &connector, stop, &mut tally);
    let run = Run {
        config,
        targets: &targets,
        connector: &connector,
        begin: Instant::now(),
        stop,
        remaining: AtomicI64::new(match config.extent {
            RunLength::For(_) => 0,
            RunLength::Requests(requests) => i64::try_from(requests).unwrap_or(i64::MAX),
        }),
    };
    let generators = share_out(&run, groups)?;
    let mut begin = usage(config)?;
    let live: Vec<LiveCounts> = generators.iter().map(|_| LiveCounts::default()).collect();
    let (done, results) = mpsc::channel();
    let left = thread::scope(|scope| {
        for (generator, live) in generators.into_iter().zip(&live) {
            let done = done.clone();
            let failed = done.clone();
            let work = move || {
                done.send(generator.run(live))
                    .expect("the receiver outlives the scope");
            };
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, work) {
                stop.store(true, Ordering::Relaxed);
                let _ = failed.send(Err(error));
            }
        }
        drop(done);
        collect(&run, &live, &results, &mut begin, &mut observe)
    })
    .map_err(LoadError::Readiness)?;
    let end = usage(config)?;
    let ended = left
        .iter()
        .map(|part| part.ended)
        .max()
        .unwrap_or(run.begin);
    for part in left {
        tally.merge(part.tally);
    }
    let seconds = ended
        .saturating_duration_since(run.measured_from())
        .as_secs_f64();
    let mut report = LoadReport::new(&tally, seconds);
    report.stalled = stalled.len();
    report.receive_bytes = config.receive_bytes;
    report.server = idle.zip(begin).zip(end).map(|((idle, begin), end)| {
        let tcp = process::tcp_memory_bytes().unwrap_or_default();
        ServerUsage::between(idle, begin, end, &tally, tcp)
    });
    for (&(target, range), digest) in &tally.digests {
        if range.is_none() {
            report
                .digests
                .insert(config.urls[target].to_string(), digest.to_hex().to_string());
        }
    }
    Ok(report)
}

fn resolve(config: &LoadConfig, stop: &AtomicBool) -> Result<Vec<Target>, LoadError> {
    let dialer = Dialer::new(config.family);
    let (persistence, timeout) = (config.persistence, config.timeout);
    let resolve = |url| Target::resolve(url, persistence, &dialer, timeout, stop);
    let urls = config.urls.iter();
    urls.map(|url| resolve(url).map_err(LoadError::Target))
        .collect()
}

/// Gives each connection the targets of one server, servers in proportion to their weight: a kept
/// connection cannot change its server.
fn groups(targets: &[Target], connections: usize) -> Result<Vec<TargetGroup>, LoadError> {
    let mut servers: Vec<TargetGroup> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let known = servers
            .iter_mut()
            .find(|group| targets[group.targets[0]].has_same_server(target));
        match known {
            Some(group) => {
                group.targets.push(index);
                group.weight = group.weight.saturating_add(target.weight);
            }
            None => servers.push(TargetGroup {
                targets: vec![index],
                weight: target.weight,
            }),
        }
    }
    if servers.len() > connections {
        return Err(LoadError::TooFewConnections {
            servers: servers.len(),
        });
    }
    let mut given = vec![0_u32; servers.len()];
    let mut groups = Vec::with_capacity(connections);
    for _ in 0..connections {
        // The server that has the fewest connections for its weight, so that each has one.
        let hungriest = (0..servers.len())
            .min_by(|&a, &b| {
                let share =
                    |server: usize| f64::from(given[server]) / f64::from(servers[server].weight);
                share(a).total_cmp(&share(b))
            })
            .unwrap_or_default();
        given[hungriest] += 1;
        groups.push(servers[hungriest].clone());
    }
    Ok(groups)
}

fn share_out<'run>(
    run: &'run Run<'run>,
    groups: Vec<TargetGroup>,
) -> Result<Vec<Generator<'run>>, LoadError> {
    let threads = run.config.threads.clamp(1, groups.len().max(1));
    let mut shares = vec![Vec::new(); threads];
    for (index, group) in groups.into_iter().enumerate() {
        shares[index % threads].push(group);
    }
    shares
        .into_iter()
        .enumerate()
        .map(|(index, groups)| Generator::new(run, index, groups).map_err(LoadError::Readiness))
        .collect()
}

/// Waits for the threads, observes them meanwhile, and reads the server's usage when the ramp ends.
fn collect(
    run: &Run<'_>,
    live: &[LiveCounts],
    results: &mpsc::Receiver<io::Result<ThreadResult>>,
    begin: &mut Option<Usage>,
    observe: &mut impl FnMut(Progress),
) -> io::Result<Vec<ThreadResult>> {
    let mut left = Vec::with_capacity(live.len());
    let mut ramping = !run.config.ramp.is_zero();
    loop {
        let until_measured = run
            .measured_from()
            .saturating_duration_since(Instant::now());
        if ramping && until_measured.is_zero() {
            ramping = false;
            *begin = run.config.server.and_then(process::read);
        }
        let patience = if ramping {
            OBSERVE.min(until_measured)
        } else {
            OBSERVE
        };
        match results.recv_timeout(patience) {
            Ok(part) => left.push(part?),
            Err(RecvTimeoutError::Timeout) => observe(progress(run, live)),
            Err(RecvTimeoutError::Disconnected) => return Ok(left),
        }
    }
}

fn progress(run: &Run<'_>, live: &[LiveCounts]) -> Progress {
    let mut progress = Progress {
        elapsed: run.begin.elapsed(),
        ..Progress::default()
    };
    for live in live {
        progress.bytes += live.bytes.load(Ordering::Relaxed);
        progress.requests += live.requests.load(Ordering::Relaxed);
        progress.failures += live.failures.load(Ordering::Relaxed);
        progress.open += live.open.load(Ordering::Relaxed);
    }
    progress
}

fn usage(config: &LoadConfig) -> Result<Option<Usage>, LoadError> {
    match config.server {
        None => Ok(None),
        Some(pid) => process::read(pid)
            .map(Some)
            .ok_or(LoadError::NoSuchProcess(pid)),
    }
}

/// Descriptors besides the connections.
const OWN_FILES: u64 = 64;
const OBSERVE: Duration = Duration::from_millis(200);
