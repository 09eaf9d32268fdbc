//! The options of `haul get`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use haul::get::{Algorithm, Checksum, Segments};

use crate::cli::address_family::FamilyArguments;
use crate::cli::tls::{TRUST, TlsArguments};
use crate::cli::values::{positive_duration, positive_size, timeout};

/// `haul get`.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct GetArguments {
    /// https://HOST[:PORT]/PATH, http://…, name://HOST[:PORT]/NAME, or HOST[:PORT]/PATH, which is
    /// http; or FILE.meta4, a metalink (RFC 5854) with addresses and digests
    ///
    /// Without one, and without -i, haul asks for server, port and name on a terminal.
    // Parsed later: a message of clap's would repeat a password.
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Fetch the URLs in FILE too, one a line; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Write to FILE, below DIR where that is given; - is standard output
    #[arg(short, long, value_name = "FILE", help_heading = WHERE, conflicts_with_all = ["recursive", "input"])]
    pub(crate) output: Option<PathBuf>,
    /// Put the files into DIR, which is made if it is missing
    #[arg(short, long, value_name = "DIR", help_heading = WHERE, default_value = ".", env = "HAUL_GET_DIRECTORY")]
    pub(crate) directory: PathBuf,
    /// Name the file as the server says (Content-Disposition), made safe
    #[arg(short = 'J', long, help_heading = WHERE, env = "HAUL_GET_REMOTE_NAME")]
    pub(crate) remote_name: bool,
    /// What to do with files that are here already
    ///
    /// Unless given, it is skip with --recursive and --input, and fail otherwise.
    #[arg(long, value_enum, value_name = "WHAT", help_heading = WHERE, env = "HAUL_GET_EXISTING",
        conflicts_with_all = ["force", "skip_existing", "timestamping"])]
    pub(crate) existing: Option<ExistingOption>,
    /// Replace files that are here already; write even to a terminal
    #[arg(short, long, help_heading = WHERE)]
    pub(crate) force: bool,
    /// As --existing skip; with --force, as --existing update
    #[arg(long, help_heading = WHERE)]
    pub(crate) skip_existing: bool,
    /// As --existing update
    #[arg(short = 'N', long, help_heading = WHERE)]
    pub(crate) timestamping: bool,
    /// Do not reserve room for the whole file at the start
    #[arg(long, help_heading = WHERE, env = "HAUL_GET_NO_PREALLOCATE")]
    pub(crate) no_preallocate: bool,

    /// Fetch a directory with everything below it, from a listing in JSON, XML or HTML
    #[arg(short, long, help_heading = WHICH)]
    pub(crate) recursive: bool,
    /// Follow directories only N levels down; 0 is the first one's own files
    #[arg(long, value_name = "N", help_heading = WHICH, env = "HAUL_GET_DEPTH")]
    pub(crate) depth: Option<usize>,
    /// Fetch only files that match GLOB: *.iso at any depth, docs/** by their path; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = WHICH)]
    pub(crate) include: Vec<String>,
    /// Leave out files and directories that match GLOB; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = WHICH)]
    pub(crate) exclude: Vec<String>,
    /// Another address of the same file, to share the segments; may be repeated. Without a sum or
    /// a digest, equal entity tags are all that shows its bytes to be of the same file
    #[arg(long, value_name = "URL", help_heading = WHICH, conflicts_with_all = ["recursive", "input"])]
    pub(crate) mirror: Vec<String>,

    /// Fetch N files at once
    #[arg(short = 'P', short_alias = 'j', long, value_name = "N", help_heading = SPEED, default_value = "1", value_parser = count, env = "HAUL_GET_PARALLEL")]
    pub(crate) parallel: usize,
    /// Connections per file: a number, or auto, which opens more as long as they help
    #[arg(short, short_alias = 'x', long, value_name = "N", help_heading = SPEED, default_value = "auto", value_parser = segments, env = "HAUL_GET_SEGMENTS")]
    pub(crate) segments: Segments,
    /// Receive at most SIZE a second, over all connections
    #[arg(long, alias = "limit-rate", value_name = "SIZE", help_heading = SPEED, value_parser = positive_size, env = "HAUL_GET_RATE")]
    pub(crate) rate: Option<u64>,
    /// How bytes go from the socket to the file
    #[arg(long, value_enum, hide = true, default_value_t = Receive::Auto)]
    pub(crate) receive: Receive,

    /// Fetch the server's version even if another one is here in part; that one goes when the
    /// new one is whole
    #[arg(long, help_heading = FAILURE)]
    pub(crate) restart: bool,
    /// What an unfinished download needs to go on: strict takes a strong ETag, an old enough
    /// Last-Modified or a sum; loose an equal length and a weak ETag or Last-Modified
    #[arg(long, value_enum, help_heading = FAILURE, default_value_t = Resume::Strict, env = "HAUL_GET_RESUME")]
    pub(crate) resume: Resume,
    /// Give up after N failures in a row without a byte between them [default: 10; 3 until a
    /// server has answered]
    #[arg(long, alias = "tries", value_name = "N", help_heading = FAILURE, env = "HAUL_GET_RETRIES")]
    pub(crate) retries: Option<u32>,
    /// Wait this long after the first failure, twice as long after the next, up to a minute
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, default_value = "1s", value_parser = crate::cli::values::duration, env = "HAUL_GET_RETRY_WAIT")]
    pub(crate) retry_wait: Duration,
    /// Try again for this long after the last progress, as often as that allows
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, value_parser = positive_duration, env = "HAUL_GET_RETRY_FOR")]
    pub(crate) retry_for: Option<Duration>,
    /// Give up whatever is not whole after this long
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, value_parser = positive_duration, env = "HAUL_GET_MAX_TIME")]
    pub(crate) max_time: Option<Duration>,
    /// Give up connections that bring less than SIZE a second, and try again
    #[arg(long, value_name = "SIZE", help_heading = FAILURE, value_parser = positive_size, env = "HAUL_GET_MIN_RATE")]
    pub(crate) min_rate: Option<u64>,
    /// Measure --min-rate over this long
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, default_value = "30s", value_parser = timeout, env = "HAUL_GET_MIN_RATE_WINDOW")]
    pub(crate) min_rate_window: Duration,
    /// Give a server this long to take a connection
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, default_value = "10s", value_parser = timeout, env = "HAUL_GET_CONNECT_TIMEOUT")]
    pub(crate) connect_timeout: Duration,
    #[command(flatten)]
    pub(crate) family: FamilyArguments,
    /// Give up a connection that brings nothing for this long
    #[arg(long, value_name = "DURATION", help_heading = FAILURE, default_value = "30s", value_parser = timeout, env = "HAUL_GET_STALL_TIMEOUT")]
    pub(crate) stall_timeout: Duration,

    /// Fail unless the server gives a digest of the file, and wait until it has one; without this
    /// a file is verified where the server offers a digest
    #[arg(long, help_heading = PROOF, env = "HAUL_GET_REQUIRE_DIGEST")]
    pub(crate) require_digest: bool,
    /// Make FILE, an older version or a damaged copy, what the server has: only the blocks that
    /// differ are fetched, into a copy that takes its name. The server must be haul
    #[arg(long, value_name = "FILE", help_heading = PROOF, conflicts_with_all = ["output", "recursive", "input"])]
    pub(crate) repair: Option<PathBuf>,
    /// Repair the file where it is, without room for a copy: until the end it is neither the old
    /// version nor the new one, and the same command goes on after a break
    #[arg(long, help_heading = PROOF, requires = "repair")]
    pub(crate) in_place: bool,
    /// Say what --repair would fetch, and change nothing
    #[arg(long, help_heading = PROOF, requires = "repair")]
    pub(crate) dry_run: bool,

    /// The SHA-256 that the file must have
    #[arg(long, value_name = "HEX", help_heading = PROOF, value_parser = |hex: &str| Checksum::parse(Algorithm::Sha256, hex))]
    pub(crate) sha256: Option<Checksum>,
    /// The SHA-512 that the file must have
    #[arg(long, value_name = "HEX", help_heading = PROOF, value_parser = |hex: &str| Checksum::parse(Algorithm::Sha512, hex))]
    pub(crate) sha512: Option<Checksum>,
    /// The BLAKE3 that the file must have
    #[arg(long, value_name = "HEX", help_heading = PROOF, value_parser = |hex: &str| Checksum::parse(Algorithm::Blake3, hex))]
    pub(crate) blake3: Option<Checksum>,
    /// The SHA-1 that the file must have; it finds accidents only
    #[arg(long, value_name = "HEX", help_heading = PROOF, value_parser = |hex: &str| Checksum::parse(Algorithm::Sha1, hex))]
    pub(crate) sha1: Option<Checksum>,
    /// The MD5 that the file must have; it finds accidents only
    #[arg(long, value_name = "HEX", help_heading = PROOF, value_parser = |hex: &str| Checksum::parse(Algorithm::Md5, hex))]
    pub(crate) md5: Option<Checksum>,
    /// The sums that the files must have, as sha256sum, md5sum and others write them: a file, an
    /// http:// or https:// address, or - for standard input
    #[arg(long, value_name = "FILE", help_heading = PROOF)]
    pub(crate) checksum: Option<PathBuf>,

    /// Send this field too; only to the servers named here, not where they redirect to
    #[arg(short = 'H', long, value_name = "NAME: VALUE", help_heading = SERVER)]
    pub(crate) header: Vec<String>,
    /// User name and password; without a colon, haul asks for the password
    #[arg(short, long, value_name = "USER:PASSWORD", help_heading = SERVER, env = "HAUL_GET_USER", hide_env_values = true, conflicts_with = "bearer_file")]
    pub(crate) user: Option<String>,
    /// Take user names and passwords from ~/.netrc, or the file that $NETRC names
    #[arg(long, help_heading = SERVER, env = "HAUL_GET_NETRC")]
    pub(crate) netrc: bool,
    /// Log in with the bearer token in FILE
    #[arg(long, value_name = "FILE", help_heading = SERVER, env = "HAUL_GET_BEARER_FILE")]
    pub(crate) bearer_file: Option<PathBuf>,
    /// What haul calls itself
    #[arg(short = 'A', long, value_name = "NAME", help_heading = SERVER, env = "HAUL_GET_USER_AGENT")]
    pub(crate) user_agent: Option<String>,
    /// Go through this proxy, http://HOST:PORT or socks5h://HOST:PORT; an empty one is none
    #[arg(long, value_name = "URL", help_heading = SERVER, env = "HAUL_GET_PROXY", hide_env_values = true)]
    pub(crate) proxy: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsArguments,
    /// Follow redirects that lead from https:// to http://
    #[arg(long, help_heading = TRUST, env = "HAUL_GET_ALLOW_DOWNGRADE")]
    pub(crate) allow_downgrade: bool,

    /// Report events as JSON, one a line, on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
    /// Print nothing but failures
    #[arg(short, long, help_heading = OUTPUT, conflicts_with = "json")]
    pub(crate) quiet: bool,

    /// What other programs need and haul does anyway: to continue, to follow redirects, to keep
    /// the name
    #[arg(short = 'c', long = "continue", hide = true)]
    pub(crate) resumes_anyway: bool,
    #[arg(short = 'C', long = "continue-at", value_name = "-", hide = true, allow_hyphen_values = true, value_parser = ["-"])]
    pub(crate) continue_at: Option<String>,
    #[arg(short = 'L', long = "location", hide = true)]
    pub(crate) follows_anyway: bool,
    #[arg(short = 'O', long = "remote-name-all", hide = true)]
    pub(crate) names_anyway: bool,
}

/// What to do with a file that is here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExistingOption {
    /// Leave it and fail
    Fail,
    /// Skip it if its size and time are the server's, and fail otherwise
    Skip,
    /// Skip it if its size and time are the server's, and replace it otherwise
    Update,
    /// Replace it
    Overwrite,
}

/// How bytes go from the socket to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Receive {
    /// What is faster for the file's system
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

fn segments(text: &str) -> Result<Segments, String> {
    match text {
        "auto" => Ok(Segments::Auto),
        number => count(number).map(Segments::Fixed),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_COUNT) => Ok(count),
        _ => Err(format!("a number from 1 to {MAX_COUNT}")),
    }
}

const MAX_COUNT: usize = 256;

const WHERE: &str = "Where files go";
const WHICH: &str = "Which files";
const SPEED: &str = "How fast";
const FAILURE: &str = "When something fails";
const PROOF: &str = "What the bytes must be";
const SERVER: &str = "What servers are told";
const OUTPUT: &str = "What is printed";

const AFTER_HELP: &str = "\
Examples:
  haul get files.example:7788/disk.img
  haul get https://files.example/disk.img --sha256 6f0c…e1
  haul get --segments 8 http://a.example/x.iso --mirror http://b.example/x.iso
  haul get --recursive -P 4 -d backup http://files.example:7788/2026/
  haul get --recursive --include '*.iso' http://files.example/pub/
  haul get -i list.txt -P 4 --rate 10M --json
  haul get -u me files.example/private.iso --proxy socks5h://127.0.0.1:1080
  haul get --retries 1000 --retry-wait 1m files.example/not-there-yet.iso
  haul get files.example/tree.tar -o - | tar -x
  haul get --pin sha256:4xbe…Q= https://10.0.0.7:7443/disk.img
  haul get disk.img.meta4
  haul get --checksum http://files.example/SHA256SUMS http://files.example/disk.img

Files:
  NAME.part        what has come of a broken or interrupted download; the same command goes on
                   from there, if the server's file is still the same. If it is another one, what
                   is here stays: --restart fetches the new version, and drops the old one when
                   the new one is whole
  NAME.part.state  which bytes of it are there, and of which version
  NAME.part-new    another version until it is whole, or the part where NAME.part is somebody
                   else's file; its state is NAME.part-new.part.state
  ~/.netrc         user names and passwords, with --netrc

Environment:
  HAUL_GET_...           for each option with a value that says so
  http_proxy             the proxy for http://, unless --proxy gives one
  https_proxy            the same for https://, which goes through a tunnel (CONNECT)
  all_proxy              the proxy for what has none of its own
  no_proxy               hosts, domains and networks (10.0.0.0/8) that go without
  SSL_CERT_FILE, SSL_CERT_DIR
                         the authorities of https servers, in the place of the system's

Exit status:
  0    every file is whole
  2    usage: the command line makes no sense
  3    not found: a server does not have a file, or refuses it
  4    network: a server cannot be reached, or breaks the protocol
  5    incomplete: a file broke off, or kept changing
  6    local file: a file or directory here is in the way, or the disk is full
  7    verification: the bytes are not the expected ones
  8    untrusted: a server cannot prove who it is (https), or leads from https to http
  130  interrupted
Exit status of several files: that of the first one, in order, that failed.";
