//! The command line of `haul get`, checked and turned into the library's types.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read as _, Write};
use std::path::{Path, PathBuf};

use haul::get::display::DisplayChoice;
use haul::get::{
    BadAddress, Checksum, ChecksumFile, DigestChoice, Downgrade, Existing, Filter, GetConfig,
    HAUL_PORT, HttpUrl, Job, KeptChoice, Login, MinRate, NameUrl, Naming, Netrc, Preallocation,
    Proxies, ReceiveChoice, Recursion, RepairChoice, ResumeChoice, RetryPolicy, Source, Target,
    basic, parse_metalink,
};

use super::options::{ExistingOption, GetArguments, Receive, Resume};

/// An error before the first request.
#[derive(Debug)]
pub(crate) struct Unusable(pub(crate) String);

impl<E: fmt::Display> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A checked command line.
pub(crate) struct Checked {
    pub(crate) config: GetConfig,
    pub(crate) jobs: Vec<Job>,
    pub(crate) display: DisplayChoice,
}

/// Checks the arguments together, and reads the files that they name.
pub(crate) fn of(args: GetArguments) -> Result<Checked, Unusable> {
    let Described { jobs, mut named } = described(&args)?;
    check(&args, jobs.len())?;
    let mirrors = args.mirror.iter().map(|url| http(url));
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
    named.extend_from_slice(&mirrors);
    let jobs = placed(&args, jobs, &mirrors)?;
    check_pins(&args, &jobs)?;
    let display = display(&args);
    let config = config(args, named)?;
    Ok(Checked {
        config,
        jobs,
        display,
    })
}

/// The files that the addresses and metalinks of a command line name.
#[derive(Default)]
struct Described {
    jobs: Vec<Job>,
    /// The addresses themselves. Those in a metalink are its author's choice.
    named: Vec<HttpUrl>,
}

impl Described {
    fn name(&mut self, source: Source) {
        if let Source::Http(url) = &source {
            self.named.push(url.clone());
        }
        self.jobs.push(Job::new(source, Target::Named));
    }
}

fn described(args: &GetArguments) -> Result<Described, Unusable> {
    let mut described = Described::default();
    for url in &args.urls {
        match is_metalink(url) {
            true if args.recursive => return Err("--recursive takes no metalink".into()),
            true => {
                let files = parse_metalink(&read(Path::new(url))?);
                let files = files.map_err(|error| format!("{url}: {error}"))?;
                described.jobs.extend(files);
            }
            false => described.name(url.parse()?),
        }
    }
    if let Some(list) = &args.input {
        for source in read_list(list)? {
            described.name(source);
        }
        if described.jobs.is_empty() {
            return Err(format!("{} has no URL", called(list)).into());
        }
    } else if described.jobs.is_empty() {
        described.name(ask_for_source()?);
    }
    Ok(described)
}

/// Whether the argument is a local metalink; a name without a slash is no address.
fn is_metalink(text: &str) -> bool {
    let path = Path::new(text);
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("meta4" | "metalink")) && (path.is_file() || !text.contains('/'))
}

/// Refuses what does not go together.
fn check(args: &GetArguments, urls: usize) -> Result<(), Unusable> {
    if args.names_anyway && args.urls.iter().any(|url| !url.contains('/')) {
        return Err("-O takes no name: -o FILE writes to FILE".into());
    }
    if urls > 1 && args.repair.is_some() {
        return Err("--repair goes with one URL".into());
    }
    if urls > 1 && (args.output.is_some() || !args.mirror.is_empty()) {
        return Err("-o and --mirror go with one URL".into());
    }
    if checksums(args).next().is_some() && (urls > 1 || args.recursive) {
        let text = "a sum goes with one file; --checksum FILE has the sums of many";
        return Err(text.into());
    }
    if !args.recursive
        && (args.depth.is_some() || !args.include.is_empty() || !args.exclude.is_empty())
    {
        return Err("--depth, --include and --exclude go with --recursive".into());
    }
    if is_stdout(args) && io::stdout().is_terminal() && !args.force {
        return Err("standard output is a terminal: --force writes to it all the same".into());
    }
    Ok(())
}

/// Refuses addresses whose servers have no key for `--pin`, unless a digest is known: anybody on the
/// way could answer.
fn check_pins(args: &GetArguments, jobs: &[Job]) -> Result<(), Unusable> {
    if !args.tls.has_pins() || args.checksum.is_some() || checksums(args).next().is_some() {
        return Ok(());
    }
    let plain = jobs
        .iter()
        .filter(|job| job.checksums.is_empty())
        .find_map(plain_address);
    match plain {
        Some(address) => {
            Err(format!("{address} has no key that --pin could know: write https://").into())
        }
        None => Ok(()),
    }
}

/// The first address of a job that is no `https://`.
fn plain_address(job: &Job) -> Option<String> {
    match &job.source {
        Source::Http(url) if url.is_secure() => {
            let plain = job.mirrors.iter().find(|url| !url.is_secure());
            plain.map(HttpUrl::to_string)
        }
        source => Some(source.to_string()),
    }
}

/// The files, each with the mirrors and the place that the command line gives it.
fn placed(args: &GetArguments, jobs: Vec<Job>, mirrors: &[HttpUrl]) -> Result<Vec<Job>, Unusable> {
    let repaired = args.repair.as_deref().map(linked_file);
    let target = match repaired.as_ref().or(args.output.as_ref()) {
        None => None,
        Some(_) if is_stdout(args) => Some(Target::Stream),
        Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            let path = path.display();
            return Err(format!("-o {path} is no file: -d {path} puts files into it").into());
        }
        Some(path) => Some(Target::Path(path.clone())),
    };
    let jobs = jobs.into_iter().map(|mut job| {
        job.mirrors.extend_from_slice(mirrors);
        job.target = target.clone().unwrap_or(job.target);
        job
    });
    Ok(jobs.collect())
}

/// The file that a link leads to: a repair would put a file in the link's place.
fn linked_file(path: &Path) -> PathBuf {
    match path.is_symlink() && path.is_file() {
        true => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    }
}

fn display(args: &GetArguments) -> DisplayChoice {
    match (args.quiet, args.json) {
        (true, _) => DisplayChoice::Quiet,
        (_, true) if is_stdout(args) => DisplayChoice::JsonOnError,
        (_, true) => DisplayChoice::Json,
        _ if draws_bars() => DisplayChoice::Bars,
        _ => DisplayChoice::Plain,
    }
}

/// Whether standard error is a terminal that can move its cursor.
fn draws_bars() -> bool {
    let able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    able && io::stderr().is_terminal()
}

fn is_stdout(args: &GetArguments) -> bool {
    let names = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    let output = args.output.as_deref();
    output.is_some_and(|output| names.iter().any(|name| output == Path::new(name)))
}

fn checksums(args: &GetArguments) -> impl Iterator<Item = &Checksum> {
    let checksums = [
        &args.sha256,
        &args.sha512,
        &args.blake3,
        &args.sha1,
        &args.md5,
    ];
    checksums.into_iter().flatten()
}

fn existing(args: &GetArguments) -> Existing {
    let several = args.recursive || args.input.is_some();
    match args.existing {
        _ if args.repair.is_some() => Existing::Overwrite,
        Some(ExistingOption::Fail) => Existing::Refuse,
        Some(ExistingOption::Skip) => Existing::Skip,
        Some(ExistingOption::Update) => Existing::Update,
        Some(ExistingOption::Overwrite) => Existing::Overwrite,
        None if args.timestamping || (args.force && args.skip_existing) => Existing::Update,
        None if args.force => Existing::Overwrite,
        None if args.skip_existing || several => Existing::Skip,
        None => Existing::Refuse,
    }
}

fn retry(args: &GetArguments) -> RetryPolicy {
    let (retries, retries_unreached) = match (args.retries, args.retry_for) {
        (Some(retries), _) => (retries, retries),
        (None, Some(_)) => (u32::MAX, u32::MAX),
        (None, None) => (RETRIES, RETRIES_UNREACHED),
    };
    RetryPolicy {
        retries,
        retries_unreached,
        first_wait: args.retry_wait,
        retry_for: args.retry_for,
    }
}

fn config(args: GetArguments, named: Vec<HttpUrl>) -> Result<GetConfig, Unusable> {
    let (checksum_file, checksum_list) = match &args.checksum {
        None => (None, None),
        Some(place) => checksum_list(place)?,
    };
    Ok(GetConfig {
        existing: existing(&args),
        retry: retry(&args),
        named,
        login: login(&args)?,
        tls: args.tls.read()?,
        downgrade: match args.allow_downgrade {
            true => Downgrade::Allowed,
            false => Downgrade::Refused,
        },
        repair: match (&args.repair, args.dry_run, args.in_place) {
            (None, ..) => RepairChoice::Off,
            (Some(_), true, _) => RepairChoice::DryRun,
            (Some(_), false, true) => RepairChoice::InPlace,
            (Some(_), false, false) => RepairChoice::Copy,
        },
        digests: match args.require_digest {
            true => DigestChoice::Required,
            false => DigestChoice::Offered,
        },
        checksums: checksums(&args).cloned().collect(),
        checksum_file,
        checksum_list,
        depth: args.depth,
        filter: Filter::new(&args.include, &args.exclude)?,
        proxies: Proxies::new(args.proxy.as_deref(), |name| std::env::var(name).ok()),
        directory: args.directory,
        naming: match args.remote_name {
            true => Naming::Remote,
            false => Naming::Url,
        },
        recursion: match args.recursive {
            true => Recursion::On,
            false => Recursion::Off,
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
        max_time: args.max_time,
        min_rate: args.min_rate.map(|bytes_per_second| MinRate {
            bytes_per_second,
            window: args.min_rate_window,
        }),
        connect_timeout: args.connect_timeout,
        family: args.family.family(),
        stall_timeout: args.stall_timeout,
        rate: args.rate,
    })
}

/// The sums in a file, or the address of a list.
fn checksum_list(place: &Path) -> Result<(Option<ChecksumFile>, Option<HttpUrl>), Unusable> {
    if let Some(text) = place.to_str().filter(|text| text.contains("://")) {
        return Ok((None, Some(http(text)?)));
    }
    let checksums = ChecksumFile::parse(&read(place)?);
    let checksums = checksums.map_err(|error| format!("{}: {error}", place.display()))?;
    Ok((Some(checksums), None))
}

fn login(args: &GetArguments) -> Result<Login, Unusable> {
    let fields = args.header.iter().map(|field| field.parse());
    let one_line = |text: &str| match text.chars().any(char::is_control) {
        true => Err("a user agent or a token is one line"),
        false => Ok(text.to_owned()),
    };
    let authorization = match (&args.user, &args.bearer_file) {
        (Some(user), _) => Some(basic(with_password(user)?.as_bytes())),
        (None, Some(file)) => Some(format!("Bearer {}", one_line(read(file)?.trim())?)),
        (None, None) => None,
    };
    let user_agent = args.user_agent.as_deref().map(one_line);
    Ok(Login {
        user_agent: user_agent.transpose()?,
        fields: fields.collect::<Result<_, _>>()?,
        authorization,
        netrc: args.netrc.then(netrc).transpose()?,
    })
}

fn with_password(user: &str) -> Result<String, Unusable> {
    if user.contains(':') {
        return Ok(user.to_owned());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err("-u takes USER:PASSWORD where haul cannot ask for the password".into());
    }
    let mut terminal = console::Term::stderr();
    terminal.write_all(format!("password of {user}: ").as_bytes())?;
    Ok(format!("{user}:{}", terminal.read_secure_line()?))
}

fn netrc() -> Result<Netrc, Unusable> {
    let path = std::env::var_os("NETRC").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".netrc"));
    let path = path
        .or_else(home)
        .ok_or("there is no home directory for --netrc")?;
    Ok(Netrc::parse(&read(&path)?))
}

/// A file's text; `-` is standard input.
fn read(path: &Path) -> Result<String, Unusable> {
    let text = match path == OsStr::new("-") {
        true => read_bounded(io::stdin()),
        false => std::fs::File::open(path).and_then(read_bounded),
    };
    text.map_err(|error| format!("cannot read {}: {error}", called(path)).into())
}

/// A text that may have no end.
fn read_bounded(text: impl io::Read) -> io::Result<String> {
    let mut read = String::new();
    let mut text = text.take(MAX_TEXT_BYTES);
    text.read_to_string(&mut read)?;
    match text.limit() {
        0 => Err(io::ErrorKind::FileTooLarge.into()),
        _ => Ok(read),
    }
}

fn called(path: &Path) -> String {
    match path == OsStr::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

fn read_list(path: &Path) -> Result<Vec<Source>, Unusable> {
    let text = read(path)?;
    // Editors of other systems mark a file's start.
    let lines = text.trim_start_matches('\u{feff}').lines();
    lines
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            line.parse().map_err(|error: BadAddress| {
                format!("{}, line {}: {error}", called(path), number + 1).into()
            })
        })
        .collect()
}

fn http(text: &str) -> Result<HttpUrl, Unusable> {
    match text.parse()? {
        Source::Http(url) => Ok(url),
        Source::Name(url) => {
            Err(format!("{url}: this takes an http:// or https:// address").into())
        }
    }
}

/// Prompts as the tutorial's client does, for its protocol.
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

/// More than a million addresses.
const MAX_TEXT_BYTES: u64 = 256 << 20;
/// The default number of failures in a row that are waited out: some four minutes.
const RETRIES: u32 = 10;
/// As `RETRIES`, before any server was reached: some seconds.
const RETRIES_UNREACHED: u32 = 3;
