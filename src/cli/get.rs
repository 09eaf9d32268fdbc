//! `haul get`'s command line, turned into what the library takes.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use crossbeam_channel::RecvTimeoutError;
use haul::diagnostics::say;
use haul::get::display::{self, DisplayChoice};
use haul::get::{
    Algorithm, Blame, Cancel, Existing, GetConfig, HAUL_PORT, HttpUrl, Job, KeptChoice, Login,
    MinRate, NameUrl, Naming, Preallocation, Proxies, ReceiveChoice, Recursion, ResumeChoice,
    RetryPolicy, Segments, Source, Sum, SumFile, Target, printable, run,
};

use super::signals::stop_on_signals;

/// `haul get`.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct GetArguments {
    /// http://HOST[:PORT]/PATH, name://HOST[:PORT]/NAME, or HOST[:PORT]/PATH, which is http
    ///
    /// Without one, and without -i, haul asks for server, port and name on a terminal.
    #[arg(value_name = "URL", value_parser = parse_source)]
    pub(crate) urls: Vec<Source>,
    /// Write to FILE, below DIR where that is given; - is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["recursive", "input"])]
    pub(crate) output: Option<PathBuf>,
    /// Put the files into DIR
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Fetch the URLs in FILE too, one a line; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Fetch a directory with everything below it, from haul's listing or any HTML index
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Fetch N files at once
    #[arg(short = 'P', long, value_name = "N", default_value = "1", value_parser = parse_count)]
    pub(crate) parallel: usize,
    /// Connections per file: a number, or auto, which adds some while they pay
    #[arg(short, long, value_name = "N", default_value = "auto", value_parser = parse_segments)]
    pub(crate) segments: Segments,
    /// Another address of the same file, to share the segments; may be repeated
    #[arg(long, value_name = "URL", value_parser = parse_http, conflicts_with_all = ["recursive", "input"])]
    pub(crate) mirror: Vec<HttpUrl>,
    /// Replace files that are there already; with --skip-existing, those that differ
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Be content with files that have the server's size and time already
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Fetch the server's version even if another one is here in part; that one goes when the
    /// new one is whole
    #[arg(long)]
    pub(crate) restart: bool,
    /// What an unfinished download needs to go on: strict takes a strong ETag, an old enough
    /// Last-Modified or a sum; loose an equal length and a weak ETag or Last-Modified
    #[arg(long, value_enum, default_value_t = Resume::Strict)]
    pub(crate) resume: Resume,
    /// Do not reserve room for the whole file at the start
    #[arg(long)]
    pub(crate) no_preallocate: bool,
    /// Name the file as the server says (Content-Disposition), made safe
    #[arg(short = 'J', long)]
    pub(crate) remote_name: bool,
    /// The SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = |hex: &str| Sum::parse(Algorithm::Sha256, hex))]
    pub(crate) sha256: Option<Sum>,
    /// The BLAKE3 that the file must have
    #[arg(long, value_name = "HEX", value_parser = |hex: &str| Sum::parse(Algorithm::Blake3, hex))]
    pub(crate) blake3: Option<Sum>,
    /// The sums that the files must have, as sha256sum writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) checksum: Option<PathBuf>,
    /// Receive at most SIZE a second, over all connections
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) rate: Option<ByteSize>,
    /// Give up after N failures in a row without a byte in between; 10 unless given, but 3 where
    /// no server was ever reached
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Wait this long after the first failure, twice as long after the next, up to a minute
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(crate) retry_wait: Duration,
    /// Try again for this long after the last progress, as often as that allows
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(crate) retry_for: Option<Duration>,
    /// Give up whatever is not whole after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(crate) max_time: Option<Duration>,
    /// Give up connections that bring less than SIZE a second, and try again
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) min_rate: Option<ByteSize>,
    /// Measure --min-rate over this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub(crate) min_rate_window: Duration,
    /// Give a server this long to take a connection
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_timeout)]
    pub(crate) connect_timeout: Duration,
    /// Give up a connection that brings nothing for this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub(crate) stall_timeout: Duration,
    /// How bytes go from the socket to the file
    #[arg(long, value_enum, default_value_t = Receive::Auto)]
    pub(crate) receive: Receive,
    /// Report events as JSON, one a line, on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but failures
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// How bytes go from the socket to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Receive {
    /// Whichever measured better
    Auto,
    /// By splice, inside the kernel
    Splice,
    /// By read and write
    Copy,
}

/// What an unfinished download needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    /// A strong validator or a sum
    Strict,
    /// An equal length, and a weak ETag or Last-Modified
    Loose,
}

/// What went wrong before the first request.
#[derive(Debug)]
struct Unusable(String);

impl<E: fmt::Display> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs `haul get`.
///
/// # Errors
/// Whose fault it is; standard error has the rest.
pub(crate) fn fetch(args: GetArguments) -> Result<(), Blame> {
    let (config, jobs, display) = prepare(args).map_err(|Unusable(text)| {
        say(format_args!("haul: {}", printable(&text)));
        Blame::Usage
    })?;
    let cancel = Cancel::default();
    // A stream leaves nothing behind that would have to be put in order.
    let streams = jobs.iter().any(|job| job.target == Target::Stream);
    let grace = streams.then_some(STREAM_GRACE);
    if let Err(error) = stop_on_signals(cancel.flag(), grace) {
        say(format_args!("haul: cannot catch signals: {error}"));
    }
    let (events, shown) = crossbeam_channel::unbounded();
    let (showing, ended) = crossbeam_channel::bounded::<()>(0);
    thread::spawn(move || {
        display::show(display, &shown);
        drop(showing);
    });
    let outcome = run(config, &jobs, &events, &cancel);
    // The display ends when the last sender does, if somebody reads what it shows.
    drop(events);
    while ended.recv_timeout(DISPLAY_GRACE) == Err(RecvTimeoutError::Timeout)
        && !cancel.is_cancelled()
    {}
    outcome
}

fn prepare(args: GetArguments) -> Result<(GetConfig, Vec<Job>, DisplayChoice), Unusable> {
    let mut sources = args.urls;
    if let Some(list) = &args.input {
        sources.extend(read_list(list)?);
    }
    if sources.is_empty() {
        sources.push(ask_for_source()?);
    }
    if sources.len() > 1 && (args.output.is_some() || !args.mirror.is_empty()) {
        return Err(Unusable::from("-o and --mirror go with one URL"));
    }
    let one_sum = args.sha256.is_some() || args.blake3.is_some();
    if one_sum && (sources.len() > 1 || args.recursive) {
        return Err(Unusable::from(
            "--sha256 and --blake3 go with one file; --checksum FILE has the sums of many",
        ));
    }
    let to_stdout = args
        .output
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    let target = match args.output {
        None => Target::Named,
        Some(_) if to_stdout => Target::Stream,
        Some(path) => Target::Path(path),
    };
    let jobs = sources.into_iter().map(|source| Job {
        source,
        mirrors: args.mirror.clone(),
        target: target.clone(),
    });
    let display = match (args.quiet, args.json) {
        (true, _) => DisplayChoice::Quiet,
        (_, true) if to_stdout => DisplayChoice::JsonOnError,
        (_, true) => DisplayChoice::Json,
        _ if io::stderr().is_terminal() => DisplayChoice::Bars,
        _ => DisplayChoice::Plain,
    };
    let sums = args.sha256.into_iter().chain(args.blake3);
    let sum_file = args.checksum.map(|path| {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        SumFile::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    });
    let (retries, retries_unreached) = match args.retry_for {
        Some(_) => (u32::MAX, u32::MAX),
        None => (RETRIES, RETRIES_UNREACHED),
    };
    let config = GetConfig {
        directory: args.directory,
        naming: if args.remote_name {
            Naming::Remote
        } else {
            Naming::Url
        },
        recursion: if args.recursive {
            Recursion::On
        } else {
            Recursion::Off
        },
        existing: match (args.force, args.skip_existing) {
            (true, true) => Existing::Update,
            (true, false) => Existing::Overwrite,
            (false, true) => Existing::Skip,
            (false, false) => Existing::Refuse,
        },
        parallel: args.parallel,
        segments: args.segments,
        receive: match args.receive {
            Receive::Auto => ReceiveChoice::Auto,
            Receive::Splice => ReceiveChoice::Splice,
            Receive::Copy => ReceiveChoice::Copy,
        },
        kept: match args.restart {
            true => KeptChoice::Restart,
            false => KeptChoice::Keep,
        },
        resume: match args.resume {
            Resume::Strict => ResumeChoice::Strict,
            Resume::Loose => ResumeChoice::Loose,
        },
        preallocation: match args.no_preallocate {
            true => Preallocation::Off,
            false => Preallocation::On,
        },
        retry: RetryPolicy {
            retries: args.retries.unwrap_or(retries),
            retries_unreached: args.retries.unwrap_or(retries_unreached),
            first_wait: args.retry_wait,
            retry_for: args.retry_for,
        },
        max_time: args.max_time,
        min_rate: args.min_rate.map(|size| MinRate {
            bytes_per_second: size.as_u64(),
            window: args.min_rate_window,
        }),
        connect_timeout: args.connect_timeout,
        stall_timeout: args.stall_timeout,
        rate: args.rate.map(|size| size.as_u64()),
        proxies: Proxies::new(None, |name| std::env::var(name).ok()),
        login: Login::default(),
        sums: sums.collect(),
        sum_file: sum_file.transpose()?,
    };
    Ok((config, jobs.collect(), display))
}

fn read_list(path: &PathBuf) -> Result<Vec<Source>, Unusable> {
    let text = if path.as_os_str() == "-" {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            parse_source(line)
                .map_err(|error| format!("{}, line {}: {error}", path.display(), number + 1).into())
        })
        .collect()
}

/// Asks as the tutorial's client does, and speaks its protocol.
fn ask_for_source() -> Result<Source, Unusable> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Unusable::from("no URL; haul get --help has examples"));
    }
    let mut lines = io::stdin().lock().lines();
    let mut ask = |question: &str| -> Result<String, Unusable> {
        let mut terminal = io::stderr();
        terminal.write_all(format!("{question}: ").as_bytes())?;
        terminal.flush()?;
        let line = lines.next().ok_or("no answer")??;
        Ok(line.trim().to_owned())
    };
    let host = match ask("server [127.0.0.1]")? {
        empty if empty.is_empty() => "127.0.0.1".to_owned(),
        host => host,
    };
    let port = match ask(&format!("port [{HAUL_PORT}]"))? {
        empty if empty.is_empty() => HAUL_PORT,
        port => port
            .parse()
            .map_err(|error| format!("{port} is not a port: {error}"))?,
    };
    let name = ask("file name")?;
    Ok(Source::Name(NameUrl::new(&host, port, name.into_bytes())?))
}

fn parse_source(text: &str) -> Result<Source, haul::get::BadAddress> {
    text.parse()
}

fn parse_http(text: &str) -> Result<HttpUrl, String> {
    match parse_source(text).map_err(|error| error.to_string())? {
        Source::Http(url) => Ok(url),
        Source::Name(_) => Err("a mirror is an http:// address".to_owned()),
    }
}

fn parse_segments(text: &str) -> Result<Segments, String> {
    match text {
        "auto" => Ok(Segments::Auto),
        number => parse_count(number).map(Segments::Fixed),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_COUNT) => Ok(count),
        _ => Err(format!("a number from 1 to {MAX_COUNT}")),
    }
}

fn parse_rate(text: &str) -> Result<ByteSize, String> {
    let rate = text.parse();
    match rate.map_err(|_| "bytes a second, as 500K or 10MiB")? {
        ByteSize(0) => {
            Err("at that rate nothing ever comes; leave --rate away for no limit".into())
        }
        rate => Ok(rate),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        timeout if timeout.is_zero() || timeout > LONGEST_TIMEOUT => {
            Err("a time above zero and up to a day, as 30s or 5m".to_owned())
        }
        timeout => Ok(timeout),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(span).map_err(|error| error.to_string())
}

/// Time for the last lines of a download that was stopped.
const DISPLAY_GRACE: Duration = Duration::from_secs(1);
/// Time for a stream to end after the first signal, even if nobody reads it.
const STREAM_GRACE: Duration = Duration::from_secs(1);
const MAX_COUNT: usize = 256;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Failures in a row that are waited out, unless `--retries` says how many: some four minutes.
const RETRIES: u32 = 10;
/// As `RETRIES`, before any server was reached: some seconds.
const RETRIES_UNREACHED: u32 = 3;

const AFTER_HELP: &str = "\
Examples:
  haul get files.example:7788/disk.img
  haul get http://files.example/disk.img --sha256 6f0c…e1
  haul get --segments 8 http://a.example/x.iso --mirror http://b.example/x.iso
  haul get --recursive -P 4 -d backup http://files.example:7788/2026/
  haul get name://files.example/notes.txt -o -

A broken or interrupted download is kept as NAME.part with NAME.part.state beside it; the same
command goes on from there, if the server's file is still the same. If it is another one, what is here stays: --restart fetches
the new version, and drops the old one when the new one is whole.

The environment's http_proxy and no_proxy are honoured.

Exit status:
  0    every file is whole
  2    usage: the command line makes no sense
  3    not found: a server does not have a file, or refuses it
  4    network: a server cannot be reached, or breaks the protocol
  5    incomplete: a file broke off, or kept changing
  6    local file: a file or directory here is in the way, or the disk is full
  7    verification: the bytes are not the expected ones
  130  interrupted
With several files it is the status of the first one, in order, that failed.";
