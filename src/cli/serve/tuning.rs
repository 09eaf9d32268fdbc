//! The options that trade one resource for another.

use clap::{Args, ValueEnum};

use haul::server::config::{CacheChoice, SendChoice};

use crate::cli::values::positive_size;

/// How bytes are sent.
#[derive(Args, Debug)]
#[command(next_help_heading = "Tuning")]
pub(super) struct TuningArgs {
    /// How file bytes get into a socket
    #[arg(
        long,
        env = "HAUL_TRANSMIT",
        value_name = "CHOICE",
        default_value = "auto"
    )]
    transmit: TransmitArg,

    /// Bytes a connection may send before others get their turn
    #[arg(long, env = "HAUL_QUANTUM", value_name = "SIZE", default_value = "2MiB",
        value_parser = positive_size)]
    pub(super) quantum: u64,

    /// Drop a file's pages from the page cache behind its only reader, where the file had to come
    /// from a disk
    #[arg(long, env = "HAUL_CACHE_DROP_BEHIND")]
    cache_drop_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransmitArg {
    /// sendfile(2), and read and write where a file system refuses it
    Auto,
    /// Read and write, always
    Copy,
}

impl TuningArgs {
    pub(super) fn transmit(&self) -> SendChoice {
        match self.transmit {
            TransmitArg::Auto => SendChoice::Auto,
            TransmitArg::Copy => SendChoice::Copy,
        }
    }

    pub(super) fn cache(&self) -> CacheChoice {
        match self.cache_drop_behind {
            true => CacheChoice::DropBehind,
            false => CacheChoice::Keep,
        }
    }
}
