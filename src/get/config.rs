//! The settings of a download.

pub(super) mod filter;
pub(super) mod login;
pub(super) mod proxy;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::dial::Family;
use crate::tls::client::ClientTls;

use super::source::{HttpUrl, Source};
use crate::digest::{Checksum, ChecksumFile};
use filter::Filter;
use login::Login;
use proxy::Proxies;

/// The settings of a run, common to all its files.
#[derive(Clone, Debug)]
pub struct GetConfig {
    /// Where files go that have no path of their own.
    pub directory: PathBuf,
    /// Where files get their names from.
    pub naming: Naming,
    /// The treatment of addresses that end in a directory.
    pub recursion: Recursion,
    /// Directories below the first one that are followed; as many as is sane where it is `None`.
    pub depth: Option<usize>,
    /// The wanted files of a directory.
    pub filter: Filter,
    /// The treatment of files that are there already.
    pub existing: Existing,
    /// Files at once, at least 1.
    pub parallel: usize,
    /// Connections per file.
    pub segments: Segments,
    /// Way of the bytes from socket to file.
    pub receive: ReceiveChoice,
    /// The fate of a part file when the server has another version.
    pub kept: KeptChoice,
    /// The proof that a part file's bytes are the server's file.
    pub resume: ResumeChoice,
    /// Whether room for the whole file is reserved at the start.
    pub preallocation: Preallocation,
    /// When to try again.
    pub retry: RetryPolicy,
    /// The longest time for a connection to be established.
    pub connect_timeout: Duration,
    /// Address families that may be used.
    pub family: Family,
    /// The longest time without a byte before a connection is closed.
    pub stall_timeout: Duration,
    /// The longest time for all files.
    pub max_time: Option<Duration>,
    /// The lowest rate of a file before its connections are replaced.
    pub min_rate: Option<MinRate>,
    /// Bytes a second over all connections.
    pub rate: Option<u64>,
    /// The proxy and the hosts that go without.
    pub proxies: Proxies,
    /// The addresses that the user gave: only their servers get `login`, and the certificate that
    /// `tls` has for servers.
    pub named: Vec<HttpUrl>,
    /// Credentials and other fields of requests.
    pub login: Login,
    /// How https servers are known.
    pub tls: ClientTls,
    /// Whether a redirect may lead from https to http.
    pub downgrade: Downgrade,
    /// Whether a file that is here is repaired.
    pub repair: RepairChoice,
    /// Whether a file must be proved by a digest.
    pub digests: DigestChoice,
    /// Sums that every file must have.
    pub checksums: Vec<Checksum>,
    /// Sums by file name.
    pub checksum_file: Option<ChecksumFile>,
    /// The address of a list of sums to fetch first.
    pub checksum_list: Option<HttpUrl>,
}

/// Whether a file that is here is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairChoice {
    /// Files are fetched.
    Off,
    /// Blocks that differ are fetched, into a copy that takes the file's name.
    Copy,
    /// Blocks that differ are fetched, and written over the file.
    InPlace,
    /// The blocks that would be fetched are reported.
    DryRun,
}

/// Whether a file must be proved by a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestChoice {
    /// If the server gives one.
    Offered,
    /// Without one the download fails.
    Required,
}

/// The source of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The end of its address.
    Url,
    /// `Content-Disposition`, made safe.
    Remote,
}

/// Whether listings are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursion {
    /// Every address is a file.
    Off,
    /// A directory is fetched with everything below it.
    On,
}

/// The treatment of an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Refuse,
    /// Replace it, once the new one is whole.
    Overwrite,
    /// Leave it, and be content if its size and time are the server's.
    Skip,
    /// Leave it if its size and time are the server's, else replace it.
    Update,
}

impl Existing {
    /// Whether existing files may be replaced.
    pub(super) fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Update)
    }
}

/// The fate of a part file when the server has another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptChoice {
    /// The bytes stay, and the download fails.
    Keep,
    /// The bytes go once the other version is whole.
    Restart,
}

/// Whether a redirect may lead from https to http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downgrade {
    /// A downgrade ends the download.
    Refused,
    /// A downgrade is followed (`--allow-downgrade`).
    Allowed,
}

/// The proof that a part file's bytes are the server's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeChoice {
    /// A strong validator, or the sum of the whole file.
    Strict,
    /// An equal length, and a weak tag or a date that is equal too.
    Loose,
}

/// Whether room for the whole file is reserved at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preallocation {
    /// The length is reserved: a full disk is found before the first byte.
    On,
    /// The file grows with the received bytes.
    Off,
}

/// The least rate that is put up with, on average over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// The least rate.
    pub bytes_per_second: u64,
    /// The time over which it is measured.
    pub window: Duration,
}

/// How often and how soon to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failures in a row, without a byte in between, that end a file's download.
    pub retries: u32,
    /// The same while no server has been reached at all: a mistyped address, or a server that is
    /// still starting.
    pub retries_unreached: u32,
    /// The longest time without progress, whatever the number of attempts.
    pub retry_for: Option<Duration>,
    /// The wait after the first failure; it doubles with every further one.
    pub first_wait: Duration,
}

/// Connections per file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// As many as pay.
    Auto,
    /// So many, at least 1, as long as the server takes them.
    Fixed(usize),
}

/// Way of the bytes from socket to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveChoice {
    /// The faster one by measurement.
    Auto,
    /// Through a pipe, inside the kernel.
    Splice,
    /// Through a buffer.
    Copy,
}

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its address.
    pub source: Source,
    /// Other addresses of the same file.
    pub mirrors: Vec<HttpUrl>,
    /// Where it goes.
    pub target: Target,
    /// Size and time in the listing.
    pub known: Option<Known>,
    /// The sums that it must have, beside those of [`GetConfig`].
    pub checksums: Vec<Checksum>,
    /// The length that it must have.
    pub length: Option<u64>,
    /// How many components of a path below the directory are the name of a walk's root.
    pub(super) root_components: usize,
}

impl Job {
    /// A file of which nothing is known but its address.
    #[must_use]
    pub fn new(source: Source, target: Target) -> Self {
        Self {
            source,
            mirrors: Vec::new(),
            target,
            known: None,
            checksums: Vec::new(),
            length: None,
            root_components: 0,
        }
    }
}

/// Size and time from a listing, by which an unchanged file is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its length in bytes.
    pub length: u64,
    /// The time of its last change.
    pub modified: SystemTime,
}

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into [`GetConfig::directory`], under a name found by [`GetConfig::naming`].
    Named,
    /// To this path below [`GetConfig::directory`]; safe already.
    Below(PathBuf),
    /// To this path, below [`GetConfig::directory`] unless it is absolute; the user's own choice.
    Path(PathBuf),
    /// To standard output.
    Stream,
}
