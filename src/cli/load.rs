//! `haul load`: the command line of the load generator.

use std::io::{ErrorKind, IsTerminal, Write};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use haul::diagnostics::say;
use haul::internals::Persistence;
use haul::internals::raise_open_files;
use haul::load::{
    self, Bodies, ClientTls, LoadConfig, LoadReport, Pace, Progress, RunLength, TargetError,
    WeightedUrl,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::address_family::FamilyArguments;
use super::exit_status::USAGE;
use super::signals::stop_on_signals;
use super::tls::TlsArguments;
use super::values::{duration, non_zero_size};

/// Put a server under load and measure it.
///
/// Content is received with MSG_TRUNC: the kernel throws it away without copying, so what is
/// measured is the server. --verify reads and hashes it instead.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadArguments {
    /// URL: http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH, name://HOST[:PORT]/PATH or
    /// HOST[:PORT]/PATH, with @WEIGHT to request some more often than others.
    #[arg(required = true, value_name = "URL[@WEIGHT]")]
    // Parsed later: a message of clap's would repeat a password.
    urls: Vec<String>,

    /// Connections, each with one request under way.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// How long to measure, such as 10s or 2m; 10s if no number of requests is given.
    #[arg(short, long, value_parser = duration, conflicts_with = "requests")]
    duration: Option<Duration>,

    /// How many requests to send.
    #[arg(short = 'n', long, value_name = "N")]
    requests: Option<u64>,

    /// Open the connections evenly over this time (5s if no value is given), and measure after it.
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = true, default_missing_value = "5s")]
    ramp: Option<Duration>,

    /// Ask for ranges of this size, at random multiples of it, instead of whole files.
    #[arg(long, value_name = "SIZE", value_parser = non_zero_size)]
    range: Option<NonZeroU64>,

    /// Send so many requests a second, whether or not the server keeps up; latency then counts
    /// from the moment a request was due.
    #[arg(long, alias = "rate", value_name = "N", value_parser = rate)]
    requests_per_second: Option<f64>,

    /// Connect anew for every request.
    #[arg(long)]
    no_keep_alive: bool,

    /// Read and hash the content, and compare the answers to the same request.
    #[arg(long)]
    verify: bool,

    /// Further connections that ask for the first URL and then read nothing.
    #[arg(long, value_name = "N", default_value = "0")]
    stalled: u32,

    /// Generator threads.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,

    /// The most bytes one receive may take. It moves processor time between the two ends: compare
    /// only runs with the same value.
    #[arg(long, alias = "receive", value_name = "SIZE", default_value = "256KiB", value_parser = non_zero_size)]
    receive_size: NonZeroU64,

    /// A request has failed when nothing moves for so long.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,

    /// The process number of a local server: report the processor time and memory it uses, with
    /// all its child processes.
    #[arg(long)]
    pid: Option<u32>,

    #[command(flatten)]
    tls: TlsArguments,

    #[command(flatten)]
    family: FamilyArguments,

    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

impl LoadArguments {
    /// Runs the load and prints the figures.
    pub(crate) fn run(self) -> ExitCode {
        let format = if self.json {
            Format::Json
        } else {
            Format::Table
        };
        let urls = self.urls.iter().map(|url| url.parse());
        let urls = urls.collect::<Result<Vec<WeightedUrl>, TargetError>>();
        let urls = urls.map_err(|error| error.to_string());
        let config = match urls.and_then(|urls| Ok((urls, self.tls.read()?))) {
            Ok((urls, tls)) => self.config(urls, tls),
            Err(why) => {
                say(format_args!("haul: {why}"));
                return ExitCode::from(USAGE);
            }
        };
        if let Err(error) = raise_open_files() {
            say(format_args!(
                "haul: cannot raise the limit on open files: {error}"
            ));
        }
        let stop = Arc::new(AtomicBool::new(false));
        if let Err(error) = stop_on_signals(Arc::clone(&stop), Some(REPORT_GRACE)) {
            say(format_args!("haul: cannot catch signals: {error}"));
        }
        let live = LiveLine::new(&config);
        let outcome = load::run(&config, &stop, |progress| live.show(progress));
        live.bar.finish_and_clear();
        match outcome {
            Ok(report) => print(&report, format),
            Err(error) => {
                say(format_args!("haul: {error}"));
                ExitCode::from(USAGE)
            }
        }
    }

    fn config(self, urls: Vec<WeightedUrl>, tls: ClientTls) -> LoadConfig {
        LoadConfig {
            tls,
            urls,
            connections: self.connections as usize,
            stalled: self.stalled as usize,
            threads: usize::from(self.threads),
            extent: match (self.duration, self.requests) {
                (None, Some(requests)) => RunLength::Requests(requests),
                (duration, _) => RunLength::For(duration.unwrap_or(DEFAULT_DURATION)),
            },
            ramp: self.ramp.unwrap_or_default(),
            range: self.range,
            pace: self
                .requests_per_second
                .map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
            persistence: if self.no_keep_alive {
                Persistence::Close
            } else {
                Persistence::KeepAlive
            },
            bodies: if self.verify {
                Bodies::Verify
            } else {
                Bodies::Discard
            },
            receive_bytes: usize::try_from(self.receive_size.get()).unwrap_or(usize::MAX),
            family: self.family.family(),
            timeout: self.timeout,
            server: self.pid,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Table,
}

fn print(report: &LoadReport, format: Format) -> ExitCode {
    let text = match format {
        Format::Table => report.to_string(),
        Format::Json => {
            serde_json::to_string_pretty(report).expect("keys are text, numbers finite") + "\n"
        }
    };
    if let Err(error) = std::io::stdout().write_all(text.as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        say(format_args!("haul: cannot write the figures: {error}"));
        return ExitCode::FAILURE;
    }
    if report.requests > 0 || report.bytes > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The line that shows how a run goes, on a terminal.
struct LiveLine {
    bar: ProgressBar,
    measured_from: Duration,
}

impl LiveLine {
    fn new(config: &LoadConfig) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}").expect("the template is well-formed"),
        );
        Self {
            bar,
            measured_from: config.ramp,
        }
    }

    fn show(&self, progress: Progress) {
        let seconds = progress
            .elapsed
            .saturating_sub(self.measured_from)
            .as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        self.bar.set_message(format!(
            "{:.0} s  {}/s  {:.0} requests/s  {} connections  {} errors",
            progress.elapsed.as_secs_f64(),
            ByteSize::b(per_second(progress.bytes) as u64),
            per_second(progress.requests),
            progress.open,
            progress.failures
        ));
        self.bar.tick();
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (LOWEST_RATE..=HIGHEST_RATE).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "a rate is a number from {LOWEST_RATE} to {HIGHEST_RATE}, in requests a second"
        )),
    }
}

const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const LOWEST_RATE: f64 = 0.001;
const HIGHEST_RATE: f64 = 10_000_000.0;
/// Time for the figures after the first signal, even without a reader.
const REPORT_GRACE: Duration = Duration::from_secs(3);
const EXAMPLES: &str = "\
Examples:
  haul load -c 64 -d 10s http://127.0.0.1:7788/small
  haul load -c 16 --range 1MiB --pid 4711 http://127.0.0.1:7788/big
  haul load -c 100 --requests-per-second 5000 http://10.0.0.2/a@3 http://10.0.0.2/b
  haul load -c 16 --cacert ca.pem https://files.example/big
  haul load -c 4 --verify -n 100 name://127.0.0.1:7788/film.mkv

Exit status: 0 if something was received, 1 if nothing was, 2 for wrong usage.";
