//! The options that say how HTTP requests are answered.

use clap::{Args, ValueEnum};

use haul::server::config::{
    CacheRule, Cors, EtagChoice, Field, HttpLimits, HttpPolicy, IndexChoice, ListingChoice,
    Precompressed,
};

use crate::cli::values::{positive_size, size};

/// How requests are answered, and how large they may be.
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub(super) struct HttpArgs {
    /// What entity tags are made of
    #[arg(
        long,
        env = "HAUL_ETAG",
        value_name = "CHOICE",
        default_value = "inode"
    )]
    etag: EtagArg,

    /// A header field for every response; may be repeated
    #[arg(long, env = "HAUL_HEADER", value_name = "NAME: VALUE", value_parser = Field::parse)]
    header: Vec<Field>,

    /// Let scripts of other origins read what is served
    #[arg(long, env = "HAUL_CORS")]
    cors: bool,

    /// Cache-Control for the names that match; may be repeated, the first match counts
    #[arg(long, env = "HAUL_CACHE_CONTROL", value_name = "GLOB=VALUE",
        value_parser = CacheRule::parse)]
    cache_control: Vec<CacheRule>,

    /// Let x.zst, x.br and x.gz, where they are no older than x, answer for x
    #[arg(long, env = "HAUL_PRECOMPRESSED")]
    precompressed: bool,

    /// Do not answer for a directory with its index.html
    #[arg(long, env = "HAUL_NO_INDEX")]
    no_index: bool,

    /// Do not list directories
    #[arg(long, env = "HAUL_NO_LISTING")]
    no_listing: bool,

    /// Ranges in one request; more are answered with the whole file
    #[arg(long, env = "HAUL_MAX_RANGES", value_name = "N", default_value_t = 64)]
    max_ranges: usize,

    /// Longest request line, in bytes (414)
    #[arg(long, env = "HAUL_MAX_REQUEST_LINE", value_name = "SIZE", default_value = "16KiB",
        value_parser = positive_size)]
    max_request_line: u64,

    /// Largest request head, in bytes (431)
    #[arg(long, env = "HAUL_MAX_HEAD", value_name = "SIZE", default_value = "32KiB",
        value_parser = positive_size)]
    max_head: u64,

    /// Header fields in a request (431)
    #[arg(long, env = "HAUL_MAX_FIELDS", value_name = "N", default_value_t = 100,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new()
            .range(1..=HttpLimits::MAX_FIELDS as u64))]
    max_fields: usize,

    /// Largest request body that is discarded to keep the connection (413)
    #[arg(long, env = "HAUL_MAX_BODY", value_name = "SIZE", default_value = "1MiB",
        value_parser = size)]
    max_body: u64,

    /// Requests on one connection
    #[arg(long, env = "HAUL_MAX_REQUESTS", value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    max_requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EtagArg {
    /// Device, inode, length, mtime and ctime: no two contents share one
    Inode,
    /// Mtime and length: the same on replicas behind a balancer that keep the mtime
    MtimeSize,
}

impl HttpArgs {
    pub(super) fn limits(&self) -> HttpLimits {
        let bytes = |size: u64| {
            usize::try_from(size)
                .unwrap_or(usize::MAX)
                .min(MAX_HEAD_BYTES)
        };
        HttpLimits {
            request_line_bytes: bytes(self.max_request_line),
            head_bytes: bytes(self.max_head),
            fields: self.max_fields,
            ranges: self.max_ranges,
            discarded_body_bytes: self.max_body,
            requests_per_connection: self.max_requests,
        }
    }

    pub(super) fn precompressed(&self) -> Precompressed {
        match self.precompressed {
            true => Precompressed::Serve,
            false => Precompressed::Ignore,
        }
    }

    pub(super) fn index(&self) -> IndexChoice {
        match self.no_index {
            true => IndexChoice::Ignore,
            false => IndexChoice::Serve,
        }
    }

    pub(super) fn listing(&self) -> ListingChoice {
        match self.no_listing {
            true => ListingChoice::Refuse,
            false => ListingChoice::Show,
        }
    }

    pub(super) fn policy(self) -> HttpPolicy {
        HttpPolicy {
            etag: match self.etag {
                EtagArg::Inode => EtagChoice::Inode,
                EtagArg::MtimeSize => EtagChoice::MtimeSize,
            },
            cors: if self.cors {
                Cors::AnyOrigin
            } else {
                Cors::SameOrigin
            },
            cache_control: self.cache_control,
            fields: self.header,
        }
    }
}

/// No request head needs more; sums with it do not wrap.
const MAX_HEAD_BYTES: usize = 16 << 20;
